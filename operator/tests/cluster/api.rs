//! An API server in memory, behind the service that a client calls, with a script of what goes wrong.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::BoxError;

use crate::store::{Change, Kind, Place, Refusal, Store, matches};

/// What happens to one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is carried out.
    None,
    /// The controller dies before it: it is not carried out, and nothing after it.
    DiesBefore,
    /// The controller dies after it: it is carried out, and nothing after it.
    DiesAfter,
    /// It is refused.
    Answers(u16),
    /// It is carried out, and no answer comes.
    TimesOutAfter,
}

/// A change by somebody else than the controller.
pub(crate) type Edit = Box<dyn FnOnce(&mut Store) + Send>;

/// Counts writes, of every kind, and says what happens to each.
#[derive(Default)]
pub(crate) struct Script {
    /// The write that something happens to, from 0 on.
    pub(crate) at: Option<(usize, Fault)>,
    /// What a user changes at the moment of a write.
    pub(crate) edit: Option<(usize, Edit)>,
    /// Writes so far.
    pub(crate) seen: Vec<String>,
    /// The controller is dead.
    pub(crate) dead: bool,
}

impl Script {
    /// What happens to the next write.
    fn next(&mut self, what: String) -> (Fault, Option<Edit>) {
        let fault = match self.at {
            _ if self.dead => Fault::DiesBefore,
            Some((at, fault)) if at == self.seen.len() => fault,
            _ => Fault::None,
        };
        let edit = self.edit.take_if(|(at, _)| *at == self.seen.len());
        self.seen.push(what);
        self.dead |= matches!(fault, Fault::DiesBefore | Fault::DiesAfter);
        (fault, edit.map(|(_, edit)| edit))
    }
}

/// The server.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) script: Arc<Mutex<Script>>,
    pub(crate) version: Arc<watch::Sender<u64>>,
}

impl Default for Server {
    fn default() -> Self {
        Self { store: Arc::default(), script: Arc::default(), version: Arc::new(watch::channel(0).0) }
    }
}

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A request that was taken apart.
struct Call {
    method: Method,
    kind: Kind,
    namespace: Option<String>,
    name: Option<String>,
    status: bool,
    query: Vec<(String, String)>,
    content_type: String,
    body: Value,
}

impl Server {
    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.serve(request).await }
        });
        Client::new(service, "default")
    }

    /// Changes objects as others than the controller do.
    pub(crate) fn edit<T>(&self, edit: impl FnOnce(&mut Store) -> T) -> T {
        let (edited, version) = {
            let mut store = self.store.lock();
            let edited = edit(&mut store);
            (edited, store.version)
        };
        self.version.send_replace(version);
        edited
    }

    /// What happens to the next write; what a user changes at its moment is changed by then.
    pub(crate) fn next(&self, what: String) -> Fault {
        let (fault, edit) = self.script.lock().next(what);
        if let Some(edit) = edit {
            self.edit(edit);
        }
        fault
    }

    async fn serve(&self, request: Request<Body>) -> Result<Reply, BoxError> {
        let call = Call::read(request).await?;
        if self.script.lock().dead {
            return Err("the controller is dead".into());
        }
        if call.method == Method::GET {
            return Ok(self.read(&call));
        }
        let what = format!("{} {} {}", call.method, call.kind.1, call.name.as_deref().unwrap_or("-"));
        // Events are told at most; nothing depends on them.
        let fault = if call.kind.1 == "events" { Fault::None } else { self.next(what) };
        match fault {
            Fault::DiesBefore => return Err("the controller has died".into()),
            Fault::Answers(code) => {
                let refusal = Refusal { code, reason: "Scripted", message: "it is in the script".to_owned() };
                return Ok(refused(&refusal));
            }
            _ => {}
        }
        let answer = self.edit(|store| write(store, &call));
        match fault {
            Fault::DiesAfter | Fault::TimesOutAfter => Err("no answer comes".into()),
            _ => Ok(answer.map_or_else(|refusal| refused(&refusal), |object| reply(200, &object))),
        }
    }

    fn read(&self, call: &Call) -> Reply {
        let store = self.store.lock();
        let selector = call.query("labelSelector");
        if call.query("watch") == "true" {
            let from = call.query("resourceVersion").parse().unwrap_or(0);
            drop(store);
            return self.watch(call.kind.clone(), call.namespace.clone(), selector, from);
        }
        match &call.name {
            Some(name) => {
                let place = (call.kind.clone(), call.namespace.clone().unwrap_or_default(), name.clone());
                store.get(&place).map_or_else(|refusal| refused(&refusal), |object| reply(200, &object))
            }
            None => {
                let items = store.list(&call.kind, call.namespace.as_deref(), &selector);
                reply(
                    200,
                    &json!({"apiVersion": "v1", "kind": "List", "items": items,
                    "metadata": {"resourceVersion": store.version.to_string()}}),
                )
            }
        }
    }

    fn watch(&self, kind: Kind, namespace: Option<String>, selector: String, from: u64) -> Reply {
        let (store, versions) = (Arc::clone(&self.store), self.version.subscribe());
        let lines = futures::stream::unfold((from, versions), move |(from, mut versions)| {
            let (store, kind, namespace, selector) =
                (Arc::clone(&store), kind.clone(), namespace.clone(), selector.clone());
            async move {
                loop {
                    versions.borrow_and_update();
                    let (lines, to) = {
                        let store = store.lock();
                        let start = store.log.partition_point(|change| change.version <= from);
                        let of = store.log[start..].iter().filter(|change| {
                            change.kind == kind && namespace.as_ref().is_none_or(|within| *within == change.namespace)
                        });
                        (of.filter_map(|change| line(change, &selector)).collect::<String>(), store.version)
                    };
                    if !lines.is_empty() {
                        return Some((Ok(Frame::data(Bytes::from(lines))), (to, versions)));
                    }
                    versions.changed().await.ok()?;
                }
            }
        });
        Response::new(StreamBody::new(lines.boxed()).boxed_unsync())
    }
}

/// An event of a watch, as a line.
fn line(change: &Change, selector: &str) -> Option<String> {
    let seen = |object: &Option<Value>| object.clone().filter(|object| matches(object, selector));
    let (kind, object) = match (seen(&change.before), seen(&change.after)) {
        (None, Some(after)) => ("ADDED", after),
        (Some(_), Some(after)) => ("MODIFIED", after),
        (Some(mut before), None) => {
            before["metadata"]["resourceVersion"] = json!(change.version.to_string());
            ("DELETED", before)
        }
        (None, None) => return None,
    };
    Some(format!("{}\n", json!({"type": kind, "object": object})))
}

fn write(store: &mut Store, call: &Call) -> Result<Value, Refusal> {
    let namespace = call.namespace.clone().unwrap_or_default();
    let place = |name: &str| -> Place { (call.kind.clone(), namespace.clone(), name.to_owned()) };
    let name = call.name.as_deref().unwrap_or_default();
    match call.method {
        Method::POST => store.create(&call.kind, &namespace, call.body.clone()),
        Method::PUT => store.replace(&place(name), call.body.clone()),
        Method::PATCH if call.content_type.contains("apply") => store.apply(&place(name), call.body.clone()),
        Method::PATCH => store.merge(&place(name), &call.body, call.status),
        Method::DELETE => store.delete(&place(name), call.body["preconditions"]["uid"].as_str()),
        _ => panic!("nobody sends {}", call.method),
    }
}

impl Call {
    async fn read(request: Request<Body>) -> Result<Self, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let mut parts: Vec<String> = head.uri.path().trim_matches('/').split('/').map(str::to_owned).collect();
        let group = if parts.remove(0) == "api" { String::new() } else { parts.remove(0) };
        parts.remove(0);
        let namespace = (parts.len() > 2 && parts[0] == "namespaces").then(|| {
            parts.remove(0);
            parts.remove(0)
        });
        let mut parts = parts.into_iter();
        let kind = (group, parts.next().expect("a path names a kind"));
        let name = parts.next();
        let query = head.uri.query().unwrap_or_default();
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        let content_type = head.headers.get("content-type").and_then(|text| text.to_str().ok()).unwrap_or_default();
        Ok(Self {
            method: head.method,
            kind,
            namespace,
            name,
            status: parts.next().as_deref() == Some("status"),
            query: query.map(|(name, value)| (name.to_owned(), unescaped(value))).collect(),
            content_type: content_type.to_owned(),
            body: if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? },
        })
    }

    fn query(&self, name: &str) -> String {
        self.query.iter().find(|(of, _)| of == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }
}

fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().replace('+', " ");
    for part in parts {
        let byte = u8::from_str_radix(&part[..2], 16).expect("an escaped byte");
        out.push(char::from(byte));
        out.push_str(&part[2..]);
    }
    out
}

fn reply(status: u16, body: &Value) -> Reply {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(status).header("content-type", "application/json").body(body).expect("a response")
}

fn refused(refusal: &Refusal) -> Reply {
    reply(
        refusal.code,
        &json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "metadata": {},
        "code": refusal.code, "reason": refusal.reason, "message": refusal.message}),
    )
}
