//! Rules of a bucket that end uploads which nobody has ended for days.

use super::bucket::Bucket;
use super::fault::Fault;
use super::meter::Operation;
use super::retry::Requests;
use crate::failure::Result;
use aws_sdk_s3::types::{ExpirationStatus, LifecycleRule};

/// A rule by which the store gives uploads up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbortRule {
    /// Its name in the bucket's configuration.
    pub id: String,
    /// Days from the beginning of an upload to its end.
    pub days: i32,
}

impl Bucket {
    /// The rule that gives up uploads of names which begin with `prefix`, the quickest one; `None` where there is none,
    /// and where the rules cannot be read: many stores have none, and their reading is a right of its own.
    #[must_use]
    pub fn abort_rule(&self, prefix: &str) -> Option<AbortRule> {
        let prefix = prefix.to_owned();
        let found: Result<_> = self.run(|requests| async move {
            let rules = requests.attempt(Operation::List, 0, || requests.rules_once()).await.unwrap_or_default();
            Ok(quickest(&rules, &prefix))
        });
        found.ok().flatten()
    }
}

impl Requests {
    async fn rules_once(&self) -> Result<Vec<LifecycleRule>, Fault> {
        let get = self.client().get_bucket_lifecycle_configuration().bucket(&self.settings.bucket);
        Ok(get.send().await.map_err(Fault::of)?.rules.unwrap_or_default())
    }
}

fn quickest(rules: &[LifecycleRule], prefix: &str) -> Option<AbortRule> {
    let aborting = rules.iter().filter(|rule| *rule.status() == ExpirationStatus::Enabled && concerns(rule, prefix));
    let aborting = aborting.filter_map(|rule| {
        let days = rule.abort_incomplete_multipart_upload()?.days_after_initiation()?;
        Some(AbortRule { id: rule.id().unwrap_or("without a name").to_owned(), days })
    });
    aborting.min_by_key(|rule| rule.days)
}

/// Whether names that begin with `prefix` can be among the rule's. Uploads have no tags and no size: a rule that asks
/// for such things does not end them.
fn concerns(rule: &LifecycleRule, prefix: &str) -> bool {
    #[expect(deprecated, reason = "old rules have their prefix there")]
    let outside = rule.prefix();
    let filter = rule.filter();
    let of_and = filter.and_then(|filter| filter.and()).and_then(|and| and.prefix());
    let of_rule = filter.and_then(|filter| filter.prefix()).or(of_and).or(outside).unwrap_or_default();
    prefix.starts_with(of_rule) || of_rule.starts_with(prefix)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use aws_sdk_s3::types::{AbortIncompleteMultipartUpload, LifecycleRuleFilter};

    fn rule(id: &str, prefix: Option<&str>, days: Option<i32>, status: ExpirationStatus) -> LifecycleRule {
        let filter = prefix.map(|prefix| LifecycleRuleFilter::builder().prefix(prefix).build());
        let abort = days.map(|days| AbortIncompleteMultipartUpload::builder().days_after_initiation(days).build());
        let rule = LifecycleRule::builder().id(id).set_filter(filter).status(status);
        rule.set_abort_incomplete_multipart_upload(abort).build().unwrap()
    }

    #[test]
    fn the_quickest_rule_that_concerns_a_prefix_is_found() {
        use ExpirationStatus::{Disabled, Enabled};
        let rules = [
            rule("expires", None, None, Enabled),
            rule("all", None, Some(7), Enabled),
            rule("out", Some("out/"), Some(2), Enabled),
            rule("deep", Some("in/deep/"), Some(3), Enabled),
            rule("off", Some("out/"), Some(1), Disabled),
        ];
        let found = |rules: &[LifecycleRule], prefix: &str| quickest(rules, prefix).map(|rule| (rule.id, rule.days));
        assert_eq!(found(&rules, "out/q11/"), Some(("out".to_owned(), 2)));
        assert_eq!(found(&rules, "in/"), Some(("deep".to_owned(), 3)));
        assert_eq!(found(&rules, "other/"), Some(("all".to_owned(), 7)));
        assert_eq!(found(&rules[2..], "other/"), None);
        assert_eq!(found(&rules[..1], "other/"), None);
    }
}
