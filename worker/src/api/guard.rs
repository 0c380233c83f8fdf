//! What every request must pass before it is looked at.

use super::refusal::Refusal;
use crate::tls::{Peer, Role};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use std::error::Error;
use std::time::Duration;
use tokio::time::timeout;

/// Larger than any request.
const BODY_LIMIT: usize = 64 * 1024;

/// Lets through what is permitted and comes whole within this time.
pub(super) fn guarded(router: Router, longest: Duration) -> Router {
    router.layer(from_fn(move |request, next| whole(request, next, longest))).layer(from_fn(permitted))
}

/// Only a controller changes anything: what a worker may be made to do by its input must not reach further than its own
/// tasks.
async fn permitted(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let role = request.extensions().get::<Peer>().map(|peer| peer.role);
    if reads || role == Some(Role::Controller) {
        return next.run(request).await;
    }
    let error = format!("a worker may not {} {}", request.method(), request.uri().path());
    let hint = format!("show a certificate for {}", Role::Controller.name());
    Refusal::new(StatusCode::FORBIDDEN, error, hint).into_response()
}

/// Takes the body before anything is done about the request.
async fn whole(request: Request, next: Next, longest: Duration) -> Response {
    let (head, body) = request.into_parts();
    let refusal = match timeout(longest, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(body)) => return next.run(Request::from_parts(head, Body::from(body))).await,
        Ok(Err(error)) if error.source().is_some_and(<dyn Error>::is::<LengthLimitError>) => {
            let error = format!("the request's body has more than {BODY_LIMIT} bytes");
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error, "no request needs that many")
        }
        Ok(Err(error)) => Refusal::malformed(format!("the request's body broke off: {error}"), "send all of it"),
        Err(_) => {
            let error = format!("the request's body did not come within {longest:?}");
            Refusal::new(StatusCode::REQUEST_TIMEOUT, error, "send it at once")
        }
    };
    refusal.into_response()
}
