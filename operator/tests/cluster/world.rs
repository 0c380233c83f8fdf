//! A cluster, a job in it, and a controller that can die, in turns: the controller looks, then time passes.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weir_operator::certificates;
use weir_operator::cluster::{Cluster, JobKey, Kept, Table};
use weir_operator::controller::{Context, Notes, reconcile};
use weir_operator::events::Recorder;
use weir_operator::telemetry::Metrics;

use crate::api::{Fault, Server};
use crate::leader::{Job, Leaders};
use crate::store::{Kind, Place};

pub(crate) const NAMESPACE: &str = "shop";
pub(crate) const NAME: &str = "bids";

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) job: Arc<Mutex<Job>>,
    pub(crate) now: Arc<Mutex<Timestamp>>,
    pub(crate) ctx: Arc<Context>,
}

pub(crate) fn kind(group: &str, plural: &str) -> Kind {
    (group.to_owned(), plural.to_owned())
}

pub(crate) fn job_place() -> Place {
    (kind("weir.dev", "streamjobs"), NAMESPACE.to_owned(), NAME.to_owned())
}

fn savepoint_kind() -> Kind {
    kind("weir.dev", "savepoints")
}

/// The place of a Savepoint.
pub(crate) fn savepoint_place(name: &str) -> Place {
    (savepoint_kind(), NAMESPACE.to_owned(), name.to_owned())
}

/// What a revision begins with.
fn begins(revision: &Value) -> Value {
    json!([revision["data"]["restore"], revision["data"]["manifest"]["spec"]["restoreFrom"]])
}

/// A StreamJob as a user writes it.
pub(crate) fn manifest(parallelism: u32, image: &str) -> Value {
    json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "StreamJob",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "parallelism": parallelism,
            "pipeline": {"sql": "CREATE TABLE a (x BIGINT) WITH ('connector'='datagen');\
                CREATE TABLE b (x BIGINT) WITH ('connector'='blackhole'); INSERT INTO b SELECT x FROM a;"},
            "storage": {"s3": {"bucket": "weir-state", "prefix": "jobs"}},
            "worker": {"image": image},
        },
    })
}

/// A controller that has seen nothing yet.
pub(crate) fn context(server: &Server, job: &Arc<Mutex<Job>>, now: &Arc<Mutex<Timestamp>>) -> Context {
    let now = Arc::clone(now);
    Context {
        client: server.client(),
        cluster: Arc::new(Cluster::default()),
        transport: Arc::new(Leaders { server: server.clone(), job: Arc::clone(job) }),
        notes: Notes::default(),
        events: Recorder::new(server.client(), "controller-1"),
        metrics: Arc::new(Metrics::new()),
        default_image: "weir/worker:1".to_owned(),
        terms: certificates::Terms::default(),
        clock: Box::new(move || *now.lock()),
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let (server, job) = (Server::default(), Arc::<Mutex<Job>>::default());
        let now = Arc::new(Mutex::new("2026-01-01T00:00:00Z".parse().expect("a time")));
        server.edit(|store| {
            store.now = *now.lock();
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
            store.create(&kind("", "namespaces"), "", namespace).expect("it is the first");
        });
        let ctx = Arc::new(context(&server, &job, &now));
        Self { server, job, now, ctx }
    }

    /// The same cluster at the same moment, and a controller that has seen nothing yet.
    pub(crate) fn again(&self) -> Self {
        let server = Server::default();
        let (store, job) = (self.server.store.lock().clone(), self.job.lock().clone());
        *server.store.lock() = store;
        let (job, now) = (Arc::new(Mutex::new(job)), Arc::new(Mutex::new(*self.now.lock())));
        let ctx = Arc::new(context(&server, &job, &now));
        Self { server, job, now, ctx }
    }

    /// What a user applies.
    pub(crate) fn apply(&self, manifest: &Value) {
        let applied = self.server.edit(|store| match store.objects.contains_key(&job_place()) {
            true => store.merge(&job_place(), manifest, false),
            false => store.create(&job_place().0, NAMESPACE, manifest.clone()),
        });
        applied.expect("the manifest is taken");
    }

    /// A Savepoint as a user makes it.
    pub(crate) fn create_savepoint(&self, name: &str, job: &str) {
        let savepoint = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "Savepoint",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"jobRef": {"name": job}, "deletionPolicy": "Delete"},
        });
        self.server
            .edit(|store| store.create(&savepoint_kind(), NAMESPACE, savepoint))
            .expect("the Savepoint is taken");
    }

    /// What a user deletes.
    pub(crate) fn delete(&self, place: &Place) {
        self.server.edit(|store| store.delete(place, None)).expect("it is there");
    }

    pub(crate) fn streamjob(&self) -> Value {
        self.server.store.lock().get(&job_place()).unwrap_or_default()
    }

    pub(crate) fn pods(&self) -> Vec<Value> {
        self.server.store.lock().list(&kind("", "pods"), Some(NAMESPACE), "")
    }

    /// Everything that the watches would have delivered.
    fn see(&self) {
        let cluster = &self.ctx.cluster;
        self.list(&cluster.jobs, "weir.dev", "streamjobs");
        self.list(&cluster.savepoints, "weir.dev", "savepoints");
        self.list(&cluster.pods, "", "pods");
        self.list(&cluster.revisions, "apps", "controllerrevisions");
        self.list(&cluster.services, "", "services");
        self.list(&cluster.config_maps, "", "configmaps");
        self.list(&cluster.budgets, "policy", "poddisruptionbudgets");
        self.list(&cluster.policies, "networking.k8s.io", "networkpolicies");
    }

    fn list<T: Kept>(&self, table: &Table<T>, group: &str, plural: &str)
    where
        T::Object: DeserializeOwned,
    {
        table.take(Event::Init);
        for object in self.server.store.lock().list(&kind(group, plural), None, "") {
            table.take(Event::InitApply(serde_json::from_value(object).expect("an object of its kind")));
        }
        table.take(Event::InitDone);
    }

    /// The controller looks at the job (a new one, if it has died), then a second passes.
    pub(crate) async fn turn(&mut self) {
        if self.server.script.lock().dead {
            self.server.script.lock().dead = false;
            self.ctx = Arc::new(context(&self.server, &self.job, &self.now));
        }
        self.see();
        // What fails is looked at again in the next turn.
        let _ = reconcile(&self.ctx, &JobKey::new(NAMESPACE, NAME)).await.is_ok();
        self.pass(1);
    }

    /// The controller has seen everything, and does nothing any more; another one takes its place.
    pub(crate) fn freeze(&mut self) -> Arc<Context> {
        self.see();
        std::mem::replace(&mut self.ctx, Arc::new(context(&self.server, &self.job, &self.now)))
    }

    /// A controller acts on what it saw last, whatever has happened since.
    pub(crate) async fn wake(&self, frozen: Arc<Context>) {
        let _ = reconcile(&frozen, &JobKey::new(NAMESPACE, NAME)).await.is_ok();
    }

    /// Time passes without the controller.
    pub(crate) fn pass(&self, seconds: i64) {
        let mut now = self.now.lock();
        if seconds == 0 {
            return;
        }
        *now += SignedDuration::from_secs(seconds);
        self.server.edit(|store| {
            store.now = *now;
            self.job.lock().tick(store);
        });
    }

    /// Turns until nothing is written any more.
    pub(crate) async fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..400 {
            let before = self.server.script.lock().seen.len();
            self.turn().await;
            let wrote = self.server.script.lock().seen.len() != before;
            // A status tells of a new checkpoint once a minute.
            quiet = if wrote { 0 } else { quiet + 1 };
            // Whoever waits for a moment gets there.
            self.pass(if wrote { 0 } else { 3 });
            if quiet == 5 {
                return;
            }
        }
        panic!("the job does not come to rest: {:#?}\n{:#}", self.server.script.lock().seen, self.streamjob());
    }

    /// What there is, without what differs from run to run: attempts, uids, versions, times.
    pub(crate) fn summary(&self) -> Value {
        let store = self.server.store.lock();
        let text = |object: &Value, path: &str| object.pointer(path).cloned().unwrap_or_default();
        let mut pods: Vec<String> = store
            .list(&kind("", "pods"), Some(NAMESPACE), "")
            .iter()
            .map(|pod| {
                let label = |name: &str| pod["metadata"]["labels"][name].as_str().unwrap_or("-").to_owned();
                let parts = ["weir.dev/role", "weir.dev/ordinal", "weir.dev/revision", "weir.dev/active"].map(label);
                format!("{} {}", parts.join(" "), text(pod, "/spec/containers/0/image"))
            })
            .collect();
        pods.sort();
        let revisions = store.list(&kind("apps", "controllerrevisions"), Some(NAMESPACE), "");
        let revisions: Vec<Value> =
            revisions.iter().map(|of| json!([of["revision"], of["data"]["parallelism"], begins(of)])).collect();
        let names = |group: &str, plural: &str| -> Vec<Value> {
            let objects = store.list(&kind(group, plural), Some(NAMESPACE), "");
            objects.iter().map(|object| object["metadata"]["name"].clone()).collect()
        };
        let job = store.get(&job_place()).unwrap_or_default();
        let run = self.job.lock();
        for object in store.list(&savepoint_kind(), Some(NAMESPACE), "") {
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            for condition in conditions {
                assert_eq!(condition["observedGeneration"], object["metadata"]["generation"], "{object:#}");
            }
        }
        let conditions = job["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let conditions: Vec<Value> =
            conditions.iter().map(|of| json!([of["type"], of["status"], of["reason"]])).collect();
        json!({
            "pods": pods,
            "revisions": revisions,
            "services": names("", "services"),
            "configMaps": names("", "configmaps"),
            "secrets": names("", "secrets"),
            "budgets": names("policy", "poddisruptionbudgets"),
            "policies": names("networking.k8s.io", "networkpolicies"),
            "state": job["status"]["state"],
            "replicas": job["status"]["replicas"],
            "change": job["status"]["change"],
            "conditions": conditions,
            "history": run.history,
            "savepoints": run.savepoints_taken,
            "kept": run.savepoints.keys().collect::<Vec<_>>(),
            "worked": run.worked.values().collect::<Vec<_>>(),
            "savepointObjects": store.list(&savepoint_kind(), Some(NAMESPACE), "").iter().map(|of| {
                json!([of["metadata"]["name"], of["metadata"]["finalizers"], of["status"]["state"], of["status"]["path"]])
            }).collect::<Vec<_>>(),
        })
    }

    /// What there is, without how it came to be: revisions and what belongs to each, savepoints on the way.
    pub(crate) fn runs(&self) -> Value {
        let mut summary = self.summary();
        let fields = ["budgets", "policies", "state", "replicas", "change", "conditions"];
        let mut runs: serde_json::Map<String, Value> =
            fields.map(|field| (field.to_owned(), summary[field].take())).into_iter().collect();
        // Role, ordinal, revision, whether it is active, image.
        let pods = summary["pods"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let pods = pods.map(|pod| pod.split(' ').enumerate().filter(|(at, _)| *at != 2).map(|(_, word)| word));
        runs.insert("pods".to_owned(), pods.map(|words| words.collect::<Vec<_>>().join(" ")).collect());
        Value::Object(runs)
    }

    /// Something happens to the write of this number, counted from now.
    pub(crate) fn script(&self, at: usize, fault: Fault) {
        let mut script = self.server.script.lock();
        script.at = Some((at, fault));
        script.seen.clear();
    }
}
