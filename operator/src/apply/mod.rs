//! Writes to the cluster and requests to leaders, in the order that was decided, until one fails; see [`apply`].
//!
//! Any of them may be carried out twice, or by a controller that was frozen and wakes late, without harm:
//!
//! - What may be repeated is applied by the server, over the version that was seen; it is left out while neither the wish
//!   nor the object has changed since.
//! - Pods and revisions are created under names that can be taken once. One that is there already is taken for ours if it
//!   was made for the same StreamJob (and, a revision, says the same).
//! - Pods are deleted and labelled only under their uid.
//! - Status and finalizers are written only over the `resourceVersion` that was decided from.
//!
//! A step that is new is in the status before it is done: [`apply`] begins with it.
//!
//! # Rights
//!
//! Besides those of [`crate::observe`] and [`crate::events`], in the namespaces that are looked after:
//!
//! | group | resources | verbs |
//! |---|---|---|
//! | `weir.dev` | `streamjobs`, `savepoints` | `patch` (finalizers) |
//! | `weir.dev` | `streamjobs/status`, `savepoints/status` | `patch` |
//! | (core) | `pods` | `create`, `patch`, `delete` |
//! | (core) | `services`, `configmaps` | `create`, `patch`, `delete` |
//! | (core) | `secrets` | `create`, `update` |
//! | `apps` | `controllerrevisions` | `create`, `update`, `delete` |
//! | `policy` | `poddisruptionbudgets` | `create`, `patch` |
//! | `networking.k8s.io` | `networkpolicies` | `create`, `patch` |
//!
//! And in the controller's own namespace, for [`crate::lease`]: `get`, `create` and `update` of `leases` in
//! `coordination.k8s.io`.

mod merge;
mod objects;
mod secrets;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use weir_crds::{Savepoint, StreamJob, StreamJobStatus};

pub use merge::difference;

use crate::cluster::{Entry, JobKey, KeptJob};
use crate::controller::{Context, limited};
use crate::leader_client::{self, Leader};
use crate::model::{Ask, Finalizer, LeaderRequest, Object, Refused, Then, Write, name};
use crate::observe;
use crate::telemetry::Outcome;

/// Why a write did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else wrote, or what was seen is old: it is looked at again.
    #[error("{what} has changed meanwhile")]
    Conflict {
        /// What was to be written.
        what: String,
    },
    /// The cluster does not want it: no quota, no right, an admission rule.
    #[error("{what} was refused: {message}")]
    Denied {
        /// What was to be written.
        what: String,
        /// The cluster's words.
        message: String,
    },
    /// It failed, or nobody knows.
    #[error("{what} could not be written")]
    Unwritten {
        /// What was to be written.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// A leader refused: the next look decides what follows.
    #[error("the leader in {pod} refused: {message}")]
    Refused {
        /// The leader's pod.
        pod: String,
        /// Its words.
        message: String,
    },
    /// A leader could not be asked.
    #[error("the leader in {pod} could not be asked for {subject}")]
    Unasked {
        /// The leader's pod.
        pod: String,
        /// What for.
        subject: String,
        /// Why.
        #[source]
        source: leader_client::Error,
    },
    /// The job's certificates are not there.
    #[error("there is no certificate yet to show to the leader in {pod}")]
    Unknown {
        /// The leader's pod.
        pod: String,
    },
    /// Certificates could not be made.
    #[error("certificates could not be made")]
    Certificates(#[source] crate::certificates::Error),
}

/// Whether a write changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// All was as it should be.
    None,
    /// A leader was asked.
    Asked,
    /// The cluster was written to.
    Written,
}

/// One round of writes about a job.
pub struct Round<'a> {
    ctx: &'a Context,
    key: &'a JobKey,
    uid: &'a str,
    /// The StreamJob as it is after the round's own writes.
    job: StreamJob,
    /// Its version.
    version: String,
}

impl<'a> Round<'a> {
    /// A round over a StreamJob as it was seen.
    #[must_use]
    pub fn new(ctx: &'a Context, key: &'a JobKey, seen: &'a Entry<KeptJob>) -> Self {
        Self { ctx, key, uid: &seen.uid, job: seen.kept.0.clone(), version: seen.version.clone() }
    }

    /// The status that is in the cluster.
    #[must_use]
    pub fn status(&self) -> StreamJobStatus {
        self.job.status.clone().unwrap_or_default()
    }

    /// Writes a status over the version that was decided from.
    pub async fn write_status(&mut self, status: &StreamJobStatus) -> Result<Effect, Error> {
        let (old, new) = (value(&self.job.status), value(status));
        let Some(change) = difference(&old, &new) else { return Ok(Effect::None) };
        let patch = json!({"metadata": {"resourceVersion": self.version}, "status": change});
        let api = self.ctx.api::<StreamJob>(&self.key.namespace);
        let what = format!("status of StreamJob {}", self.key.name);
        let written = limited(api.patch_status(&self.key.name, &PatchParams::default(), &Patch::Merge(&patch))).await;
        let job = self.checked("patch", "StreamJob/status", what, written)?;
        self.wrote_job(job);
        Ok(Effect::Written)
    }

    async fn perform(&mut self, write: &Write) -> Result<Effect, Error> {
        match write {
            Write::Certificates => self.certificates().await,
            Write::Apply(object) => match object {
                Object::ConfigMap(object) => self.applied("ConfigMap", object.as_ref()).await,
                Object::Service(object) => self.applied("Service", object.as_ref()).await,
                Object::PodDisruptionBudget(object) => self.applied("PodDisruptionBudget", object.as_ref()).await,
                Object::NetworkPolicy(object) => self.applied("NetworkPolicy", object.as_ref()).await,
            },
            Write::CreateRevision(revision) => self.create_revision(revision).await,
            Write::CreatePod(pod) => self.create_pod(pod).await,
            Write::Annotate { revision, annotation: (name, value) } => {
                self.annotate(revision, &json!({name.as_str(): value})).await
            }
            Write::Label { pod, uid, label, value } => self.label(pod, uid, &json!({label.as_str(): value})).await,
            Write::DeletePod { pod, uid } => self.delete_pod(pod, uid).await,
            Write::DeleteRevision { revision, service } => self.delete_revision(revision, service).await,
            Write::Ask(ask) => self.ask(ask).await,
            Write::Finalizer(finalizer) => self.finalizer(*finalizer).await,
            Write::SavepointFinalizer { name, uid, finalizer } => self.savepoint_finalizer(name, uid, *finalizer).await,
            Write::SavepointStatus { name, uid, status } => {
                self.savepoint_status(name, uid, &value(status.as_ref())).await
            }
        }
    }

    async fn create_revision(&self, revision: &ControllerRevision) -> Result<Effect, Error> {
        let name = revision.name_any();
        let what = format!("ControllerRevision {name}");
        let api = self.ctx.api::<ControllerRevision>(&self.key.namespace);
        match limited(api.create(&post(), revision)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let there = limited(api.get(&name)).await;
                let there = self.checked("get", "ControllerRevision", what.clone(), there)?;
                let same = there.data == revision.data && there.revision == revision.revision && self.is_ours(&there);
                self.ctx.cluster.revisions.remember(there);
                if same { Ok(Effect::None) } else { Err(Error::Conflict { what }) }
            }
            created => {
                let created = self.checked("create", "ControllerRevision", what, created)?;
                self.ctx.cluster.revisions.remember(created);
                Ok(Effect::Written)
            }
        }
    }

    async fn create_pod(&self, pod: &Pod) -> Result<Effect, Error> {
        let name = pod.name_any();
        let what = format!("Pod {name}");
        let api = self.ctx.api::<Pod>(&self.key.namespace);
        match limited(api.create(&post(), pod)).await {
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                let there = limited(api.get(&name)).await;
                let there = self.checked("get", "Pod", what.clone(), there)?;
                let ours = self.is_ours(&there);
                self.ctx.cluster.pods.remember(there);
                if ours { Ok(Effect::None) } else { Err(Error::Conflict { what }) }
            }
            created => {
                let created = self.checked("create", "Pod", what, created)?;
                tracing::info!(pod = name, namespace = self.key.namespace, "a pod was created");
                self.ctx.cluster.pods.remember(created);
                Ok(Effect::Written)
            }
        }
    }

    /// Replaces the object as it is but for annotations. A patch would do, but the API server writes a `<` in data that a
    /// patch does not touch as `\u003c`, finds the data changed by that, and refuses: it is immutable.
    async fn annotate(&self, revision: &str, annotations: &Value) -> Result<Effect, Error> {
        let api = self.ctx.api::<ControllerRevision>(&self.key.namespace);
        let what = format!("ControllerRevision {revision}");
        let there = limited(api.get(revision)).await;
        let mut there = self.checked("get", "ControllerRevision", what.clone(), there)?;
        let marks = there.metadata.annotations.get_or_insert_default();
        for (name, mark) in annotations.as_object().into_iter().flatten() {
            match mark.as_str() {
                Some(mark) => drop(marks.insert(name.clone(), mark.to_owned())),
                None => drop(marks.remove(name)),
            }
        }
        there.metadata.managed_fields = None;
        let written = limited(api.replace(revision, &post(), &there)).await;
        let revision = self.checked("update", "ControllerRevision", what, written)?;
        self.ctx.cluster.revisions.remember(revision);
        Ok(Effect::Written)
    }

    async fn label(&self, pod: &str, uid: &str, labels: &Value) -> Result<Effect, Error> {
        let patch = json!({"metadata": {"uid": uid, "labels": labels}});
        let api = self.ctx.api::<Pod>(&self.key.namespace);
        let written = limited(api.patch(pod, &PatchParams::default(), &Patch::Merge(&patch))).await;
        if self.is_gone(&written) {
            self.ctx.cluster.pods.forget(self.key, pod);
            return Ok(Effect::None);
        }
        let pod = self.checked("patch", "Pod", format!("Pod {pod}"), written)?;
        self.ctx.cluster.pods.remember(pod);
        Ok(Effect::Written)
    }

    async fn delete_pod(&self, pod: &str, uid: &str) -> Result<Effect, Error> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let api = self.ctx.api::<Pod>(&self.key.namespace);
        let deleted = limited(api.delete(pod, &params)).await;
        if self.is_gone(&deleted) {
            self.ctx.cluster.pods.forget(self.key, pod);
            return Ok(Effect::None);
        }
        let deleted = self.checked("delete", "Pod", format!("Pod {pod}"), deleted)?;
        tracing::info!(pod, namespace = self.key.namespace, "a pod was deleted");
        match deleted.left() {
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => self.ctx.cluster.pods.remember(pod),
            _ => self.ctx.cluster.pods.forget(self.key, pod),
        }
        Ok(Effect::Written)
    }

    /// The revision goes last, so that what is left after a crash is deleted by the next round.
    async fn delete_revision(&self, revision: &str, service: &str) -> Result<Effect, Error> {
        self.delete::<ConfigMap>("ConfigMap", revision).await?;
        self.delete::<Service>("Service", service).await?;
        self.ctx.cluster.services.forget(self.key, service);
        self.delete::<ControllerRevision>("ControllerRevision", revision).await?;
        self.ctx.cluster.revisions.forget(self.key, revision);
        Ok(Effect::Written)
    }

    async fn ask(&self, ask: &Ask) -> Result<Effect, Error> {
        let subject = ask.request.subject();
        let unknown = || Error::Unknown { pod: ask.pod.clone() };
        let other = JobKey::new(&self.key.namespace, &ask.job);
        let uid = if other == *self.key {
            self.uid.to_owned()
        } else {
            self.ctx.cluster.jobs.get(&other, &ask.job).ok_or_else(unknown)?.uid
        };
        let credentials = observe::credentials(self.ctx, &other, &uid).await.ok_or_else(unknown)?;
        let peer = observe::peer(&ask.address, credentials).ok_or_else(unknown)?;
        let asked = Leader::new(self.ctx.transport.as_ref(), &peer).ask(&ask.request).await;
        self.ctx.metrics.asked_leader("change", if asked.is_ok() { Outcome::Done } else { Outcome::Failed });
        match asked {
            Ok(()) => {
                tracing::info!(pod = ask.pod, subject, namespace = self.key.namespace, "a leader was asked");
                self.ctx.notes.edit(self.uid, |note| note.accept(&subject));
                Ok(Effect::Asked)
            }
            Err(leader_client::Error::Refused { status, message }) if is_verdict(&ask.request, status) => {
                let refused = Refused { subject, status, message: message.clone(), at: self.ctx.now() };
                self.ctx.notes.edit(self.uid, |note| note.refuse(refused));
                Err(Error::Refused { pod: ask.pod.clone(), message })
            }
            Err(source) => Err(Error::Unasked { pod: ask.pod.clone(), subject, source }),
        }
    }

    async fn finalizer(&mut self, finalizer: Finalizer) -> Result<Effect, Error> {
        let before = self.job.finalizers();
        let Some(after) = with_finalizer(before, name::JOB_FINALIZER, finalizer) else { return Ok(Effect::None) };
        let patch = json!({"metadata": {"resourceVersion": self.version, "finalizers": after}});
        let api = self.ctx.api::<StreamJob>(&self.key.namespace);
        let written = limited(api.patch(&self.key.name, &PatchParams::default(), &Patch::Merge(&patch))).await;
        let job = self.checked("patch", "StreamJob", format!("StreamJob {}", self.key.name), written)?;
        self.wrote_job(job);
        Ok(Effect::Written)
    }

    async fn savepoint_finalizer(&self, name: &str, uid: &str, finalizer: Finalizer) -> Result<Effect, Error> {
        let Some(seen) = self.ctx.cluster.savepoints.get(self.key, name).filter(|seen| seen.uid == uid) else {
            return Ok(Effect::None);
        };
        let after = with_finalizer(&seen.kept.finalizers, name::SAVEPOINT_FINALIZER, finalizer);
        let Some(after) = after else { return Ok(Effect::None) };
        let patch = json!({"metadata": {"resourceVersion": seen.version, "finalizers": after}});
        self.patch_savepoint(name, &patch, "Savepoint").await
    }

    async fn savepoint_status(&self, name: &str, uid: &str, status: &Value) -> Result<Effect, Error> {
        let Some(seen) = self.ctx.cluster.savepoints.get(self.key, name).filter(|seen| seen.uid == uid) else {
            return Ok(Effect::None);
        };
        let Some(change) = difference(&value(&seen.kept.seen.status), status) else { return Ok(Effect::None) };
        let patch = json!({"metadata": {"resourceVersion": seen.version}, "status": change});
        self.patch_savepoint(name, &patch, "Savepoint/status").await
    }

    async fn patch_savepoint(&self, name: &str, patch: &Value, kind: &'static str) -> Result<Effect, Error> {
        let api = self.ctx.api::<Savepoint>(&self.key.namespace);
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let written = match kind {
            "Savepoint/status" => limited(api.patch_status(name, &params, &patch)).await,
            _ => limited(api.patch(name, &params, &patch)).await,
        };
        if self.is_gone(&written) {
            self.ctx.cluster.savepoints.forget(self.key, name);
            return Ok(Effect::None);
        }
        let savepoint = self.checked("patch", kind, format!("Savepoint {name}"), written)?;
        // The last finalizer of a deleted one: it is gone.
        if savepoint.metadata.deletion_timestamp.is_some() && savepoint.finalizers().is_empty() {
            self.ctx.cluster.savepoints.forget(self.key, name);
        } else {
            self.ctx.cluster.savepoints.remember(savepoint);
        }
        Ok(Effect::Written)
    }

    fn wrote_job(&mut self, job: StreamJob) {
        self.version = job.resource_version().unwrap_or_default();
        self.job.status.clone_from(&job.status);
        self.job.metadata.finalizers.clone_from(&job.metadata.finalizers);
        if job.metadata.deletion_timestamp.is_some() && job.finalizers().is_empty() {
            self.ctx.cluster.jobs.forget(self.key, &self.key.name);
        } else {
            self.ctx.cluster.jobs.remember(job);
        }
    }

    /// Whether an object was made for this StreamJob, not for an earlier one of its name.
    fn is_ours(&self, object: &impl Resource) -> bool {
        let owners = object.owner_references();
        owners.iter().find(|owner| owner.controller == Some(true)).is_none_or(|owner| owner.uid == self.uid)
    }

    /// Whether an object is not there, or another one has its name: then nothing is to be done about it.
    fn is_gone<T>(&self, answer: &kube::Result<T>) -> bool {
        matches!(answer, Err(kube::Error::Api(status)) if status.code == 404)
    }

    /// The answer to a write, counted, and its refusals told apart.
    fn checked<T>(
        &self,
        verb: &'static str,
        kind: &'static str,
        what: String,
        answer: kube::Result<T>,
    ) -> Result<T, Error> {
        let answer = answer.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 409 => Error::Conflict { what },
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 413 | 422) => {
                Error::Denied { what, message: status.message.clone() }
            }
            other => Error::Unwritten { what, source: Box::new(other) },
        });
        let outcome = match &answer {
            Ok(_) => Outcome::Done,
            Err(Error::Conflict { .. }) => Outcome::Conflict,
            Err(_) => Outcome::Failed,
        };
        self.ctx.metrics.wrote(verb, kind, outcome);
        answer
    }
}

/// The step that is new, then the writes in their order, until one fails. A pod that the cluster denies hinders no
/// savepoint: these are looked after all the same.
pub async fn apply(round: &mut Round<'_>, status: &StreamJobStatus, writes: &[Write]) -> Result<Effect, Error> {
    let mut effect = Effect::None;
    if status.change != round.status().change {
        effect = round.write_status(status).await?;
    }
    let mut denied = None;
    for write in writes {
        if denied.is_some() && !is_of_savepoint(write) {
            continue;
        }
        match round.perform(write).await {
            Ok(written) => effect = effect.max(written),
            Err(error @ Error::Denied { .. }) if matches!(write, Write::CreatePod(_)) => denied = Some(error),
            Err(error) => return Err(denied.unwrap_or(error)),
        }
    }
    denied.map_or(Ok(effect), Err)
}

/// Whether this is about a Savepoint, and needs nothing of what is written before it.
fn is_of_savepoint(write: &Write) -> bool {
    match write {
        Write::SavepointFinalizer { .. } | Write::SavepointStatus { .. } => true,
        Write::Ask(ask) => match &ask.request {
            LeaderRequest::TakeSavepoint { then, .. } => *then == Then::Continue,
            LeaderRequest::ReleaseSavepoint { .. } => true,
            LeaderRequest::Assign(_) => false,
        },
        _ => false,
    }
}

/// Whether a refusal is the leader's verdict on the request, not one that another try may change.
fn is_verdict(request: &LeaderRequest, status: u16) -> bool {
    let savepoint = matches!(request, LeaderRequest::TakeSavepoint { .. });
    ((400..500).contains(&status) && status != 429) || (savepoint && status == 500)
}

/// The finalizers after a change; none if nothing changes.
fn with_finalizer(before: &[String], name: &str, finalizer: Finalizer) -> Option<Vec<String>> {
    let is_there = before.iter().any(|of| of == name);
    let others = || before.iter().filter(|of| *of != name).cloned();
    match finalizer {
        Finalizer::Set if !is_there => Some(others().chain([name.to_owned()]).collect()),
        Finalizer::Removed if is_there => Some(others().collect()),
        _ => None,
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(name::CONTROLLER.to_owned()), ..PostParams::default() }
}

fn value(of: &impl serde::Serialize) -> Value {
    serde_json::to_value(of).expect("what came from JSON goes back into it")
}
