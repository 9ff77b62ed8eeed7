//! The table of rows, through the program.

use relay_testkit::relay_process::RELAY_TOKEN;
use relay_testkit::row::contact;
use relay_testkit::row_table::{load_groups, properties_reply, run_group};

use super::{start_loops, start_relay};

#[tokio::test]
async fn each_table_row_is_sent_or_rejected_as_specified() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    for group in load_groups(false) {
        run_group(relay.base(), RELAY_TOKEN, &loops, &group).await;
    }
}

#[tokio::test]
async fn values_are_converted_to_the_listed_property_types() {
    for group in load_groups(true) {
        let loops = start_loops().await;
        loops.set_properties_reply(properties_reply(&group));
        let relay = start_relay(&loops, &[]).await;
        run_group(relay.base(), RELAY_TOKEN, &loops, &group).await;
    }
}

#[tokio::test]
async fn invalid_utf8_is_rejected_with_its_position() {
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[]).await;
    let response = contact(relay.base(), b"{\"email\":\"a@x.co\",\"city\":\"Z\xfcrich\"}").await;
    response.assert_error_response(400, "invalid_json", Some("city"));
    assert!(response.text().contains("line 1, column 28"), "{}", response.text());
    assert!(loops.received().is_empty());
}
