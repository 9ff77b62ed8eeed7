//! The same, with worker threads: how `lambda_http`'s own examples start, and what the budget was set beside.

use lambda_http::{Body, Error, Request, Response, run, service_fn};

// The number of processors in a small function's sandbox, whatever the measuring machine has.
#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Error> {
    run(service_fn(|_: Request| async { Ok::<_, Error>(Response::new(Body::Empty)) })).await
}
