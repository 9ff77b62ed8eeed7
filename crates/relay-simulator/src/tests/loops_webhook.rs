//! The webhook about a new contact, beside the example of Loops' documentation.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::start_loops;
use crate::contact_created_body;

#[tokio::test]
async fn webhook_of_a_contact_has_the_form_of_the_example() {
    let example: Value = serde_json::from_str(include_str!("../../../../events/loops/contact.created.json")).unwrap();
    let lists = example["contact"]["mailingLists"].clone();
    let fields =
        json!({"email": "test+5@example.com", "mailingLists": lists, "favoriteColor": "blue", "favoriteNumber": 42});
    let contact = start_loops().await.create_contact(fields.to_string().as_bytes()).unwrap();
    let body: Value =
        serde_json::from_str(&contact_created_body(&contact, Timestamp::from_second(1_734_425_918).unwrap())).unwrap();
    // Loops makes the id, and no contact here is of a form with double opt-in.
    let mut expected = example.clone();
    expected["contactIdentity"]["id"] = contact["id"].clone();
    expected["contact"]["id"] = contact["id"].clone();
    expected["contact"]["optInStatus"] = Value::Null;
    assert_eq!(body, expected);
}
