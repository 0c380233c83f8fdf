//! The controller's requests to the API server, out of the audit log.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// How many requests of which kind.
pub(crate) type Counts = BTreeMap<String, u64>;

/// All requests so far, as `verb resource`. Watches count when they end.
pub(crate) fn counted(log: &Path) -> Counts {
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut counts = Counts::new();
    // The last line may be half written.
    for request in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let of = |field: &str| request["objectRef"][field].as_str().unwrap_or_default().to_owned();
        let subresource = Some(of("subresource")).filter(|of| !of.is_empty()).map(|of| format!("/{of}"));
        let verb = request["verb"].as_str().unwrap_or_default();
        *counts.entry(format!("{verb} {}{}", of("resource"), subresource.unwrap_or_default())).or_default() += 1;
    }
    counts
}

/// What came since, and the kinds of it, most frequent first.
pub(crate) fn told(before: &Counts, after: &Counts, seconds: f64) -> String {
    let since = after.iter().map(|(kind, count)| (count - before.get(kind).copied().unwrap_or(0), kind));
    let mut since: Vec<_> = since.filter(|(count, _)| *count > 0).collect();
    since.sort_by(|one, other| other.cmp(one));
    let all: u64 = since.iter().map(|(count, _)| count).sum();
    let kinds: Vec<String> = since.iter().map(|(count, kind)| format!("{count} {kind}")).collect();
    format!("{all} requests, {:.1} a second: {}", all as f64 / seconds, kinds.join(", "))
}
