//! A job as its pods run it: a scripted kubelet, and leaders that speak `docs/http.md`.
//!
//! What the store of the job would hold (assignments, savepoints, which revision is in force) outlives pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Value, json};
use weir_operator::leader_client::{Answer, Error, Peer, Request, Transport};

use crate::api::{Fault, Server};
use crate::store::{Place, Store};

/// The job, and what goes wrong with it.
#[derive(Clone, Default)]
pub(crate) struct Job {
    /// By revision.
    pub(crate) assignments: BTreeMap<u64, Value>,
    /// Revision and uid of the pod that leads it.
    pub(crate) in_force: Option<(u64, String)>,
    /// Revisions in the order in which they came into force.
    pub(crate) history: Vec<u64>,
    /// Completed so far.
    pub(crate) checkpoints: u64,
    /// By the pod that leads.
    completed: BTreeMap<String, u64>,
    /// Name to uid of the request, and the checkpoint that holds it.
    pub(crate) savepoints: BTreeMap<String, (String, u64)>,
    /// Taken so far, given up ones too.
    pub(crate) savepoints_taken: u64,
    /// The revision that was told to stop.
    stopped: Option<u64>,
    /// The job's input has ended.
    pub(crate) finished: bool,
    /// Images whose containers end at once.
    pub(crate) crashing: Vec<String>,
    /// Images whose containers end again and again once one of them leads.
    pub(crate) fatal: Vec<String>,
    /// Images that cannot be pulled.
    pub(crate) missing: Vec<String>,
    /// Images with which no checkpoint is ever complete.
    pub(crate) barren: Vec<String>,
    /// What pods did that worked on the state, by their uid.
    pub(crate) worked: BTreeMap<String, String>,
    /// Images whose leaders cannot begin, and the kind of failure.
    pub(crate) unable: Vec<(String, &'static str)>,
    /// Images whose check finds that the state does not fit.
    pub(crate) misfits: Vec<String>,
    /// The savepoint with which a job stops for revisions up to this one fails, with these words.
    pub(crate) cannot_stop: Option<(u64, String)>,
    /// The change for which it failed, and why, until it is asked for again.
    failed: Option<(u64, String)>,
    /// Stops that failed.
    pub(crate) failures: u64,
    /// Who led, by revision and attempt of its pod.
    claims: BTreeMap<(u64, u64), String>,
    addresses: u64,
}

/// When checkpoint 0 would have been complete, in seconds since 1970; each takes a second.
pub(crate) const FIRST_CHECKPOINT_S: u64 = 1_767_225_600;

const PODS: &str = "pods";

fn env(pod: &Value, name: &str) -> Option<String> {
    let env = pod["spec"]["containers"][0]["env"].as_array()?;
    env.iter().find(|variable| variable["name"] == name)?["value"].as_str().map(str::to_owned)
}

fn image(pod: &Value) -> String {
    pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned()
}

fn runs(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
        && pod["metadata"]["deletionTimestamp"].is_null()
        && !pod["status"]["containerStatuses"][0]["state"]["running"].is_null()
}

fn label<'a>(pod: &'a Value, name: &str) -> &'a str {
    pod["metadata"]["labels"][name].as_str().unwrap_or_default()
}

/// Whether everything is there that the volumes of a pod are made of.
fn is_mountable(store: &Store, pod: &Value) -> bool {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    let is_there = |plural: &str, source: &Value, field: &str| match source[field].as_str() {
        Some(name) if source["optional"] != true => {
            store.objects.contains_key(&((String::new(), plural.to_owned()), namespace.to_owned(), name.to_owned()))
        }
        _ => true,
    };
    let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.all(|volume| {
        is_there("secrets", &volume["secret"], "secretName") && is_there("configmaps", &volume["configMap"], "name")
    })
}

fn leads(pod: &Value) -> bool {
    label(pod, "weir.dev/role") == "worker" && label(pod, "weir.dev/ordinal") == "0"
}

fn attempt(pod: &Value) -> u64 {
    label(pod, "weir.dev/attempt").parse().unwrap_or_default()
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

impl Job {
    /// Some time passes in the cluster: pods start and end, the job goes on.
    pub(crate) fn tick(&mut self, store: &mut Store) {
        let kind = (String::new(), PODS.to_owned());
        for pod in store.list(&kind, None, "") {
            self.kubelet(store, &pod);
        }
        let pods: Vec<Value> = store.list(&kind, None, "").into_iter().filter(runs).collect();
        let alive = |of: &String| pods.iter().any(|pod| uid(pod) == *of);
        if self.in_force.as_ref().is_some_and(|(_, pod)| !alive(pod)) {
            let revision = self.in_force.as_ref().map_or(0, |(revision, _)| *revision);
            self.in_force = None;
            self.lead(revision, &pods);
            if self.in_force.is_none() {
                // It is in force in the store; nobody leads it now.
                self.in_force = Some((revision, String::new()));
            }
        }
        if let Some((target, _)) = self.assignments.last_key_value().map(|(of, it)| (*of, it.clone()))
            && self.in_force.as_ref().is_none_or(|(revision, _)| *revision < target)
            && self.stopped.is_none_or(|stopped| stopped < target)
        {
            let running = self.in_force.as_ref().is_some_and(|(_, pod)| alive(pod));
            match self.cannot_stop.clone().filter(|(newest, _)| running && target <= *newest) {
                None => self.lead(target, &pods),
                Some((_, why)) => {
                    if self.failed.is_none() && self.leader(target, &pods).is_some() {
                        self.failed = Some((target, why));
                        self.failures += 1;
                    }
                }
            }
        }
        let is_barren = |of: &String| pods.iter().any(|pod| uid(pod) == *of && self.barren.contains(&image(pod)));
        if let Some((revision, pod)) = self.in_force.clone()
            && alive(&pod)
            && !is_barren(&pod)
            && self.stopped.is_none_or(|stopped| stopped < revision)
            && !self.finished
        {
            self.checkpoints += 1;
            *self.completed.entry(pod).or_default() += 1;
        }
    }

    /// Who leads a revision, once all of its workers are there.
    fn leader<'p>(&self, revision: u64, pods: &'p [Value]) -> Option<&'p Value> {
        let assignment = self.assignments.get(&revision)?;
        let code = assignment["code"].as_str().map(str::to_owned);
        let of_code: Vec<&Value> = pods
            .iter()
            .filter(|pod| label(pod, "weir.dev/role") == "worker" && env(pod, "WEIR_CODE") == code)
            .filter(|pod| self.unable.iter().all(|(unable, _)| *unable != image(pod)))
            .collect();
        let places: std::collections::BTreeSet<&str> =
            of_code.iter().map(|pod| label(pod, "weir.dev/ordinal")).collect();
        let complete = places.len() as u64 >= assignment["workers"].as_u64().unwrap_or(1);
        of_code.into_iter().filter(|pod| leads(pod) && complete).max_by_key(|pod| attempt(pod))
    }

    /// A revision comes into force with its leader, who claims as the attempt of its pod. As in the store of a job, no
    /// other pod ever has the same attempt, and none of an earlier one comes after it.
    fn lead(&mut self, revision: u64, pods: &[Value]) {
        let Some(leader) = self.leader(revision, pods) else { return };
        let pair = (revision, attempt(leader));
        if let Some((last, known)) = self.claims.last_key_value() {
            assert!(pair >= *last, "{pair:?} leads after {last:?}");
            assert!(pair > *last || *known == uid(leader), "two pods lead as {pair:?}");
        }
        if let Some((current, _)) = self.in_force.as_ref().filter(|(_, pod)| pods.iter().any(|of| uid(of) == *pod)) {
            assert!(revision > *current, "a second leader of revision {revision}, while the first one is there");
        }
        self.claims.insert(pair, uid(leader));
        self.failed = None;
        if self.fatal.contains(&image(leader)) && !self.crashing.contains(&image(leader)) {
            self.crashing.push(image(leader));
        }
        self.in_force = Some((revision, uid(leader)));
        if self.history.last() != Some(&revision) {
            self.history.push(revision);
        }
    }

    fn kubelet(&mut self, store: &mut Store, pod: &Value) {
        let meta = &pod["metadata"];
        let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
        let place: Place = ((String::new(), PODS.to_owned()), text("namespace"), text("name"));
        if !meta["deletionTimestamp"].is_null() {
            return store.remove(&place);
        }
        let mut next = pod.clone();
        if pod["spec"]["nodeName"].is_null() {
            self.addresses += 1;
            next["spec"]["nodeName"] = json!("node-1");
            next["status"]["podIP"] = json!(format!("10.1.{}.{}", self.addresses / 250, self.addresses % 250 + 1));
        }
        let at = store.now.to_string();
        let ended = |code: i32, message: &str| json!({"terminated": {"exitCode": code, "reason": "Error", "message": message, "finishedAt": at}});
        let (phase, ready, state) = match label(pod, "weir.dev/role") {
            "check" if self.misfits.contains(&image(pod)) => {
                ("Failed", false, ended(2, r#"{"verdict": "misfit", "message": "operator 3 has another key now"}"#))
            }
            "check" => ("Succeeded", false, ended(0, r#"{"verdict": "fits"}"#)),
            "maintenance" => {
                let words = pod["spec"]["containers"][0]["args"].as_array().into_iter().flatten();
                let words: Vec<&str> = words.filter_map(Value::as_str).collect();
                self.worked.insert(uid(pod), words.join(" "));
                ("Succeeded", false, ended(0, r#"{"verdict": "done"}"#))
            }
            _ if !is_mountable(store, pod) => {
                ("Pending", false, json!({"waiting": {"reason": "ContainerCreating", "message": ""}}))
            }
            _ if self.missing.contains(&image(pod)) => {
                ("Pending", false, json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}))
            }
            _ if self.crashing.contains(&image(pod)) => {
                ("Running", false, json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}))
            }
            _ => ("Running", true, json!({"running": {"startedAt": meta["creationTimestamp"]}})),
        };
        let crashes = self.crashing.contains(&image(pod)) && phase == "Running";
        next["status"]["phase"] = json!(phase);
        next["status"]["conditions"] = json!([
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": if ready { "True" } else { "False" }}]);
        next["status"]["containerStatuses"] = json!([{"name": "worker", "ready": ready, "image": image(pod), "imageID": "",
            "restartCount": if crashes { 5 } else { 0 }, "state": state,
            "lastState": if crashes { ended(1, "it crashed") } else { json!({}) }}]);
        store.put(&place, next);
    }

    fn answer(&mut self, pod: &Value, request: &Request) -> (u16, Value) {
        let path = request.path.as_str();
        let body = request.body.clone().unwrap_or_default();
        if let Some((_, kind)) = self.unable.iter().find(|(unable, _)| *unable == image(pod)) {
            let failure = json!({"kind": kind, "message": "job.yaml:13:42: there is no column 'prize'"});
            let job = json!({"name": "bids", "state": "ended", "generation": null, "restarts": 0, "lastFailure": failure,
                "ending": "failed", "registered": 0, "tasks": []});
            return if path == "/v1/job" { (200, job) } else { (503, json!({"error": "the job cannot run"})) };
        }
        match (request.method.as_str(), path) {
            ("GET", "/v1/job") => (200, self.describe(pod)),
            ("GET", "/v1/assignment") => (200, self.assignment(pod)),
            ("GET", "/v1/checkpoints") => (200, self.checkpoints(pod)),
            ("GET", "/v1/savepoints") => {
                let savepoints = self.savepoints.iter().map(|(name, (uid, checkpoint))| {
                    json!({"name": name, "requestUid": uid, "state": "completed", "link": checkpoint,
                        "checkpoint": checkpoint, "completedUnixMs": FIRST_CHECKPOINT_S * 1_000})
                });
                (200, json!({"savepoints": savepoints.collect::<Vec<_>>()}))
            }
            ("PUT", "/v1/assignment") => self.assign(&body),
            ("POST", "/v1/savepoints") => self.savepoint(&body),
            ("DELETE", _) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                self.savepoints.remove(name);
                (200, json!({"name": name, "state": "deleted"}))
            }
            _ => (404, json!({"error": format!("there is nothing at {path}")})),
        }
    }

    fn is_leading(&self, pod: &Value) -> Option<u64> {
        self.in_force.as_ref().filter(|(_, leader)| *leader == uid(pod)).map(|(revision, _)| *revision)
    }

    fn describe(&self, pod: &Value) -> Value {
        let leading = self.is_leading(pod);
        let (state, ending) = match leading {
            Some(_) if self.finished => ("ended", json!("finished")),
            Some(revision) if self.stopped.is_some_and(|stopped| stopped >= revision) => ("ended", json!("stopped")),
            Some(_) => ("running", Value::Null),
            None => ("awaiting", Value::Null),
        };
        json!({"name": "bids", "state": state, "ending": ending, "generation": self.history.len(), "restarts": 0,
            "lastFailure": null, "registered": 1, "tasks": []})
    }

    fn assignment(&self, pod: &Value) -> Value {
        let revision = self.is_leading(pod).unwrap_or(0);
        let terms = self.assignments.get(&revision).cloned().unwrap_or(json!({}));
        let assigned = self.assignments.last_key_value().map_or(0, |(revision, _)| *revision);
        let failed = self.failed.as_ref().filter(|(failed, _)| *failed == assigned && revision > 0);
        let failed = failed.map(|(failed, why)| json!({"revision": failed, "message": why}));
        json!({"revision": revision, "parallelism": terms["parallelism"].as_u64().unwrap_or(0),
            "workers": terms["workers"].as_u64().unwrap_or(0), "code": terms["code"].as_str().unwrap_or_default(),
            "assigned": assigned, "change": null, "failed": failed})
    }

    fn checkpoints(&self, pod: &Value) -> Value {
        let completed = self.completed.get(&uid(pod)).copied().unwrap_or(0);
        let sizes = json!({"writtenBytes": 10, "totalBytes": 1000});
        let retained = json!([{"link": self.checkpoints, "checkpoint": self.checkpoints,
            "completedUnixMs": (FIRST_CHECKPOINT_S + self.checkpoints) * 1_000, "sizes": sizes}]);
        let retained = if self.checkpoints == 0 { json!([]) } else { retained };
        json!({"completed": completed, "failed": {}, "history": [], "retained": retained})
    }

    fn assign(&mut self, body: &Value) -> (u16, Value) {
        let revision = body["revision"].as_u64().unwrap_or(0);
        match self.assignments.get(&revision) {
            Some(known) if known == body => {
                self.failed = self.failed.take().filter(|(failed, _)| *failed != revision);
                (202, json!({"revision": revision, "state": "accepted"}))
            }
            Some(_) => (409, json!({"error": format!("revision {revision} has another content")})),
            None if self.assignments.keys().any(|known| *known > revision) => (409, json!({"error": "stale"})),
            None => {
                self.assignments.insert(revision, body.clone());
                self.failed = None;
                (202, json!({"revision": revision, "state": "accepted"}))
            }
        }
    }

    fn savepoint(&mut self, body: &Value) -> (u16, Value) {
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let (name, uid) = (text("name"), text("requestUid"));
        match self.savepoints.get(&name) {
            Some((known, _)) if *known != uid => return (409, json!({"error": "the name is taken"})),
            Some(_) => {}
            None => {
                self.savepoints_taken += 1;
                self.savepoints.insert(name.clone(), (uid.clone(), self.checkpoints));
            }
        }
        if body["then"] == "stop" {
            self.stopped = self.in_force.as_ref().map(|(revision, _)| *revision);
        }
        (202, json!({"name": name, "requestUid": uid, "state": "pending"}))
    }
}

/// Carries requests to the pods that the server holds.
pub(crate) struct Leaders {
    pub(crate) server: Server,
    pub(crate) job: Arc<Mutex<Job>>,
}

impl Leaders {
    fn exchange(&self, peer: &Peer, request: &Request) -> Result<Answer, Error> {
        let unreachable = |why: &str| Error::Unreachable { address: peer.address, source: why.into() };
        let address = peer.address.ip().to_string();
        let pods = self.server.store.lock().list(&(String::new(), PODS.to_owned()), None, "");
        let found = pods.iter().find(|pod| runs(pod) && leads(pod) && pod["status"]["podIP"] == address.as_str());
        let pod = found.ok_or_else(|| unreachable("nobody listens"))?;
        let fault = if request.method == http::Method::GET {
            if self.server.script.lock().dead { Fault::DiesBefore } else { Fault::None }
        } else {
            self.server.next(format!("leader {} {}", request.method, request.path))
        };
        match fault {
            Fault::DiesBefore => return Err(unreachable("the controller has died")),
            Fault::Answers(status) => {
                return Ok(Answer { status, body: Bytes::from_static(b"{\"error\": \"it is in the script\"}") });
            }
            _ => {}
        }
        let (status, body) = self.job.lock().answer(pod, request);
        match fault {
            Fault::DiesAfter | Fault::TimesOutAfter => Err(unreachable("no answer comes")),
            _ => Ok(Answer { status, body: Bytes::from(body.to_string()) }),
        }
    }
}

impl Transport for Leaders {
    fn send<'a>(&'a self, peer: &'a Peer, request: Request) -> BoxFuture<'a, Result<Answer, Error>> {
        async move { self.exchange(peer, &request) }.boxed()
    }
}
