//! What is seen of a job: the cluster as it was watched, what its leaders say, and what only a request can tell.
//!
//! Nothing is written here. What a leader does not answer is seen as its silence, never as a failure of the look.
//!
//! # Rights
//!
//! Besides those of [`crate::apply`] and [`crate::events`], the controller needs these (in the namespaces that it looks after,
//! as a ClusterRole or as a Role in each):
//!
//! | group | resources | verbs |
//! |---|---|---|
//! | `weir.dev` | `streamjobs`, `savepoints` | `list`, `watch` |
//! | (core) | `pods`, `configmaps` | `get`, `list`, `watch` |
//! | (core) | `services` | `list`, `watch` |
//! | (core) | `secrets` | `get` |
//! | (core) | `namespaces` | `get` |
//! | `apps` | `controllerrevisions` | `get`, `list`, `watch` |
//! | `policy` | `poddisruptionbudgets` | `list`, `watch` |
//! | `networking.k8s.io` | `networkpolicies` | `list`, `watch` |
//!
//! Secrets are neither listed nor watched: those of a job are read by name. Without `get` of `namespaces` a job whose
//! namespace is being deleted is cleaned up as if it were not, which its deadline ends.

mod leaders;
mod origin;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::{Api, Resource};
use weir_crds::{ConfigMapKey, Mistake, Sql, ValidatedJob};

pub use leaders::{chain, credentials, peer};

use crate::build;
use crate::cluster::{Entry, JobKey, KeptJob};
use crate::controller::{Context, limited};
use crate::model::{Needed, Observed, Phase, Wish};

/// How long a Secret or ConfigMap that was there is not looked for again: that one is missing is said within a minute.
const BELIEVED: SignedDuration = SignedDuration::from_secs(30);

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer a question, or refused it.
    #[error("{what} could not be read")]
    Unread {
        /// What was asked for.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
}

/// What the user's fields say, or every mistake in them.
pub type Validated = Result<ValidatedJob, Vec<Mistake>>;

/// Everything about a job, as it is now.
pub async fn observe(
    ctx: &Context,
    key: &JobKey,
    entry: &Entry<KeptJob>,
    validated: Validated,
) -> Result<Observed, Error> {
    let note = ctx.notes.get(&entry.uid);
    let services = ctx.cluster.services.of(key).into_iter().map(|(name, entry)| (name, entry.kept.0.clone()));
    let pods: Vec<_> = ctx.cluster.pods.made_for(key, &entry.uid).iter().map(|pod| (*pod.kept).clone()).collect();
    let mut observed = Observed {
        job: entry.kept.0.clone(),
        wish: wish(ctx, key, validated).await?,
        default_image: ctx.default_image.clone(),
        revisions: ctx.cluster.revisions.made_for(key, &entry.uid).iter().map(|of| of.kept.seen()).collect(),
        leaders: leaders::leaders(ctx, key, &entry.uid, &pods).await,
        pods,
        services: services.collect(),
        refused: note.refused,
        savepoints: ctx.cluster.savepoints.of(key).iter().map(|(_, of)| of.kept.seen.clone()).collect(),
        origin: None,
        missing: Vec::new(),
        denied: note.denied,
        namespace_ends: false,
    };
    observed.origin = origin::origin(ctx, key, &entry.uid, &observed.wish).await;
    if !is_steady(&observed) {
        observed.missing = missing(ctx, key, &entry.uid, &observed).await?;
    }
    if observed.deleted().is_some() {
        observed.namespace_ends = namespace_ends(ctx, &key.namespace).await;
    }
    Ok(observed)
}

async fn wish(ctx: &Context, key: &JobKey, validated: Validated) -> Result<Wish, Error> {
    let job = match validated {
        Ok(job) => job,
        Err(mistakes) => {
            let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            return Ok(Wish::Invalid { message: mistakes.join("; ") });
        }
    };
    let sql = match &job.sql {
        Sql::Inline(sql) => Ok(sql.clone()),
        Sql::ConfigMap(from) => sql_from(ctx, &key.namespace, from).await?,
    };
    Ok(match sql {
        Ok(sql) => Wish::Valid { job: Box::new(job), sql },
        Err(message) => Wish::NoSql { message },
    })
}

/// The text under a key of a ConfigMap, or what is missing.
async fn sql_from(ctx: &Context, namespace: &str, from: &ConfigMapKey) -> Result<Result<String, String>, Error> {
    let ConfigMapKey { name, key } = from;
    let missing =
        format!("spec.pipeline.sqlFrom: there is no ConfigMap {name} in the namespace {namespace}; create it");
    let Some(texts) = texts(ctx, &JobKey::new(namespace, name)).await? else { return Ok(Err(missing)) };
    Ok(texts.get(key).cloned().ok_or_else(|| {
        let keys: Vec<&str> = texts.keys().map(String::as_str).collect();
        format!("spec.pipeline.sqlFrom: the ConfigMap {name} has no key {key}; it has {}", keys.join(", "))
    }))
}

/// A ConfigMap is read when its version has changed.
async fn texts(ctx: &Context, config_map: &JobKey) -> Result<Option<Arc<BTreeMap<String, String>>>, Error> {
    if let Some(texts) = ctx.cluster.texts(config_map) {
        return Ok(Some(texts));
    }
    let api: Api<ConfigMap> = ctx.api(&config_map.namespace);
    let read = limited(api.get_opt(&config_map.name)).await;
    let read = read.map_err(|error| unread(format!("ConfigMap {}", config_map.name), error))?;
    Ok(read.map(|config_map| ctx.cluster.remember_texts(config_map)))
}

/// Whether all of the job's pods are there and ready, so that they have all that they mount.
fn is_steady(observed: &Observed) -> bool {
    !observed.pods.is_empty()
        && observed.pods.iter().all(|pod| pod.phase == Phase::Running && pod.container.ready && !pod.deleting)
}

async fn missing(ctx: &Context, key: &JobKey, uid: &str, observed: &Observed) -> Result<Vec<Needed>, Error> {
    let mut missing = Vec::new();
    for needed in build::needed(observed) {
        let now = ctx.now();
        if ctx.notes.get(uid).found.get(&needed).is_some_and(|until| now < *until) {
            continue;
        }
        if is_there(ctx, key, &needed).await? {
            ctx.notes.edit(uid, |note| note.found.insert(needed, now + BELIEVED));
        } else {
            missing.push(needed);
        }
    }
    Ok(missing)
}

async fn is_there(ctx: &Context, key: &JobKey, needed: &Needed) -> Result<bool, Error> {
    let (found, what) = match needed {
        Needed::Secret(name) => {
            let api: Api<Secret> = ctx.api(&key.namespace);
            (limited(api.get_metadata_opt(name)).await.map(|secret| secret.is_some()), format!("Secret {name}"))
        }
        Needed::ConfigMap(name) => {
            let api: Api<ConfigMap> = ctx.api(&key.namespace);
            (limited(api.get_metadata_opt(name)).await.map(|found| found.is_some()), format!("ConfigMap {name}"))
        }
    };
    found.map_err(|error| unread(what, error))
}

/// Whether nothing new can be made in a namespace. Where this may not be known, it is taken to be usable.
async fn namespace_ends(ctx: &Context, namespace: &str) -> bool {
    let api: Api<Namespace> = Api::all(ctx.client.clone());
    match limited(api.get_opt(namespace)).await {
        Ok(Some(namespace)) => namespace.meta().deletion_timestamp.is_some(),
        Ok(None) => true,
        Err(_) => false,
    }
}

fn unread(what: String, error: kube::Error) -> Error {
    Error::Unread { what, source: Box::new(error) }
}
