//! A cluster in memory: it holds what the controller writes, and does what kubelets and leaders would do.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use weir_crds::{DesiredState, Savepoint, SavepointStatus, StreamJob, StreamJobStatus, validate};
use weir_operator::model::{
    Action, Assign, Decision, Finalizer, LeaderRequest, LeaderSeen, Needed, Object, Observed, OriginSeen, PodSeen,
    Refused, RestorePoint, RevisionSeen, Role, SavepointSeen, ServiceSeen, Wish, Write, name,
};
use weir_operator::{build::build, decide::decide};

use crate::store::{Leader, Store};

pub(crate) struct Cluster {
    pub(crate) job: StreamJob,
    pub(crate) sql: Option<String>,
    pub(crate) revisions: BTreeMap<String, ControllerRevision>,
    pub(crate) pods: BTreeMap<String, Pod>,
    pub(crate) services: BTreeMap<String, ServiceSeen>,
    pub(crate) savepoints: BTreeMap<String, Savepoint>,
    pub(crate) store: Store,
    pub(crate) now: Timestamp,
    pub(crate) refused: Vec<Refused>,
    pub(crate) finalizer_removed: bool,
    /// The image of jobs that name none.
    pub(crate) default_image: String,
    /// Images that cannot be pulled.
    pub(crate) no_image: BTreeSet<String>,
    /// The verdict of checks: exit code and message.
    pub(crate) check: (i32, String),
    pub(crate) namespace_ends: bool,
    /// Where `spec.restoreFrom` leads.
    pub(crate) origin: Option<OriginSeen>,
    /// What the leader of the job was asked for whose state this one begins with.
    pub(crate) asked_of_origin: Vec<String>,
    /// What pods are like that cannot start.
    pub(crate) pending: Option<PodStatus>,
    /// How pods end that work on the state: exit code and message.
    pub(crate) maintenance: (i32, String),
    /// Leaders answer every request with this.
    pub(crate) refuses: Option<(u16, String)>,
    pub(crate) missing: Vec<Needed>,
    pub(crate) denied: Option<String>,
    /// Reasons of conditions and events so far.
    pub(crate) told: BTreeSet<String>,
    /// Everything that was written so far.
    pub(crate) written: Vec<Write>,
    made: u64,
    serial: u64,
}

/// A job of two workers.
pub(crate) fn job() -> StreamJob {
    serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": "bids", "namespace": "shop", "uid": "8f3c2a10-0000-4000-8000-000000000001", "generation": 1},
        "spec": {
            "parallelism": 2,
            "pipeline": {"sql": "INSERT INTO a SELECT * FROM b"},
            "storage": {"s3": {"bucket": "states", "prefix": "weir"}},
            "worker": {"image": "weir:1"},
        },
    }))
    .unwrap()
}

/// How a check ends that finds nothing wrong.
pub(crate) fn fits() -> (i32, String) {
    (0, r#"{"verdict": "fits"}"#.to_owned())
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self {
            job: job(),
            sql: None,
            revisions: BTreeMap::new(),
            pods: BTreeMap::new(),
            services: BTreeMap::new(),
            savepoints: BTreeMap::new(),
            store: Store::default(),
            now: Timestamp::from_second(1_767_225_600).unwrap(),
            refused: Vec::new(),
            finalizer_removed: false,
            default_image: "weir:default".to_owned(),
            no_image: BTreeSet::new(),
            check: fits(),
            namespace_ends: false,
            origin: None,
            asked_of_origin: Vec::new(),
            pending: None,
            maintenance: (0, r#"{"verdict": "done"}"#.to_owned()),
            refuses: None,
            missing: Vec::new(),
            denied: None,
            told: BTreeSet::new(),
            written: Vec::new(),
            made: 0,
            serial: 0,
        }
    }

    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut StreamJob)) {
        change(&mut self.job);
        *self.job.metadata.generation.get_or_insert(0) += 1;
    }

    pub(crate) fn sql(&mut self, sql: &str) {
        self.edit(|job| job.spec.pipeline.sql = Some(sql.to_owned()));
    }

    pub(crate) fn parallelism(&mut self, parallelism: u32) {
        self.edit(|job| job.spec.parallelism = parallelism);
    }

    pub(crate) fn status(&self) -> StreamJobStatus {
        self.job.status.clone().unwrap_or_default()
    }

    pub(crate) fn seen_pods(&self) -> Vec<PodSeen> {
        self.pods.values().filter_map(PodSeen::of).collect()
    }

    pub(crate) fn leaders(&self) -> Vec<Leader> {
        let pods = self.seen_pods();
        let up = |pod: &&PodSeen| pod.ready == Some(true) && pod.container.ready && !pod.deleting;
        let code = |pod: &PodSeen| variable(&self.pods[&pod.name], "WEIR_CODE");
        let leads = |pod: &&PodSeen| pod.leads() && !pod.deleting;
        pods.iter()
            .filter(up)
            .filter(leads)
            .map(|leader| {
                let same = |pod: &&PodSeen| pod.role == Role::Worker && pod.revision == leader.revision;
                Leader {
                    pod: leader.name.clone(),
                    uid: leader.uid.clone(),
                    code: code(leader),
                    attempt: leader.attempt,
                    workers: pods.iter().filter(up).filter(same).map(|pod| pod.ordinal).collect(),
                }
            })
            .collect()
    }

    pub(crate) fn observe(&self) -> Observed {
        let leaders = self.leaders().into_iter().map(|leader| {
            let silent = LeaderSeen::Silent { message: "connection refused".to_owned() };
            let seen = self.store.report(&leader).map_or(silent, |report| LeaderSeen::Answers(Box::new(report)));
            (leader.pod, seen)
        });
        let sql = self.job.spec.pipeline.sql.clone().or_else(|| self.sql.clone());
        let wish = match (validate(&self.job), sql) {
            (Err(mistakes), _) => Wish::Invalid { message: format!("{mistakes:?}") },
            (Ok(_), None) => Wish::NoSql { message: "ConfigMap queries is missing".to_owned() },
            (Ok(job), Some(sql)) => Wish::Valid { job: Box::new(job), sql },
        };
        Observed {
            job: self.job.clone(),
            wish,
            default_image: self.default_image.clone(),
            revisions: self.revisions.values().filter_map(RevisionSeen::of).collect(),
            pods: self.seen_pods(),
            services: self.services.clone(),
            leaders: leaders.collect(),
            refused: self.refused.clone(),
            savepoints: self.savepoints.values().map(SavepointSeen::of).collect(),
            origin: self.origin.clone().filter(|_| self.job.spec.restore_from.is_some()),
            missing: self.missing.clone(),
            denied: self.denied.clone(),
            namespace_ends: self.namespace_ends,
        }
    }

    pub(crate) fn decide(&self) -> Decision {
        decide(&self.observe(), self.now)
    }

    /// One round of the controller, which dies after so many writes; then a moment passes.
    pub(crate) fn round(&mut self, writes: usize) {
        let observed = self.observe();
        let decision = decide(&observed, self.now);
        self.hear(&decision);
        let mut left = writes;
        if decision.status.change != self.status().change {
            if left == 0 {
                return self.pass();
            }
            self.job.status = Some(stored(&decision.status));
            left -= 1;
        }
        for write in build(&observed, &decision) {
            if left == 0 {
                return self.pass();
            }
            left -= 1;
            self.apply(write);
        }
        if left > 0 {
            self.job.status = Some(stored(&decision.status));
        }
        self.pass();
    }

    fn hear(&mut self, decision: &Decision) {
        let savepoints = decision.actions.iter().filter_map(|action| match action {
            Action::SavepointStatus { status, .. } => Some(&status.conditions),
            _ => None,
        });
        let conditions = savepoints.chain([&decision.status.conditions]).flatten();
        self.told.extend(conditions.map(|condition| condition.reason.clone()));
        self.told.extend(decision.events.iter().map(|event| event.reason.name().to_owned()));
    }

    pub(crate) fn rounds(&mut self, count: usize) {
        for _ in 0..count {
            self.round(usize::MAX);
        }
    }

    fn apply(&mut self, write: Write) {
        self.written.push(write.clone());
        match write {
            Write::Certificates | Write::Apply(Object::ConfigMap(_) | Object::NetworkPolicy(_)) => {}
            Write::Apply(Object::PodDisruptionBudget(_)) => {}
            Write::Apply(Object::Service(service)) => {
                let name = service.metadata.name.clone().unwrap();
                let wanted = service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone());
                self.serial += 1;
                let next = format!("10.0.0.{}", self.serial);
                let seen = self.services.entry(name).or_default();
                let headless = wanted.as_deref() == Some("None");
                seen.address = seen.address.take().or(wanted).or(Some(next)).filter(|_| !headless);
                seen.annotations = service.metadata.annotations.clone().unwrap_or_default();
            }
            Write::CreateRevision(revision) => {
                let name = revision.metadata.name.clone().unwrap();
                let mut revision = *revision;
                revision.metadata.creation_timestamp = Some(Time(self.now));
                revision.metadata.uid = Some(format!("uid-{name}"));
                self.revisions.entry(name).or_insert(revision);
            }
            Write::CreatePod(pod) => self.create(*pod),
            Write::Annotate { revision, annotation: (annotation, value) } => {
                let revision = self.revisions.get_mut(&revision).expect("only what is there is marked");
                revision.metadata.annotations.get_or_insert_default().insert(annotation, value);
            }
            Write::Label { pod, label, value, .. } => {
                let labels = self.pods.get_mut(&pod).and_then(|pod| pod.metadata.labels.as_mut()).unwrap();
                match value {
                    Some(value) => drop(labels.insert(label, value)),
                    None => drop(labels.remove(&label)),
                }
            }
            Write::DeletePod { pod, uid } => self.delete(&pod, &uid),
            Write::DeleteRevision { revision, service } => {
                self.revisions.remove(&revision);
                self.services.remove(&service);
            }
            Write::Ask(ask) if Some(&ask.job) != self.job.metadata.name.as_ref() => self.ask_origin(&ask.request),
            Write::Ask(ask) => {
                let leader = self.leaders().into_iter().find(|leader| leader.pod == ask.pod);
                let subject = ask.request.subject();
                let refused = self.refuses.clone();
                let answer = |leader: Leader| refused.map_or_else(|| self.store.ask(&leader, &ask.request), Err);
                match leader.map(answer) {
                    Some(Err((status, message))) if status < 503 => {
                        self.refused.push(Refused { subject, status, message, at: self.now });
                    }
                    _ => self.refused.retain(|refused| refused.subject != subject),
                }
            }
            Write::Finalizer(finalizer) => {
                let finalizers = self.job.metadata.finalizers.get_or_insert_default();
                finalizers.retain(|finalizer| finalizer != name::JOB_FINALIZER);
                match finalizer {
                    Finalizer::Set => finalizers.push(name::JOB_FINALIZER.to_owned()),
                    Finalizer::Removed => self.finalizer_removed = true,
                }
            }
            Write::SavepointFinalizer { name: of, finalizer, .. } => {
                let savepoint = self.savepoints.get_mut(&of).unwrap();
                match finalizer {
                    Finalizer::Set => savepoint.metadata.finalizers = Some(vec![name::SAVEPOINT_FINALIZER.to_owned()]),
                    Finalizer::Removed if savepoint.metadata.deletion_timestamp.is_some() => {
                        self.savepoints.remove(&of);
                    }
                    Finalizer::Removed => savepoint.metadata.finalizers = None,
                }
            }
            Write::SavepointStatus { name: of, status, .. } => {
                let savepoint = self.savepoints.get_mut(&of).unwrap();
                savepoint.status = Some(serde_json::from_value::<SavepointStatus>(json!(status)).unwrap());
            }
        }
    }

    fn ask_origin(&mut self, request: &LeaderRequest) {
        let (_, path) = request.route();
        self.asked_of_origin.push(path);
        if let Some(OriginSeen::Job { pinned, .. }) = &mut self.origin {
            *pinned = matches!(request, LeaderRequest::TakeSavepoint { .. });
        }
    }

    /// What each revision that was in force has begun with, in their order.
    pub(crate) fn begun(&self) -> Vec<String> {
        let revisions: Vec<RevisionSeen> = self.revisions.values().filter_map(RevisionSeen::of).collect();
        let manifest = |assign: &Assign| {
            let content = revisions.iter().map(|revision| &revision.content);
            let mut of_code = content.filter(|content| content.code == assign.code);
            of_code.find_map(|content| content.manifest.clone()).unwrap_or_default()
        };
        let mut used = None;
        let begun = self.store.begun.iter().map(|revision| {
            let assign = &self.store.assignments[revision];
            let path = manifest(assign)["spec"]["restoreFrom"]["path"].as_str().map(str::to_owned);
            // A chain remembers the path that was used last.
            let path = path.filter(|path| used.as_ref() != Some(path));
            used = path.clone().or(used.take());
            match &assign.restore {
                Some(RestorePoint::Savepoint(name)) => format!("{revision}: savepoint {name}"),
                Some(RestorePoint::Nothing) => format!("{revision}: nothing"),
                None => format!("{revision}: {}", path.unwrap_or_else(|| "its own".to_owned())),
            }
        });
        begun.collect()
    }

    fn create(&mut self, mut pod: Pod) {
        let name = pod.metadata.name.clone().unwrap();
        if self.pods.contains_key(&name) {
            return;
        }
        self.made += 1;
        pod.metadata.uid = Some(format!("pod-{}", self.made));
        pod.metadata.creation_timestamp = Some(Time(self.now));
        self.pods.insert(name, pod);
    }

    /// What is in force keeps its pods until others are there, or nothing is to run.
    fn delete(&mut self, pod: &str, uid: &str) {
        let pods = self.seen_pods();
        let Some(going) = pods.iter().find(|known| known.name == pod && known.uid == uid) else {
            return;
        };
        let current = self.revisions.values().filter_map(RevisionSeen::of).find(|r| r.number == self.store.in_force);
        if let Some(current) = current.filter(|_| going.role == Role::Worker) {
            let wanted = self.job.spec.state == DesiredState::Running;
            let runs = wanted && self.job.metadata.deletion_timestamp.is_none() && self.store.runs();
            let needed = current.content.program == going.revision && going.ordinal < current.content.workers;
            let lives = going.container.ready;
            let replaced = pods.iter().any(|other| {
                other.revision == going.revision && other.ordinal == going.ordinal && other.attempt > going.attempt
            });
            let taken_over = self
                .store
                .assignments
                .values()
                .any(|assign| assign.revision > self.store.in_force && (assign.force || assign.rollback.is_some()));
            let fails = self.store.bad.contains(&current.content.code) || current.failed().is_some();
            assert!(
                !(runs && needed && lives) || replaced || taken_over || fails,
                "{pod} goes, and nothing replaces it"
            );
        }
        self.pods.remove(pod);
    }

    /// A moment passes: pods come up, leaders act.
    pub(crate) fn pass(&mut self) {
        self.now = self.now.checked_add(SignedDuration::from_secs(1)).unwrap();
        let now = Time(self.now);
        let (no_image, check, maintenance) = (self.no_image.clone(), self.check.clone(), self.maintenance.clone());
        let pending = self.pending.clone();
        for pod in self.pods.values_mut() {
            let seen = PodSeen::of(pod).unwrap();
            if pod.status.is_some() || seen.deleting {
                continue;
            }
            let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
            pod.status = Some(match seen.role {
                _ if no_image.contains(&image) => waiting("ImagePullBackOff", "not found"),
                Role::Worker => pending.clone().unwrap_or_else(|| up(&now)),
                Role::Check => ended(check.0, &check.1, &now),
                Role::Maintenance => ended(maintenance.0, &maintenance.1, &now),
            });
        }
        for leader in self.leaders() {
            self.store.tick(&leader, self.now);
        }
    }

    /// The kubelet tries again with what could not start.
    pub(crate) fn recover(&mut self) {
        for pod in self.pods.values_mut() {
            pod.status = pod.status.take().filter(|status| status.phase.as_deref() != Some("Pending"));
        }
    }

    /// The live worker pods, as `program/ordinal`.
    pub(crate) fn fleet(&self) -> Vec<String> {
        let pods = self.seen_pods();
        let live = pods.iter().filter(|pod| pod.role == Role::Worker && pod.ready == Some(true) && !pod.deleting);
        live.map(|pod| format!("{}/{}", pod.revision, pod.ordinal)).collect()
    }
}

/// As the API server keeps it: whole seconds, for example.
fn stored(status: &StreamJobStatus) -> StreamJobStatus {
    serde_json::from_value(json!(status)).unwrap()
}

fn variable(pod: &Pod, wanted: &str) -> String {
    let env = pod.spec.as_ref().unwrap().containers[0].env.as_ref().unwrap();
    env.iter().find(|variable| variable.name == wanted).and_then(|variable| variable.value.clone()).unwrap_or_default()
}

fn status(value: serde_json::Value) -> PodStatus {
    serde_json::from_value(value).unwrap()
}

fn container(state: &serde_json::Value, ready: bool, restarts: u32) -> serde_json::Value {
    json!([{"name": "weir", "image": "", "imageID": "", "ready": ready, "restartCount": restarts, "state": state}])
}

pub(crate) fn up(now: &Time) -> PodStatus {
    status(json!({
        "phase": "Running", "podIP": "10.1.0.1",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": container(&json!({"running": {"startedAt": now}}), true, 0),
    }))
}

pub(crate) fn waiting(reason: &str, message: &str) -> PodStatus {
    status(json!({
        "phase": "Pending",
        "containerStatuses": container(&json!({"waiting": {"reason": reason, "message": message}}), false, 0),
    }))
}

pub(crate) fn crashing(code: i32, message: &str, at: Timestamp) -> PodStatus {
    let exit =
        json!({"exitCode": code, "reason": "Error", "message": message, "startedAt": Time(at), "finishedAt": Time(at)});
    let mut containers = container(&json!({"waiting": {"reason": "CrashLoopBackOff", "message": ""}}), false, 2);
    containers[0]["lastState"] = json!({"terminated": exit});
    status(json!({
        "phase": "Running", "conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": containers,
    }))
}

/// A worker whose container has ended, and will be started again.
pub(crate) fn over(code: i32, message: &str, at: Timestamp) -> PodStatus {
    let exit =
        json!({"exitCode": code, "reason": "Error", "message": message, "startedAt": Time(at), "finishedAt": Time(at)});
    status(json!({
        "phase": "Running", "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": container(&json!({"terminated": exit}), false, 0),
    }))
}

pub(crate) fn ended(code: i32, message: &str, now: &Time) -> PodStatus {
    let exit = json!({"exitCode": code, "message": message, "startedAt": now, "finishedAt": now});
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    status(json!({"phase": phase, "containerStatuses": container(&json!({"terminated": exit}), false, 0)}))
}

pub(crate) fn evicted() -> PodStatus {
    status(json!({"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory"}))
}

pub(crate) fn lost() -> PodStatus {
    status(json!({
        "phase": "Running", "podIP": "10.1.0.1",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": container(&json!({"running": {}}), true, 0),
    }))
}

pub(crate) fn no_room() -> PodStatus {
    status(json!({
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}],
    }))
}
