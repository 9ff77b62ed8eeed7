//! The files under `events/`, sent to the destination that each is an example for.

use std::path::PathBuf;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use standardwebhooks::Webhook;

use super::{call, start_clay, start_loops};
use crate::ClayOptions;

fn files(dir: &str) -> Vec<(String, Vec<u8>)> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../events").join(dir);
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.expect("an entry");
        (entry.file_name().into_string().expect("a plain name"), std::fs::read(entry.path()).expect("a file"))
    };
    let mut files: Vec<_> = std::fs::read_dir(&path).expect("the directory").map(read).collect();
    files.sort();
    files
}

#[tokio::test]
async fn clay_accepts_every_example_loops_event() {
    let clay = start_clay(ClayOptions { burst: 100, ..ClayOptions::default() }).await;
    let events = files("loops");
    for (name, body) in &events {
        let headers = [("content-type", "application/json")];
        let response = call(clay.address(), "POST /v3/sources/webhook/events", &headers, body).await;
        assert_eq!(response.status, 200, "{name}");
    }
    let received: Vec<_> = clay.rows().into_iter().map(|row| row.body.to_vec()).collect();
    assert_eq!(received, events.into_iter().map(|(_, body)| body).collect::<Vec<_>>());
}

#[tokio::test]
async fn loops_accepts_example_rows_and_rejects_the_untidy_one() {
    let loops = start_loops().await;
    for (name, body) in files("clay") {
        let headers = [("authorization", "Bearer simulated")];
        let request_line = match name.split(['-', '.']).next() {
            Some("event") => "POST /api/v1/events/send",
            Some("email") => "POST /api/v1/transactional",
            Some("deletion") => "POST /api/v1/contacts/delete",
            _ => "PUT /api/v1/contacts/update",
        };
        let response = call(loops.address(), request_line, &headers, body).await;
        assert_eq!(response.status, if name.contains("untidy") { 400 } else { 200 }, "{name}");
    }
    assert_eq!((loops.contacts().len(), loops.events().len(), loops.emails().len()), (1, 2, 1));
}

#[test]
fn api_gateway_example_webhooks_have_valid_signatures() {
    let signer = Webhook::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").expect("a secret");
    for name in ["loops-webhook.json", "loops-webhook-base64.json"] {
        let (_, event) = files("api-gateway").into_iter().find(|(file, _)| file == name).expect("the file");
        let event: Value = serde_json::from_slice(&event).expect("JSON");
        let body = event["body"].as_str().expect("a body");
        let body = match event["isBase64Encoded"] {
            Value::Bool(true) => BASE64_STANDARD.decode(body).expect("base64"),
            _ => body.as_bytes().to_vec(),
        };
        let header = |name: &str| event["headers"][name].as_str().expect("a header");
        let timestamp = header("webhook-timestamp").parse().expect("a number");
        let signature = signer.sign(header("webhook-id"), timestamp, &body).expect("a signature");
        assert_eq!(header("webhook-signature"), signature, "{name}");
    }
}
