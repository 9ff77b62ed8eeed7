//! Update expressions, as far as the relay uses them.

use serde_json::{Value, json};

use crate::aws_fake::tokens::{Item, Tokens, number};

const CLAUSES: [&str; 4] = ["SET", "REMOVE", "ADD", "DELETE"];

/// The item as an expression makes it.
pub(crate) fn updated(expression: &str, request: &Value, before: &Item) -> Item {
    let mut tokens = Tokens::of(expression, request);
    let mut item = before.clone();
    while tokens.peek().is_some() {
        let clause = tokens.next();
        assert!(CLAUSES.contains(&clause), "{clause} begins nothing in {expression}");
        loop {
            let name = tokens.name();
            match clause {
                "SET" => {
                    tokens.must("=");
                    // Every operand is as it was before.
                    let value = sum(&mut tokens, before);
                    item.insert(name.to_owned(), value.unwrap_or_else(|| panic!("nothing to set {name} to")));
                }
                "REMOVE" => {
                    item.remove(name);
                }
                _ => {
                    let value = tokens.value(before).unwrap_or_else(|| panic!("nothing to {clause} at {name}"));
                    let there = before.get(name);
                    match if clause == "ADD" { added(there, &value) } else { without(there, &value) } {
                        Some(value) => item.insert(name.to_owned(), value),
                        None => item.remove(name),
                    };
                }
            }
            if !tokens.takes(",") {
                break;
            }
        }
    }
    item
}

fn sum(tokens: &mut Tokens<'_>, item: &Item) -> Option<Value> {
    let first = operand(tokens, item);
    if !tokens.takes("+") {
        return first;
    }
    let second = operand(tokens, item)?;
    added(first.as_ref(), &second)
}

fn operand(tokens: &mut Tokens<'_>, item: &Item) -> Option<Value> {
    if !tokens.takes("if_not_exists") {
        return tokens.value(item);
    }
    tokens.must("(");
    let there = tokens.value(item);
    tokens.must(",");
    let otherwise = operand(tokens, item);
    tokens.must(")");
    there.or(otherwise)
}

/// A number and another, or a set and what joins it.
fn added(there: Option<&Value>, value: &Value) -> Option<Value> {
    if let Some(more) = number(value) {
        let sum = there.and_then(number).unwrap_or_default() + more;
        return Some(json!({"N": sum.to_string()}));
    }
    let mut set = members(there);
    for member in members(Some(value)) {
        if !set.contains(&member) {
            set.push(member);
        }
    }
    Some(json!({"SS": set}))
}

/// A set without some of it; an empty one is none.
fn without(there: Option<&Value>, value: &Value) -> Option<Value> {
    let gone = members(Some(value));
    let left: Vec<String> = members(there).into_iter().filter(|member| !gone.contains(member)).collect();
    (!left.is_empty()).then(|| json!({"SS": left}))
}

fn members(set: Option<&Value>) -> Vec<String> {
    let members = set.and_then(|set| set["SS"].as_array()).into_iter().flatten();
    members.filter_map(|member| member.as_str().map(str::to_owned)).collect()
}
