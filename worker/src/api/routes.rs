//! What is where.

use super::health::Vitals;
use super::refusal::Refusal;
use super::{Site, assignment, checkpoints, health, job, metrics, plan, savepoints};
use crate::diagnostic::nearest;
use crate::job::board::LastFailure;
use axum::extract::{MatchedPath, State};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;
use weir_protocol::leader;

/// A path and the methods it takes.
type Route = (&'static str, &'static str);

/// The job's.
pub(super) const OF_JOB: &[Route] = &[
    ("/v1/job", "GET"),
    ("/v1/job/plan", "GET"),
    ("/v1/checkpoints", "GET"),
    ("/v1/checkpoints/{number}", "GET"),
    ("/v1/savepoints", "GET and POST"),
    ("/v1/savepoints/{name}", "GET and DELETE"),
    ("/", "GET"),
];

/// Those of a job of several workers besides.
pub(super) const OF_LEADER: &[Route] = &[("/v1/assignment", "GET and PUT")];

/// The process's.
pub(super) const OF_PROCESS: &[Route] = &[("/healthz", "GET"), ("/readyz", "GET"), ("/metrics", "GET")];

/// Everything about the job.
pub(super) fn of_job(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/v1/job", get(job::show))
        .route("/v1/job/plan", get(plan::show))
        .route("/v1/checkpoints", get(checkpoints::list))
        .route("/v1/checkpoints/{number}", get(checkpoints::show))
        .route("/v1/savepoints", post(savepoints::create).get(savepoints::list))
        .route("/v1/savepoints/{name}", get(savepoints::show).delete(savepoints::delete))
        .with_state(site)
}

/// What the job shall be: a job in one process is what its command line says.
pub(super) fn of_leader(site: Arc<Site>) -> Router {
    Router::new().route("/v1/assignment", get(assignment::show).put(assignment::put)).with_state(site)
}

/// Health and metrics of the process.
pub(super) fn of_process(vitals: Vitals) -> Router {
    let vitals = Arc::new(vitals);
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(|State(vitals): State<Arc<Vitals>>| async move { metrics::answer(&vitals.numbers) }))
        .with_state(vitals)
}

/// A job that did not even begin.
pub(super) fn of_failure(name: &str, failure: &LastFailure) -> Router {
    let job = json!({
        "name": name,
        "state": health::name(leader::State::Ended),
        "generation": null,
        "restarts": 0,
        "lastFailure": job::last_failure(failure),
        "ending": "failed",
        "registered": 0,
        "tasks": [],
    });
    let error = format!("the job cannot run: {}", failure.message);
    Router::new().route("/v1/job", get(async move || Json(job))).fallback(async move || {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error, "GET /v1/job tells more; the job must be changed")
    })
}

/// With answers to what is not there.
pub(super) fn closed(router: Router, routes: Vec<Route>) -> Router {
    let paths: Vec<&str> = routes.iter().map(|(path, _)| *path).collect();
    router.fallback(async move |uri: Uri| unknown_path(&uri, &paths)).method_not_allowed_fallback(
        async move |path: MatchedPath, method: Method, uri: Uri| {
            let known = routes.iter().find(|(known, _)| *known == path.as_str()).map_or("GET", |(_, methods)| *methods);
            let error = format!("{} does not take {method}", uri.path());
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error, format!("it takes {known}"))
        },
    )
}

async fn index(State(site): State<Arc<Site>>) -> Json<Value> {
    Json(json!({
        "job": site.view.name,
        "version": env!("CARGO_PKG_VERSION"),
        "paths": site.paths,
    }))
}

fn unknown_path(uri: &Uri, paths: &[&str]) -> Refusal {
    let hint = match nearest(uri.path(), paths.iter().copied()) {
        Some(path) => format!("did you mean {path}?"),
        None => format!("the paths are {}", paths.join(", ")),
    };
    Refusal::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()), hint)
}
