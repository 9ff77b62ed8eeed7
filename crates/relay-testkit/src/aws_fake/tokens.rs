//! Tokenizer of DynamoDB expressions.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

/// An item, as DynamoDB's protocol has it.
pub(crate) type Item = Map<String, Value>;

/// The rest of an expression.
pub(crate) struct Tokens<'a> {
    rest: VecDeque<&'a str>,
    request: &'a Value,
}

impl<'a> Tokens<'a> {
    pub(crate) fn tokenize(expression: &'a str, request: &'a Value) -> Self {
        let is_word = |c: char| c.is_alphanumeric() || "_#:".contains(c);
        let mut rest = VecDeque::new();
        let mut text = expression.trim_start();
        while let Some(first) = text.chars().next() {
            let is_two_chars = ["<>", "<=", ">="].iter().any(|sign| text.starts_with(sign));
            let end = match is_word(first) {
                true => text.find(|c| !is_word(c)).unwrap_or(text.len()),
                false if is_two_chars => 2,
                false => 1,
            };
            let (token, after) = text.split_at(end);
            rest.push_back(token);
            text = after.trim_start();
        }
        Self { rest, request }
    }

    pub(crate) fn peek(&self) -> Option<&'a str> {
        self.rest.front().copied()
    }

    pub(crate) fn next(&mut self) -> &'a str {
        self.rest.pop_front().unwrap_or_else(|| panic!("the expression ends too early"))
    }

    /// Takes this token, if it is the next.
    pub(crate) fn eat(&mut self, token: &str) -> bool {
        let is_next = self.peek() == Some(token);
        if is_next {
            self.rest.pop_front();
        }
        is_next
    }

    pub(crate) fn expect(&mut self, token: &str) {
        let next = self.next();
        assert_eq!(next, token, "in an expression");
    }

    /// The attribute that the next token names.
    pub(crate) fn attribute_name(&mut self) -> &'a str {
        let token = self.next();
        if token.starts_with('#') {
            return self.request["ExpressionAttributeNames"][token]
                .as_str()
                .unwrap_or_else(|| panic!("{token} is no name"));
        }
        token
    }

    /// What the next operand is in an item, if it is anything.
    pub(crate) fn operand(&mut self, item: &Item) -> Option<Value> {
        if self.peek().is_some_and(|token| token.starts_with(':')) {
            let token = self.next();
            let value = self.request["ExpressionAttributeValues"].get(token);
            return Some(value.unwrap_or_else(|| panic!("{token} has no value")).clone());
        }
        if self.eat("size") {
            self.expect("(");
            let size = item.get(self.attribute_name()).map(value_size);
            self.expect(")");
            return size.map(|(_, elements)| json!({"N": elements.to_string()}));
        }
        item.get(self.attribute_name()).cloned()
    }
}

/// Size of an item in bytes, as DynamoDB counts it (Developer Guide, "DynamoDB item sizes and formats").
pub(crate) fn item_size(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_size(value).0).sum()
}

/// The bytes of a value, and what the function `size` returns of it.
fn value_size(value: &Value) -> (usize, usize) {
    let text = |text: &Value| text.as_str().map_or(0, str::len);
    if let Some(members) = value["SS"].as_array() {
        return (members.iter().map(text).sum(), members.len());
    }
    // Base64 has four characters for three bytes.
    let length = text(&value["S"]).max(text(&value["N"])).max(text(&value["B"]) / 4 * 3);
    (length, length)
}

/// A number of the protocol.
pub(crate) fn number_value(value: &Value) -> Option<i64> {
    value["N"].as_str()?.parse().ok()
}
