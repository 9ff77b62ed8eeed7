//! The table of rows, through the program.

use relay_testkit::relay_process::RELAY_TOKEN;
use relay_testkit::row::contact;
use relay_testkit::row_table::{load_groups, properties_reply, run_group};

use super::{loops, relay_to};

#[tokio::test]
async fn every_row_of_the_table_is_sent_or_refused_as_it_says() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for group in load_groups(false) {
        run_group(relay.base(), RELAY_TOKEN, &loops, &group).await;
    }
}

#[tokio::test]
async fn where_loops_lists_its_properties_values_become_what_their_properties_are() {
    for group in load_groups(true) {
        let loops = loops().await;
        loops.set_properties_reply(properties_reply(&group));
        let relay = relay_to(&loops, &[]).await;
        run_group(relay.base(), RELAY_TOKEN, &loops, &group).await;
    }
}

#[tokio::test]
async fn what_is_not_utf8_is_refused_where_it_stands() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let answer = contact(relay.base(), b"{\"email\":\"a@x.co\",\"city\":\"Z\xfcrich\"}").await;
    answer.assert_error_response(400, "invalid_json", Some("city"));
    assert!(answer.text().contains("line 1, column 28"), "{}", answer.text());
    assert!(loops.received().is_empty());
}
