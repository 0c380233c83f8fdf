//! What is refused, and how it is said.

use crate::cluster;
use crate::job::{Job, is, settled};
use crate::namespace::Namespace;

/// A field of the spec that is wrong, as it stands in the manifest, and what kubectl's answer says of it.
const WRONG: &[(&str, &[&str])] = &[
    ("parallelism: 0", &["spec.parallelism", "greater than or equal to 1"]),
    ("parallelism: 200", &["maxParallelism"]),
    ("maxParallelism: 40000", &["spec.maxParallelism", "less than or equal to 32768"]),
    ("checkpoint: {interval: 1ms}", &["checkpoint.interval is shorter than 10ms"]),
    ("checkpoint: {interval: soon}", &["spec.checkpoint.interval"]),
    ("restart: {none: {}, fixedDelay: {}}", &["exactly one of"]),
    ("rollback: {deadline: 0s}", &["rollback.deadline is zero"]),
    ("restoreFrom: {savepoint: a, job: {name: b}}", &["at most one of savepoint, path and job"]),
    ("pipeline: {}", &["exactly one of sql and sqlFrom"]),
    ("deletionPolicy: Burn", &["spec.deletionPolicy", "\"Retain\""]),
    ("paralelism: 2", &["unknown field \"spec.paralelism\""]),
];

#[test]
fn a_wrong_manifest_is_answered_with_words() {
    if !cluster::is_there("a_wrong_manifest_is_answered_with_words") {
        return;
    }
    let namespace = Namespace::new("wrong");
    let (mut silent, kept) = (Vec::new(), "CREATE TABLE t (a INT) WITH ('connector' = 'datagen')");
    for (field, parts) in WRONG {
        let pipeline =
            if field.starts_with("pipeline") { String::new() } else { format!("  pipeline: {{sql: \"{kept}\"}}\n") };
        let storage = crate::output::storage("wrong");
        let manifest = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: wrong}}\nspec:\n  {field}\n{pipeline}  \
             storage: {storage}\n"
        );
        let said = namespace.apply(&manifest).refusal();
        silent.extend(
            parts.iter().filter(|part| !said.contains(*part)).map(|part| format!("{field}: no {part:?} in {said}")),
        );
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn fields_that_hold_the_state_cannot_be_changed() {
    if !cluster::is_there("fields_that_hold_the_state_cannot_be_changed") {
        return;
    }
    let namespace = Namespace::new("fixed");
    let job = Job::lasting("fixed", 600, 1);
    namespace.apply(&job.manifest(&namespace)).good();
    for (patch, part) in [
        (r#"{"spec": {"maxParallelism": 64}}"#, "maxParallelism cannot be changed"),
        (r#"{"spec": {"storage": {"s3": {"prefix": "elsewhere"}}}}"#, "storage cannot be moved"),
    ] {
        let said = namespace.kubectl(&["patch", "streamjob/fixed", "--type=merge", "-p", patch]).refusal();
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn sql_that_only_the_planner_can_refuse_stalls_the_job_until_it_is_corrected() {
    if !cluster::is_there("sql_that_only_the_planner_can_refuse_stalls_the_job_until_it_is_corrected") {
        return;
    }
    let namespace = Namespace::new("planner");
    let job = Job::lasting("planner", 20, 1);
    let wrong = Job { query: job.query.replace("sum(price)", "sum(prize)"), ..job.clone() };
    namespace.apply(&wrong.manifest(&namespace)).good();
    let stalled = job.until(&namespace, "the job is stalled", |job| is(job, "Stalled", "True", "JobFailed"));
    let conditions = stalled["status"]["conditions"].as_array().unwrap();
    let message = conditions.iter().find(|condition| condition["type"] == "Stalled").unwrap()["message"].to_string();
    for part in ["line", "prize", "price"] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
    assert_eq!(crate::pods::restarts(&namespace, &job), 0, "workers are in a crash loop");
    namespace.apply(&job.manifest(&namespace)).good();
    job.until(&namespace, "the job runs", |job| settled(job) || job["status"]["state"] == "Finished");
    job.check_output(&namespace);
}

#[test]
fn a_worker_has_no_token_and_its_leader_answers_nobody_without_a_certificate() {
    if !cluster::is_there("a_worker_has_no_token_and_its_leader_answers_nobody_without_a_certificate") {
        return;
    }
    let namespace = Namespace::new("closed");
    let job = Job::lasting("closed", 600, 1);
    job.start(&namespace);
    let leader = namespace.get("pod", &crate::pods::with_ordinal(&namespace, &job, 0));
    let text = leader.to_string();
    assert!(!text.contains("serviceaccount"), "a token of the API server is mounted: {text}");
    let (node, address) = (leader["spec"]["nodeName"].as_str().unwrap(), leader["status"]["podIP"].as_str().unwrap());
    let script = format!(
        "printf 'GET /v1/job HTTP/1.0\\r\\n\\r\\n' | timeout 10 openssl s_client -quiet -connect {address}:8081 2>&1"
    );
    let answer = cluster::run("docker", &["exec", node, "bash", "-c", &script], "").text;
    assert!(!answer.contains("200 OK") && !answer.contains("parallelism"), "{answer}");
}
