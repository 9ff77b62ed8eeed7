//! The table of rows, through the program.

use relay_testkit::relay_process::TOKEN;
use relay_testkit::row::contact;
use relay_testkit::row_table::{properties, run, table};

use super::{loops, relay_to};

#[tokio::test]
async fn every_row_of_the_table_is_sent_or_refused_as_it_says() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    for group in table(false) {
        run(relay.base(), TOKEN, &loops, &group).await;
    }
}

#[tokio::test]
async fn where_loops_lists_its_properties_values_become_what_their_properties_are() {
    for group in table(true) {
        let loops = loops().await;
        loops.properties(properties(&group));
        let relay = relay_to(&loops, &[]).await;
        run(relay.base(), TOKEN, &loops, &group).await;
    }
}

#[tokio::test]
async fn what_is_not_utf8_is_refused_where_it_stands() {
    let loops = loops().await;
    let relay = relay_to(&loops, &[]).await;
    let answer = contact(relay.base(), b"{\"email\":\"a@x.co\",\"city\":\"Z\xfcrich\"}").await;
    answer.assert_refused(400, "invalid_json", Some("city"));
    assert!(answer.text().contains("line 1, column 28"), "{}", answer.text());
    assert!(loops.got().is_empty());
}
