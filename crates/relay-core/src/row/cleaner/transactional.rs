//! The fields that only a transactional e-mail has (Loops API reference, "Send a transactional email").

use serde_json::{Map, Value};

use crate::placeholder::is_placeholder;
use crate::row::field_error::FieldError;
use crate::row::fields;
use crate::row::options::{BlankPolicy, RowOptions};
use crate::row::redacted_value::{RedactedValue, json_type_name};
use crate::row::values::{self, Cleaned};
use crate::text::{find_sheet_error, has_object, is_column_name};

/// The fields of an attachment, which are all texts.
const ATTACHMENT_FIELDS: [&str; 3] = ["filename", "contentType", "data"];

/// `transactionalId`: a text. Never emptied and never cut, because it says which e-mail is sent.
pub(super) fn clean_id(value: Value) -> Result<Cleaned, FieldError> {
    let Some(value) = fields::reject_unresolved_column("transactionalId", value)? else { return Ok(Cleaned::Omit) };
    let Value::String(text) = &value else { return Err(FieldError::NotText(json_type_name(&value))) };
    values::check_len(text).map_err(FieldError::TooLongToTruncate)?;
    let is_id = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if is_id && !is_placeholder(text) {
        return Ok(Cleaned::Send(value));
    }
    Err(FieldError::InvalidTransactionalId(RedactedValue::new("transactionalId", &value)))
}

/// Cleans a data variable. It may be as long as the e-mail needs it. A list in which anything is changed is adjusted.
pub(super) fn clean_variable(
    path: &str,
    name: &str,
    value: &Value,
    options: RowOptions,
) -> Result<Cleaned, FieldError> {
    let cleaned = match value.clone() {
        Value::Array(items) => {
            let items = items.into_iter().filter_map(|item| clean_item(path, item, options).transpose());
            Some(Value::Array(items.collect::<Result<_, _>>()?))
        }
        scalar => clean_scalar(path, scalar, options)?,
    };
    let was_blank = cleaned.as_ref().is_some_and(|cleaned| cleaned.as_str() == Some(""));
    match cleaned {
        None => Ok(Cleaned::Omit),
        Some(_) if name.is_empty() => Err(FieldError::NoName),
        Some(_) if is_column_name(name) || has_object(name) || find_sheet_error(name).is_some() => {
            Err(FieldError::NameNotInserted)
        }
        Some(cleaned) if cleaned != *value && !was_blank => Ok(Cleaned::SendAdjusted(cleaned)),
        Some(cleaned) => Ok(Cleaned::Send(cleaned)),
    }
}

/// Cleans an item of a list: a value, or an object of values.
fn clean_item(path: &str, item: Value, options: RowOptions) -> Result<Option<Value>, FieldError> {
    let Value::Object(fields) = item else { return clean_scalar(path, item, options) };
    let mut cleaned = Map::new();
    for (name, value) in fields {
        if let Some(value) = clean_scalar(path, value, options)? {
            cleaned.insert(name, value);
        }
    }
    Ok(Some(Value::Object(cleaned)))
}

/// Returns what is sent of a value: a text or a number, because Loops takes no other. One that is to be emptied is an empty
/// text, which Loops takes for an optional variable.
fn clean_scalar(path: &str, value: Value, options: RowOptions) -> Result<Option<Value>, FieldError> {
    match values::require_value(path, value)? {
        None => Ok((options.blank == BlankPolicy::Clear).then(|| "".into())),
        Some(Value::Bool(boolean)) => Ok(Some(boolean.to_string().into())),
        Some(value @ (Value::Array(_) | Value::Object(_))) => Err(FieldError::NotAVariable(json_type_name(&value))),
        Some(value) => match values::check_range(path, Cleaned::Send(value))? {
            Cleaned::Send(value) | Cleaned::SendAdjusted(value) => Ok(Some(value)),
            Cleaned::Omit => Ok(None),
        },
    }
}

/// `attachments`: a list of files, which are passed on as they are.
pub(super) fn clean_attachments(value: Value) -> Result<Cleaned, FieldError> {
    let Some(value) = values::require_value("attachments", value)? else { return Ok(Cleaned::Omit) };
    let is_text = |file: &Map<String, Value>, name: &str| file.get(name).is_some_and(Value::is_string);
    let is_file = |item: &Value| {
        item.as_object().is_some_and(|file| {
            file.len() == ATTACHMENT_FIELDS.len() && ATTACHMENT_FIELDS.iter().all(|name| is_text(file, name))
        })
    };
    match value.as_array() {
        Some(files) if files.is_empty() => Ok(Cleaned::Omit),
        Some(files) if files.iter().all(is_file) => Ok(Cleaned::Send(value)),
        _ => Err(FieldError::NotAttachments),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variable(value: &Value) -> Result<Cleaned, FieldError> {
        clean_variable("dataVariables.v", "v", value, RowOptions::default())
    }

    #[test]
    fn data_variable_is_a_text_a_number_or_a_list() {
        let long = "l".repeat(5000);
        for value in [json!("Ada"), json!(7), json!(long), json!([]), json!([{"name": "a", "price": 1}, "b"])] {
            assert_eq!(variable(&value), Ok(Cleaned::Send(value)));
        }
        assert_eq!(variable(&json!(true)), Ok(Cleaned::SendAdjusted(json!("true"))));
        for value in [json!({}), json!([[1]]), json!([{"a": {}}])] {
            assert!(matches!(variable(&value), Err(FieldError::NotAVariable(_))), "{value}");
        }
    }

    #[test]
    fn blank_data_variable_is_left_out_or_an_empty_text() {
        let clear = RowOptions { blank: BlankPolicy::Clear, ..RowOptions::default() };
        for blank in [json!(null), json!(" "), json!("undefined")] {
            assert_eq!(variable(&blank), Ok(Cleaned::Omit));
            assert_eq!(clean_variable("v", "v", &blank, clear), Ok(Cleaned::Send(json!(""))));
        }
        let items = json!([{"a": "", "b": 1}, null]);
        assert_eq!(variable(&items), Ok(Cleaned::SendAdjusted(json!([{"b": 1}]))));
    }

    #[test]
    fn column_that_was_not_inserted_in_a_list_is_refused() {
        let items = json!([{"name": "{{Name}}"}]);
        assert!(matches!(variable(&items), Err(FieldError::ColumnNotInserted(_))));
    }

    #[test]
    fn transactional_id_is_letters_and_digits() {
        assert_eq!(clean_id(json!("cll42l54f20i1la0lfooe3z12")), Ok(Cleaned::Send(json!("cll42l54f20i1la0lfooe3z12"))));
        assert_eq!(clean_id(json!("")), Ok(Cleaned::Omit));
        for id in [json!("N/A"), json!("two words"), json!(7), json!("/Id"), json!("{{Id}}")] {
            assert!(clean_id(id.clone()).is_err(), "{id}");
        }
    }

    #[test]
    fn attachments_are_files_as_they_are() {
        let file = json!({"filename": " a.pdf", "contentType": "application/pdf", "data": "QQ=="});
        assert_eq!(clean_attachments(json!([file])), Ok(Cleaned::Send(json!([file]))));
        assert_eq!(clean_attachments(json!([])), Ok(Cleaned::Omit));
        for value in [json!("file"), json!([1]), json!([{"filename": "a"}]), json!([file, {}])] {
            assert_eq!(clean_attachments(value.clone()), Err(FieldError::NotAttachments), "{value}");
        }
    }
}
