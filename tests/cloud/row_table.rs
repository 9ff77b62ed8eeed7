//! The table of rows, through the functions.

use relay_tests::far_end::{FarEnd, Reply};
use relay_tests::process::TOKEN;
use relay_tests::row_table::{properties, run, table};

use crate::between;

async fn loops() -> FarEnd {
    FarEnd::start(Reply::json(200, r#"{"success":true}"#)).await
}

#[tokio::test]
async fn every_row_of_the_table_is_sent_or_refused_as_it_says() {
    let (loops, clay) = (loops().await, loops().await);
    let cloud = between(&loops, &clay).await;
    for group in table(false) {
        run(&cloud.base(), TOKEN, &loops, &group).await;
    }
}

#[tokio::test]
async fn where_loops_lists_its_properties_values_become_what_their_properties_are() {
    for group in table(true) {
        let (loops, clay) = (loops().await, loops().await);
        loops.properties(properties(&group));
        let cloud = between(&loops, &clay).await;
        run(&cloud.base(), TOKEN, &loops, &group).await;
        println!("asked {} times", loops.asked_for_properties().len());
    }
}
