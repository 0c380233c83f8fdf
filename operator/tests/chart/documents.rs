//! What the chart's alerts and its dashboard name exists, and is written down.

use std::collections::BTreeSet;

use serde_json::Value;
use weir_crds::Reason;

use crate::helm::CHART;

fn text(path: &str) -> String {
    std::fs::read_to_string(format!("{CHART}/{path}")).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn guide(name: &str) -> String {
    text(&format!("../../docs/{name}"))
}

fn alerts() -> Vec<Value> {
    let file: Value = serde_yaml::from_str(&text("files/alerts.yaml")).unwrap();
    file["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// Names of metrics in a PromQL expression.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    let bare = |word: &str| {
        let word = word.strip_suffix("_bucket").or_else(|| word.strip_suffix("_count")).unwrap_or(word);
        word.to_owned()
    };
    words.filter(|word| word.starts_with("weir_") || word.starts_with("process_")).map(bare).collect()
}

fn are_documented(of: &str, expression: &str) {
    let documented = guide("metrics.md");
    let names = metrics(expression);
    assert!(!names.is_empty(), "{of} asks for no metric: {expression}");
    for name in names {
        assert!(documented.contains(&format!("| `{name}` |")), "{of}: docs/metrics.md does not know {name}");
    }
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    for alert in alerts() {
        are_documented(alert["alert"].as_str().unwrap(), alert["expr"].as_str().unwrap());
    }
    let dashboard: Value = serde_json::from_str(&text("files/dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let asking: Vec<&Value> = panels.iter().filter(|panel| panel["type"] != "row").collect();
    assert!(asking.len() > 15);
    for panel in asking {
        for target in panel["targets"].as_array().unwrap() {
            are_documented(panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap());
        }
    }
}

#[test]
fn each_alert_has_its_runbook() {
    let operations = guide("operations.md");
    let headings: BTreeSet<&str> = operations.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        assert!(headings.contains(name), "docs/operations.md lacks the heading ### {name}");
        for key in ["summary", "description"] {
            assert!(alert["annotations"][key].is_string(), "{name} has no {key}");
        }
        assert!(alert["for"].is_string() && alert["labels"]["severity"].is_string(), "{name}");
    }
}

#[test]
fn each_reason_is_explained_and_has_its_runbook() {
    let (operations, kubernetes) = (guide("operations.md"), guide("kubernetes.md"));
    for reason in Reason::ALL {
        let row = format!("| `{}` | {} |", reason.name(), reason.explained().trim());
        assert!(kubernetes.contains(&row), "docs/kubernetes.md lacks the row {row}");
        let runbook = format!("`{}`", reason.name());
        assert!(operations.contains(&runbook), "docs/operations.md does not name {runbook}");
    }
}
