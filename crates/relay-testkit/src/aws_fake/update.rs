//! Update expressions, as far as the relay uses them.

use serde_json::{Value, json};

use crate::aws_fake::tokens::{Item, Tokens, number_value};

const CLAUSES: [&str; 4] = ["SET", "REMOVE", "ADD", "DELETE"];

/// The item as an expression makes it.
pub(crate) fn apply_update(expression: &str, request: &Value, before: &Item) -> Item {
    let mut tokens = Tokens::tokenize(expression, request);
    let mut item = before.clone();
    while tokens.peek().is_some() {
        let clause = tokens.next();
        assert!(CLAUSES.contains(&clause), "{clause} begins nothing in {expression}");
        loop {
            let name = tokens.attribute_name();
            match clause {
                "SET" => {
                    tokens.expect("=");
                    // Every operand is as it was before.
                    let value = sum(&mut tokens, before);
                    item.insert(name.to_owned(), value.unwrap_or_else(|| panic!("nothing to set {name} to")));
                }
                "REMOVE" => {
                    item.remove(name);
                }
                _ => {
                    let value = tokens.operand(before).unwrap_or_else(|| panic!("nothing to {clause} at {name}"));
                    let current = before.get(name);
                    match if clause == "ADD" { add_value(current, &value) } else { remove_members(current, &value) } {
                        Some(value) => item.insert(name.to_owned(), value),
                        None => item.remove(name),
                    };
                }
            }
            if !tokens.eat(",") {
                break;
            }
        }
    }
    item
}

fn sum(tokens: &mut Tokens<'_>, item: &Item) -> Option<Value> {
    let first = operand(tokens, item);
    if !tokens.eat("+") {
        return first;
    }
    let second = operand(tokens, item)?;
    add_value(first.as_ref(), &second)
}

fn operand(tokens: &mut Tokens<'_>, item: &Item) -> Option<Value> {
    if !tokens.eat("if_not_exists") {
        return tokens.operand(item);
    }
    tokens.expect("(");
    let current = tokens.operand(item);
    tokens.expect(",");
    let fallback = operand(tokens, item);
    tokens.expect(")");
    current.or(fallback)
}

/// A number and another, or a set and what joins it.
fn add_value(current: Option<&Value>, value: &Value) -> Option<Value> {
    if let Some(more) = number_value(value) {
        let sum = current.and_then(number_value).unwrap_or_default() + more;
        return Some(json!({"N": sum.to_string()}));
    }
    let mut set = members(current);
    for member in members(Some(value)) {
        if !set.contains(&member) {
            set.push(member);
        }
    }
    Some(json!({"SS": set}))
}

/// A set without some of it; an empty one is none.
fn remove_members(current: Option<&Value>, value: &Value) -> Option<Value> {
    let removed = members(Some(value));
    let remaining: Vec<String> = members(current).into_iter().filter(|member| !removed.contains(member)).collect();
    (!remaining.is_empty()).then(|| json!({"SS": remaining}))
}

fn members(set: Option<&Value>) -> Vec<String> {
    let members = set.and_then(|set| set["SS"].as_array()).into_iter().flatten();
    members.filter_map(|member| member.as_str().map(str::to_owned)).collect()
}
