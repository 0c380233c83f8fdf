//! The CEL rules of the CRDs, each with the message that a user reads from the API server.
//!
//! `validate` holds the same rules in Rust; the table of manifests in the tests runs both. A rule that compares
//! durations lets those through that CEL cannot read: `2d`, which `validate` catches in the controller, and what is no
//! duration at all, which has its own message. Every text that a rule touches has a `maxLength` in the schema, which
//! keeps the rules within the API server's cost budget.

use serde_json::{Value, json};

/// One rule: `cel` is true for what is allowed.
pub(crate) struct Rule {
    cel: &'static str,
    message: &'static str,
    /// The field below the rule's place that is to be changed, with a dot before it; empty: the place itself.
    field: &'static str,
}

/// Whether CEL cannot read the duration in a field.
macro_rules! unreadable {
    ($field:literal) => {
        concat!(
            "size(",
            $field,
            ") < 2 || !",
            $field,
            ".matches('^([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,12}ms)?$')"
        )
    };
}

impl Rule {
    /// As kube's derive wants it for the root of a resource.
    pub(crate) fn at_root(&self) -> kube::core::Rule {
        kube::core::Rule::new(self.cel).message(self.message)
    }

    fn to_json(&self) -> Value {
        let mut rule = json!({"rule": self.cel, "message": self.message});
        if !self.field.is_empty() {
            rule["fieldPath"] = self.field.into();
        }
        rule
    }
}

/// The value of `x-kubernetes-validations`.
pub(crate) fn list(rules: &[&Rule]) -> Value {
    rules.iter().map(|rule| rule.to_json()).collect()
}

pub(crate) const JOB_NAME_LENGTH: Rule = Rule {
    cel: "size(self.metadata.name) <= 45",
    message: "metadata.name is longer than 45 characters: pods and services add suffixes to it",
    field: "",
};
pub(crate) const JOB_NAME_FORM: Rule = Rule {
    cel: "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    message: "metadata.name must begin with a letter and hold only a-z, 0-9 and -: services carry it",
    field: "",
};
pub(crate) const SAVEPOINT_NAME_LENGTH: Rule =
    Rule { cel: "size(self.metadata.name) <= 63", message: "metadata.name is longer than 63 characters", field: "" };
pub(crate) const JOB_REF_FIXED: Rule =
    Rule { cel: "self == oldSelf", message: "jobRef cannot be changed: create another Savepoint", field: "" };

pub(crate) const PARALLELISM_WITHIN_MAX: Rule = Rule {
    cel: "self.parallelism <= self.maxParallelism",
    message: "parallelism is above maxParallelism, the number of key groups that can be spread",
    field: ".parallelism",
};
pub(crate) const MAX_PARALLELISM_FIXED: Rule = Rule {
    cel: "self == oldSelf",
    message: "maxParallelism cannot be changed: the state is divided into that many key groups; create a new StreamJob",
    field: "",
};
pub(crate) const STORAGE_KEPT: Rule = Rule {
    cel: "!has(oldSelf.storage) || has(self.storage)",
    message: "storage cannot be removed: the job's state lies there",
    field: ".storage",
};
pub(crate) const STORAGE_KIND_FIXED: Rule = Rule {
    cel: "has(self.s3) == has(oldSelf.s3) && has(self.local) == has(oldSelf.local) && \
          has(self.persistentVolumeClaim) == has(oldSelf.persistentVolumeClaim)",
    message: "storage cannot be moved: the job's state lies there; restore a savepoint into a new StreamJob",
    field: "",
};
pub(crate) const PLACE_FIXED: Rule = Rule {
    cel: "self == oldSelf",
    message: "storage cannot be moved: the job's state lies there; restore a savepoint into a new StreamJob",
    field: "",
};
pub(crate) const ONE_SQL: Rule = Rule {
    cel: "has(self.sql) != has(self.sqlFrom)",
    message: "pipeline needs exactly one of sql and sqlFrom",
    field: "",
};
pub(crate) const ONE_STORAGE: Rule = Rule {
    cel: "[has(self.s3), has(self.local), has(self.persistentVolumeClaim)].filter(x, x).size() == 1",
    message: "storage needs exactly one of s3, local and persistentVolumeClaim",
    field: "",
};
pub(crate) const ONE_RESTART: Rule = Rule {
    cel: "[has(self.exponentialDelay), has(self.fixedDelay), has(self.failureRate), has(self.none)]\
          .filter(x, x).size() == 1",
    message: "restart needs exactly one of exponentialDelay, fixedDelay, failureRate and none",
    field: "",
};
pub(crate) const ONE_RESTORE: Rule = Rule {
    cel: "[has(self.savepoint), has(self.path), has(self.job)].filter(x, x).size() <= 1",
    message: "restoreFrom takes at most one of savepoint, path and job",
    field: "",
};
pub(crate) const SUB_PATH: Rule = Rule {
    cel: "!self.startsWith('/') && !self.split('/').exists(part, part == '..')",
    message: "subPath must be relative to the volume and hold no `..`",
    field: "",
};
pub(crate) const INTERVAL: Rule = Rule {
    cel: concat!(unreadable!("self.interval"), " || duration(self.interval) >= duration('10ms')"),
    message: "checkpoint.interval is shorter than 10ms",
    field: ".interval",
};
pub(crate) const TIMEOUT: Rule = Rule {
    cel: concat!(unreadable!("self.timeout"), " || duration(self.timeout) >= duration('10ms')"),
    message: "checkpoint.timeout is shorter than 10ms",
    field: ".timeout",
};
pub(crate) const UNALIGNED_BEFORE_TIMEOUT: Rule = Rule {
    cel: concat!(
        "!has(self.unaligned) || ",
        unreadable!("self.unaligned.after"),
        " || ",
        unreadable!("self.timeout"),
        " || duration(self.unaligned.after) < duration(self.timeout)"
    ),
    message: "checkpoint.unaligned.after is not shorter than checkpoint.timeout, so it would never happen",
    field: ".unaligned.after",
};
pub(crate) const DELAY_STARTS: Rule = Rule {
    cel: concat!(unreadable!("self.initial"), " || duration(self.initial) > duration('0s')"),
    message: "exponentialDelay.initial is zero: it could not grow",
    field: ".initial",
};
pub(crate) const DELAY_GROWS: Rule = Rule {
    cel: concat!(
        unreadable!("self.initial"),
        " || ",
        unreadable!("self.max"),
        " || duration(self.initial) <= duration(self.max)"
    ),
    message: "exponentialDelay.initial is longer than exponentialDelay.max",
    field: ".initial",
};
pub(crate) const WINDOW: Rule = Rule {
    cel: concat!(unreadable!("self.window"), " || duration(self.window) > duration('0s')"),
    message: "failureRate.window is zero: no failure would be counted",
    field: ".window",
};
pub(crate) const DEADLINE: Rule = Rule {
    cel: concat!(unreadable!("self.deadline"), " || duration(self.deadline) > duration('0s')"),
    message: "rollback.deadline is zero: every upgrade would be rolled back",
    field: ".deadline",
};
