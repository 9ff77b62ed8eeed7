//! The same, with worker threads: how `lambda_http`'s own examples start, and what the budget was set beside.

use lambda_http::{Body, Error, Request, Response, run, service_fn};

// As many as the sandbox of a small function shows processors, whatever the machine has that measures.
#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Error> {
    run(service_fn(|_: Request| async { Ok::<_, Error>(Response::new(Body::Empty)) })).await
}
