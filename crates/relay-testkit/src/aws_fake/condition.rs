//! Condition expressions, as far as the relay uses them.

use std::cmp::Ordering;

use serde_json::Value;

use crate::aws_fake::tokens::{Item, Tokens, number_value};

/// Returns whether an item fulfils a condition expression.
pub(crate) fn holds(expression: &str, request: &Value, item: &Item) -> bool {
    let mut tokens = Tokens::tokenize(expression, request);
    let holds = parse_or(&mut tokens, item);
    assert_eq!(tokens.peek(), None, "left over of {expression}");
    holds
}

fn parse_or(tokens: &mut Tokens<'_>, item: &Item) -> bool {
    let mut holds = parse_and(tokens, item);
    while tokens.eat("OR") {
        // Both sides are read.
        holds |= parse_and(tokens, item);
    }
    holds
}

fn parse_and(tokens: &mut Tokens<'_>, item: &Item) -> bool {
    let mut holds = parse_comparison(tokens, item);
    while tokens.eat("AND") {
        holds &= parse_comparison(tokens, item);
    }
    holds
}

fn parse_comparison(tokens: &mut Tokens<'_>, item: &Item) -> bool {
    if tokens.eat("(") {
        let holds = parse_or(tokens, item);
        tokens.expect(")");
        return holds;
    }
    for (function, must_exist) in [("attribute_not_exists", false), ("attribute_exists", true)] {
        if tokens.eat(function) {
            tokens.expect("(");
            let name = tokens.attribute_name();
            tokens.expect(")");
            return item.contains_key(name) == must_exist;
        }
    }
    let left = tokens.operand(item);
    let operator = tokens.next();
    let right = tokens.operand(item);
    if operator == "BETWEEN" {
        tokens.expect("AND");
        let upper = tokens.operand(item);
        let at_least = compare(left.as_ref(), right.as_ref()).is_some_and(Ordering::is_ge);
        return at_least && compare(left.as_ref(), upper.as_ref()).is_some_and(Ordering::is_le);
    }
    let order = compare(left.as_ref(), right.as_ref());
    match operator {
        "=" => left.is_some() && left == right,
        // A missing attribute differs from every value.
        "<>" => left != right,
        "<" => order.is_some_and(Ordering::is_lt),
        "<=" => order.is_some_and(Ordering::is_le),
        ">" => order.is_some_and(Ordering::is_gt),
        ">=" => order.is_some_and(Ordering::is_ge),
        _ => panic!("{operator} compares nothing"),
    }
}

/// Two values of the same type, in their order.
fn compare(left: Option<&Value>, right: Option<&Value>) -> Option<Ordering> {
    let (left, right) = (left?, right?);
    match (number_value(left), number_value(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        (None, None) => Some(left["S"].as_str()?.cmp(right["S"].as_str()?)),
        _ => None,
    }
}
