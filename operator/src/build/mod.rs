//! The objects of a job: a pure function of what was decided.
//!
//! Everything belongs to the StreamJob and goes with it. Pods pass the restricted policy: no root, a root file system that
//! cannot be written, no capabilities, no token for the Kubernetes API. What a user adds to the pods cannot take any of
//! that away, and cannot change what the controller itself sets. Volumes are the exception, as they are passed on as they
//! were written: one of a template may be a token (`projected`), a Secret or a folder of the node (`hostPath`), and the
//! cluster's own policy says whether that passes.

mod objects;
mod pod;
mod secrets;
mod template;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::{BTreeMap, BTreeSet};
use weir_crds::{StreamJob, StreamJobSpec};

use crate::model::{Action, Decision, Mark, Needed, Object, Observed, RevisionSeen, Write, name};

/// The writes that a decision becomes, in order.
#[must_use]
pub fn build(observed: &Observed, decision: &Decision) -> Vec<Write> {
    decision.actions.iter().flat_map(|action| writes(observed, action)).collect()
}

/// What the pods of the job mount: Secrets that its SQL (`'${secret:name/key}'`) and its storage name, and what the
/// volumes of its template are made of. Sorted.
#[must_use]
pub fn needed(observed: &Observed) -> BTreeSet<Needed> {
    let specs = observed.revisions.iter().filter_map(spec_of);
    specs
        .flat_map(|spec| {
            let template = spec.worker.pod_template.clone().unwrap_or_default();
            let volumes = template.spec.unwrap_or_default().volumes;
            let ours = secrets::of(&spec).into_iter().map(Needed::Secret);
            ours.chain(secrets::in_volumes(&volumes)).collect::<Vec<_>>()
        })
        .collect()
}

/// The folder of a job's state, as paths name it: that of a volume as its pods see it.
#[must_use]
pub fn place(job: &StreamJob) -> Option<String> {
    let meta = &job.metadata;
    let (name, namespace, uid) = (meta.name.as_ref()?, meta.namespace.as_ref()?, meta.uid.as_ref()?);
    let storage = job.spec.storage.as_ref()?;
    let root = match (&storage.s3, &storage.local, &storage.persistent_volume_claim) {
        (Some(s3), ..) => format!("s3://{}/{}", s3.bucket, s3.prefix),
        (None, Some(local), _) => local.path.clone(),
        (None, None, Some(_)) => pod::VOLUME.to_owned(),
        (None, None, None) => return None,
    };
    Some(format!("{}/{namespace}/{name}-{uid}", root.trim_end_matches('/')))
}

/// Whether the pods of a job find at [`place`] what another one has there: a volume is there only for those that mount it.
#[must_use]
pub fn reads(job: &StreamJob, other: &StreamJob) -> bool {
    let claim = |job: &StreamJob| job.spec.storage.as_ref().and_then(|storage| storage.persistent_volume_claim.clone());
    claim(other).is_none() || claim(job) == claim(other)
}

fn writes(observed: &Observed, action: &Action) -> Vec<Write> {
    match action {
        Action::Certificates => vec![Write::Certificates],
        Action::Record { number, content } => {
            vec![Write::CreateRevision(Box::new(objects::revision(observed, *number, content)))]
        }
        Action::Mark { number, mark } => vec![annotate(observed, *number, mark)],
        Action::Forget { number } => vec![Write::DeleteRevision {
            revision: name::revision(observed.name(), *number),
            service: name::leader_service(observed.name(), *number),
        }],
        Action::Prepare { program, workers } => prepare(observed, *program, *workers),
        Action::Lead { program, attempt, address } => {
            let service = objects::leader_service(observed, *program, *attempt, address.as_deref());
            vec![Write::Apply(Object::Service(Box::new(service)))]
        }
        Action::Serve { revision, program, attempt } => {
            let service = objects::service(observed, *revision, *program, *attempt);
            vec![Write::Apply(Object::Service(Box::new(service)))]
        }
        Action::CreatePod(new) => created(program(observed, new.program), |at| pod::worker(observed, at, new)),
        Action::CreateCheck { revision, program: at, against } => {
            created(program(observed, *at), |at| pod::check(observed, (*revision, at), against))
        }
        Action::CreateMaintenance(work) => {
            created(program(observed, work.program), |at| pod::maintenance(observed, at, work))
        }
        Action::Activate { pod, uid, active } => vec![Write::Label {
            pod: pod.clone(),
            uid: uid.clone(),
            label: name::LABEL_ACTIVE.to_owned(),
            value: active.then(|| "true".to_owned()),
        }],
        Action::DeletePod { pod, uid } => vec![Write::DeletePod { pod: pod.clone(), uid: uid.clone() }],
        Action::Ask(ask) => vec![Write::Ask(ask.clone())],
        Action::Finalizer(finalizer) => vec![Write::Finalizer(*finalizer)],
        Action::SavepointFinalizer { name, uid, finalizer } => {
            vec![Write::SavepointFinalizer { name: name.clone(), uid: uid.clone(), finalizer: *finalizer }]
        }
        Action::SavepointStatus { name, uid, status } => {
            vec![Write::SavepointStatus { name: name.clone(), uid: uid.clone(), status: status.clone() }]
        }
    }
}

fn annotate(observed: &Observed, number: u64, mark: &Mark) -> Write {
    let (annotation, value) = mark.annotation();
    Write::Annotate { revision: name::revision(observed.name(), number), annotation: (annotation.to_owned(), value) }
}

fn prepare(observed: &Observed, at: u64, workers: u32) -> Vec<Write> {
    let config = program(observed, at).and_then(|revision| objects::config(observed, revision));
    let applied = config.map(|config| Write::Apply(Object::ConfigMap(Box::new(config))));
    let budget = Object::PodDisruptionBudget(Box::new(objects::disruption_budget(observed, workers)));
    let policy = Object::NetworkPolicy(Box::new(objects::network_policy(observed)));
    applied.into_iter().chain([Write::Apply(budget), Write::Apply(policy)]).collect()
}

/// Nothing is made of a program whose revision is gone.
fn created(
    program: Option<&RevisionSeen>,
    make: impl FnOnce(&RevisionSeen) -> Option<k8s_openapi::api::core::v1::Pod>,
) -> Vec<Write> {
    program.and_then(make).map(|pod| Write::CreatePod(Box::new(pod))).into_iter().collect()
}

fn program(observed: &Observed, number: u64) -> Option<&RevisionSeen> {
    observed.revisions.iter().find(|revision| revision.number == number)
}

/// The spec that the workers of a program read.
fn spec_of(program: &RevisionSeen) -> Option<StreamJobSpec> {
    serde_json::from_value(program.content.manifest.as_ref()?["spec"].clone()).ok()
}

/// Metadata of something that belongs to the job.
fn metadata(observed: &Observed, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(observed.namespace().to_owned()),
        labels: Some(labels(observed)),
        owner_references: Some(vec![OwnerReference {
            api_version: "weir.dev/v1alpha1".to_owned(),
            kind: "StreamJob".to_owned(),
            name: observed.name().to_owned(),
            uid: observed.uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

fn labels(observed: &Observed) -> BTreeMap<String, String> {
    [(name::LABEL_APP, name::APP), (name::LABEL_MANAGED_BY, name::CONTROLLER), (name::LABEL_JOB, observed.name())]
        .into_iter()
        .map(|(label, value)| (label.to_owned(), value.to_owned()))
        .collect()
}

/// Labels from pairs.
fn label_map<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(label, value)| (label.to_owned(), value)).collect()
}
