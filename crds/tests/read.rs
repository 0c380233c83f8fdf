//! What comes out of a manifest: defaults, choices, positions; and that no text can hurt.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use proptest::prelude::*;
use weir_crds::{
    CheckpointMode, Checkpointing, ConfigMapKey, DeletionPolicy, DesiredState, Position, RestartStrategy, RestoreFrom,
    Rollback, Sql, Storage, StreamJob, StreamJobSpec, UpgradeMode, ValidatedJob, parse, validate,
};

const HEAD: &str = "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {name: bids}\nspec:\n";

fn job(spec: &str) -> ValidatedJob {
    let text = format!("{HEAD}{spec}");
    parse(&text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{text}"))
}

#[test]
fn a_short_manifest_gets_the_documented_defaults() {
    let job = job("  pipeline: {sql: SELECT 1}\n");
    assert_eq!((job.name.as_str(), job.namespace.as_str()), ("bids", "default"));
    assert_eq!((job.parallelism, job.max_parallelism, job.slots_per_worker, job.workers()), (1, 128, 1, 1));
    assert_eq!((job.state, job.upgrade_mode), (DesiredState::Running, UpgradeMode::Savepoint));
    assert_eq!((job.restore_from, job.storage), (None, None));
    assert_eq!(job.sql, Sql::Inline("SELECT 1".into()));
    assert_eq!(
        job.checkpoint,
        Checkpointing {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(600),
            min_pause: Duration::ZERO,
            mode: CheckpointMode::ExactlyOnce,
            unaligned_after: None,
            tolerable_failures: 3,
            retain: 3,
        }
    );
    assert_eq!(
        job.restart,
        RestartStrategy::ExponentialDelay {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(60),
            multiplier: 2.0,
            jitter: 0.1,
            reset_after: Duration::from_secs(600),
        }
    );
    assert_eq!(job.rollback, Rollback { enabled: true, deadline: Duration::from_secs(300) });
    assert_eq!((job.allow_dropped_state, job.deletion_policy), (false, DeletionPolicy::Retain));
}

#[test]
fn defaults_survive_the_way_through_json_and_yaml() {
    let job = job("  pipeline: {sql: SELECT 1}\n").raw;
    let json: StreamJob = serde_json::from_str(&serde_json::to_string(&job).unwrap()).unwrap();
    assert_eq!(json, job);
    let yaml = serde_yaml::to_string(&job).unwrap();
    assert_eq!(parse(&yaml).unwrap().raw, job);
    let written: StreamJobSpec = serde_json::from_value(serde_json::json!({"pipeline": {"sql": "SELECT 1"}})).unwrap();
    assert_eq!(written, job.spec);
}

#[test]
fn every_default_of_the_types_passes_the_check() {
    let job = StreamJob::new("bids", job("  pipeline: {sql: SELECT 1}\n").raw.spec);
    assert!(validate(&job).is_ok());
}

#[test]
fn each_choice_becomes_its_variant() {
    let job = job("  pipeline: {sqlFrom: {configMapKeyRef: {name: queries, key: top.sql}}}
  parallelism: 5
  slotsPerWorker: 2
  restoreFrom: {job: {name: old}}
  checkpoint: {unaligned: {}}
  storage: {local: {path: ./state}}
  restart: {fixedDelay: {attempts: 7, delay: 1m30s}}
");
    assert_eq!(job.workers(), 3);
    assert_eq!(job.sql, Sql::ConfigMap(ConfigMapKey { name: "queries".into(), key: "top.sql".into() }));
    assert_eq!(job.sql_position, None);
    assert_eq!(job.restore_from, Some(RestoreFrom::Job("old".into())));
    assert_eq!(job.checkpoint.unaligned_after, Some(Duration::from_secs(30)));
    assert!(matches!(job.storage, Some(Storage::Local(local)) if local.path == "./state"));
    assert_eq!(job.restart, RestartStrategy::FixedDelay { attempts: 7, delay: Duration::from_secs(90) });
}

#[test]
fn the_place_of_the_sql_is_known_when_its_lines_are_those_of_the_file() {
    for (spec, position) in [
        ("  pipeline:\n    sql: |\n      SELECT 1;\n      SELECT 2\n", Some((7, 7))),
        ("  pipeline:\n    sql: |-\n\n        SELECT 1\n", Some((7, 9))),
        ("  pipeline:\n    # é\n    sql: |2 # comment\n        SELECT 1\n", Some((8, 7))),
        ("  pipeline: {sql: SELECT 1}\n", Some((5, 19))),
        ("  pipeline: {sql: 'SELECT 1'}\n", Some((5, 20))),
        ("  pipeline:\n    sql: >\n      SELECT\n      1\n", None),
        ("  pipeline: {sql: \"SELECT\\n1\"}\n", None),
        ("  pipeline:\n    sql: SELECT\n      1\n", None),
    ] {
        let position = position.map(|(line, column)| Position { line, column });
        assert_eq!(job(spec).sql_position, position, "{spec}");
    }
}

#[test]
fn a_text_beyond_all_bounds_is_refused_before_it_costs() {
    let deep = format!("{HEAD}{}", "[".repeat(100_000));
    let wide = format!("{HEAD}  pipeline: [{}]", "a,".repeat(400_000));
    let long = "x".repeat(4_000_000);
    let laughs = (1..9).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
        format!("{text}a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(","))
    });
    let unknown: String = (0..10_000).map(|number| format!("  f{number}: 1\n")).collect();
    for text in [deep, wide, long, laughs, format!("{HEAD}{unknown}")] {
        let mistakes = parse(&text).unwrap_err();
        assert!((1..=110).contains(&mistakes.len()), "{}", mistakes.len());
        assert!(mistakes.iter().all(|mistake| mistake.to_string().len() < 2_000), "{}", mistakes[0]);
    }
}

#[test]
fn nesting_up_to_the_bound_is_read() {
    let nested = format!("{}1{}", "{a: ".repeat(25), "}".repeat(25));
    let job = job(&format!("  pipeline: {{sql: x}}\n  worker: {{podTemplate: {{spec: {{affinity: {nested}}}}}}}\n"));
    let affinity = job.worker.pod_template.unwrap().spec.unwrap().affinity.unwrap();
    assert_eq!(affinity.to_string().matches('a').count(), 25);
}

/// A manifest that touches most fields, to be damaged.
const RICH: &str = r#"apiVersion: weir.dev/v1alpha1
kind: StreamJob
metadata: {name: bids, namespace: prod, labels: {a/b: c}}
spec:
  parallelism: 4
  state: Running
  restoreFrom: {savepoint: x}
  pipeline:
    sql: |
      SELECT 1
  checkpoint: {interval: 10s, timeout: 10m, unaligned: {after: 30s}, retain: 3}
  storage: {s3: {bucket: abc, prefix: a/b, endpoint: "https://x", credentialsSecretRef: {name: s}}}
  restart: {failureRate: {maxFailures: 3, window: 5m, delay: 1s}}
  worker: &w {image: i, resources: {limits: {memory: 4Gi, cpu: 2}}, podTemplate: {spec: {env: [{name: A, value: b}]}}}
  rollback: {enabled: true, deadline: 5m}
"#;

/// What replaces a piece of text: marks that mean something in YAML, and values of wrong types.
fn damage() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            "\n",
            " ",
            "\t",
            ":",
            "{",
            "}",
            "[",
            "]",
            "|",
            ">",
            "&w",
            "*w",
            "<<: *w",
            "---\n",
            "...",
            "!!binary ",
            "!x ",
            "null",
            "~",
            "0",
            "-1",
            "1e400",
            ".nan",
            "99999999999999999999999999",
            "true",
            "'",
            "\"",
            "#",
            "%",
            "\u{0}",
            "? ",
            "- ",
            "0x",
            "é",
            "\u{2028}",
            "sql",
            "name: ",
            "a: {}",
        ])
        .prop_map(str::to_owned),
        "[ -~\n]{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_damage_is_answered(
        cuts in prop::collection::vec((0..RICH.len(), 0_usize..12, damage()), 1..4)
    ) {
        let mut text = RICH.to_owned();
        for (start, length, with) in cuts {
            let start = start.min(text.len());
            let end = (start + length).min(text.len());
            if text.is_char_boundary(start) && text.is_char_boundary(end) {
                text.replace_range(start..end, &with);
            }
        }
        match parse(&text) {
            Err(mistakes) => prop_assert!(!mistakes.is_empty()),
            // What passed as text passes as a typed resource.
            Ok(job) => {
                let mut again = validate(&job.raw).map_err(|mistakes| TestCaseError::fail(format!("{mistakes:?}")))?;
                again.sql_position = job.sql_position;
                prop_assert_eq!(again, job);
            }
        }
    }
}
