//! The Secrets with a job's certificates.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Resource, ResourceExt};

use super::{Effect, Error, Round, post};
use crate::certificates::{Role, Stored, authority_name, plan};
use crate::controller::limited;
use crate::model::name;

/// Certificates are looked at this often at least: somebody may have deleted one.
const LOOK: SignedDuration = SignedDuration::from_mins(10);

impl Round<'_> {
    /// The job's certificates are as they should be: the authority's Secret is written first, the others follow from it.
    pub(super) async fn certificates(&self) -> Result<Effect, Error> {
        let now = self.ctx.now();
        let note = self.ctx.notes.get(self.uid);
        if note.certified.is_some_and(|until| now < until) {
            return Ok(Effect::None);
        }
        let api = self.ctx.api::<Secret>(&self.key.namespace);
        let names = [
            authority_name(&self.key.name),
            Role::Worker.secret(&self.key.name),
            Role::Controller.secret(&self.key.name),
        ];
        let [authority, worker, controller] = &names;
        let stored = Stored {
            authority: self.stored(&api, authority).await?,
            worker: self.stored(&api, worker).await?,
            controller: self.stored(&api, controller).await?,
        };
        let plan = plan(now, &self.ctx.terms, &stored).map_err(Error::Certificates)?;
        let mut effect = Effect::None;
        for (object, before, data) in [
            (authority, stored.authority, plan.authority.map(|of| of.data())),
            (worker, stored.worker, plan.worker.map(|of| of.data())),
            (controller, stored.controller, plan.controller.map(|of| of.data())),
        ] {
            if let Some(data) = data {
                self.write_secret(&api, object, before, data).await?;
                effect = Effect::Written;
            }
        }
        let until = plan.look_again.min(now + LOOK);
        self.ctx.notes.edit(self.uid, |note| {
            note.certified = Some(until);
            note.credentials = Some((Arc::new(plan.identity), until));
        });
        Ok(effect)
    }

    /// A Secret that was made for an earlier job of the same name is about to be deleted with it: it is waited for.
    async fn stored(&self, api: &Api<Secret>, object: &str) -> Result<Option<Secret>, Error> {
        let what = format!("Secret {object}");
        let read = limited(api.get_opt(object)).await;
        match self.checked("get", "Secret", what.clone(), read)? {
            Some(secret) if !self.is_ours(&secret) => Err(Error::Conflict { what }),
            read => Ok(read),
        }
    }

    /// Created if it was not there, else replaced in the version that was read.
    async fn write_secret(
        &self,
        api: &Api<Secret>,
        object: &str,
        before: Option<Secret>,
        data: BTreeMap<String, ByteString>,
    ) -> Result<(), Error> {
        let what = format!("Secret {object}");
        let labels = [
            (name::LABEL_APP, name::APP),
            (name::LABEL_MANAGED_BY, name::CONTROLLER),
            (name::LABEL_JOB, &self.key.name),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut secret = before.unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(object.to_owned()),
                owner_references: self.job.controller_owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            ..Secret::default()
        });
        secret.labels_mut().extend(labels);
        secret.data = Some(data);
        if secret.resource_version().is_some() {
            let written = limited(api.replace(object, &post(), &secret)).await;
            self.checked("update", "Secret", what, written).map(drop)
        } else {
            let written = limited(api.create(&post(), &secret)).await;
            self.checked("create", "Secret", what, written).map(drop)
        }
    }
}
