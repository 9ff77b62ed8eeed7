//! Condition expressions, as far as the relay uses them.

use std::cmp::Ordering;

use serde_json::Value;

use crate::aws_fake::tokens::{Item, Tokens, number};

/// Whether an item is as an expression says.
pub(crate) fn holds(expression: &str, request: &Value, item: &Item) -> bool {
    let mut tokens = Tokens::of(expression, request);
    let holds = any(&mut tokens, item);
    assert_eq!(tokens.peek(), None, "left over of {expression}");
    holds
}

fn any(tokens: &mut Tokens<'_>, item: &Item) -> bool {
    let mut holds = all(tokens, item);
    while tokens.takes("OR") {
        // Both sides are read.
        holds |= all(tokens, item);
    }
    holds
}

fn all(tokens: &mut Tokens<'_>, item: &Item) -> bool {
    let mut holds = one(tokens, item);
    while tokens.takes("AND") {
        holds &= one(tokens, item);
    }
    holds
}

fn one(tokens: &mut Tokens<'_>, item: &Item) -> bool {
    if tokens.takes("(") {
        let holds = any(tokens, item);
        tokens.must(")");
        return holds;
    }
    for (word, there) in [("attribute_not_exists", false), ("attribute_exists", true)] {
        if tokens.takes(word) {
            tokens.must("(");
            let name = tokens.name();
            tokens.must(")");
            return item.contains_key(name) == there;
        }
    }
    let left = tokens.value(item);
    let sign = tokens.next();
    let right = tokens.value(item);
    if sign == "BETWEEN" {
        tokens.must("AND");
        let most = tokens.value(item);
        let from = compared(left.as_ref(), right.as_ref()).is_some_and(Ordering::is_ge);
        return from && compared(left.as_ref(), most.as_ref()).is_some_and(Ordering::is_le);
    }
    let order = compared(left.as_ref(), right.as_ref());
    match sign {
        "=" => left.is_some() && left == right,
        // What is not there differs from everything.
        "<>" => left != right,
        "<" => order.is_some_and(Ordering::is_lt),
        "<=" => order.is_some_and(Ordering::is_le),
        ">" => order.is_some_and(Ordering::is_gt),
        ">=" => order.is_some_and(Ordering::is_ge),
        _ => panic!("{sign} compares nothing"),
    }
}

/// Two values of the same type, in their order.
fn compared(left: Option<&Value>, right: Option<&Value>) -> Option<Ordering> {
    let (left, right) = (left?, right?);
    match (number(left), number(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        (None, None) => Some(left["S"].as_str()?.cmp(right["S"].as_str()?)),
        _ => None,
    }
}
