//! All routes below `/api/v1`: each request goes to the handler of its route.

use bytes::Bytes;
use http::{Request, Response};
use relay_core::error::ErrorCode;

use crate::destination::loops::LoopsClient;
use crate::ingress::clay_row::ClayRowHandler;
use crate::ingress::delivery_status::DeliveryStatusHandler;
use crate::ingress::loops_read::LoopsReadHandler;
use crate::ingress::request_body::RequestBody;
use crate::ingress::response::{self, Caller};
use crate::ports::delivery_status::DeliveryStatusSource;
use crate::ports::rate_limiter::RateLimiter;
use crate::ports::row_intake::RowIntake;
use crate::ports::secrets::{ClayToLoopsSecret, SecretSource};
use crate::routes::{ApiRoute, NoRoute};

/// The handlers of the API.
#[derive(Debug, Clone)]
pub struct ApiHandler<S, L, D, P, R> {
    /// The calls that write.
    pub rows: ClayRowHandler<S, L, D, P>,
    /// The calls that are passed on.
    pub reads: LoopsReadHandler<S, L, P>,
    /// The status of a delivery.
    pub status: DeliveryStatusHandler<S, R>,
}

impl<S, L, D, P, R> ApiHandler<S, L, D, P, R>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsClient,
    D: RowIntake,
    P: RateLimiter,
    R: DeliveryStatusSource,
{
    /// Answers one request.
    pub async fn handle(&self, request: Request<impl RequestBody>) -> Response<Bytes> {
        match ApiRoute::find(request.method(), request.uri().path()) {
            Ok(ApiRoute::Row(kind)) => self.rows.handle(kind, request).await,
            // What a GET has in its body is not read.
            Ok(ApiRoute::Read(call)) => self.reads.handle(call, &request.into_parts().0).await,
            Ok(ApiRoute::DeliveryStatus(id)) => self.status.handle(&id, &request.into_parts().0.headers).await,
            Err(NoRoute::MethodNotAllowed(allowed)) => {
                self.refuse(ErrorCode::MethodNotAllowed, response::method_not_allowed(Caller::Clay, allowed))
            }
            Err(NoRoute::NotFound) => self.refuse(ErrorCode::NotFound, response::not_found()),
        }
    }

    fn refuse(&self, code: ErrorCode, response: Response<Bytes>) -> Response<Bytes> {
        response::unhandled_error(Caller::Clay, code, response, &self.rows.clock.new_id())
    }
}
