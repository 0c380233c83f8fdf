//! The jobs of the Nexmark benchmark.

use serde_json::json;

/// The queries by name, in their order.
pub(super) const QUERIES: [(&str, &str); 6] = [
    ("q0", include_str!("../../../../examples/nexmark/q0.sql")),
    ("q1", include_str!("../../../../examples/nexmark/q1.sql")),
    ("q2", include_str!("../../../../examples/nexmark/q2.sql")),
    ("q11", include_str!("../../../../examples/nexmark/q11.sql")),
    ("q17", include_str!("../../../../examples/nexmark/q17.sql")),
    ("q22", include_str!("../../../../examples/nexmark/q22.sql")),
];

/// What the generator is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Generator {
    /// How many events there are; `None` for no end.
    pub events: Option<u64>,
    /// Events per second of event time.
    pub event_rate: u64,
    /// Events per second of real time; `None` for full speed.
    pub rate: Option<u64>,
    /// Other seeds, other events.
    pub seed: i64,
}

/// The manifest of one query's job, in YAML's subset JSON.
#[must_use]
pub(super) fn manifest(query: &str, sql: &str, generator: &Generator, parallelism: u32) -> String {
    let job = json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": format!("nexmark-{query}")},
        "spec": {
            "parallelism": parallelism,
            "maxParallelism": parallelism.max(128),
            "restart": {"none": {}},
            "pipeline": {"sql": script(sql, generator)},
        },
    });
    job.to_string()
}

/// A query over the generator's tables.
#[must_use]
pub(super) fn script(sql: &str, generator: &Generator) -> String {
    format!("{}\n{sql}", tables(generator))
}

fn tables(generator: &Generator) -> String {
    let mut options = vec![
        ("connector", "nexmark".to_owned()),
        ("first-event.rate", generator.event_rate.to_string()),
        ("seed", generator.seed.to_string()),
    ];
    options.extend(generator.events.map(|events| ("events.num", events.to_string())));
    options.extend(generator.rate.map(|rate| ("rate", rate.to_string())));
    let options: Vec<String> = options.iter().map(|(key, value)| format!("'{key}' = '{value}'")).collect();
    include_str!("tables.sql").replace("${options}", &options.join(", "))
}
