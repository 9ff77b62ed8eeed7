//! Starts each function once, invokes it with one event, and checks the response.
//!
//! usage: invoke-once FOLDER PROGRAM TEMPLATE
//!
//! FOLDER holds a folder for each function with its PROGRAM (`bootstrap`, or what starts it), TEMPLATE is the
//! translated template. The functions' output goes to FOLDER/log. `make test-arm64` runs it, with an emulated
//! processor.

use std::path::Path;
use std::process::ExitCode;

use relay_testkit::function_harness::{FunctionHarness, HTTP_FUNCTIONS, QUEUE_FUNCTIONS};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, program, template] = arguments.as_slice() else {
        eprintln!("usage: invoke-once FOLDER PROGRAM TEMPLATE");
        return ExitCode::from(2);
    };
    let folder = Path::new(folder);
    let harness = FunctionHarness::from_template(Path::new(template)).await;
    for function in HTTP_FUNCTIONS.into_iter().chain(QUEUE_FUNCTIONS) {
        let (program, environment) = (folder.join(function).join(program), harness.environment(function));
        let mut sandbox = harness.start_function(function, &program, &environment, &folder.join("log")).await;
        harness.invoke(function, &mut sandbox).await;
        println!("{function}: started, and did what it is for");
    }
    ExitCode::SUCCESS
}
