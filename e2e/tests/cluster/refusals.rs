//! What is refused, and how it is said.

use crate::cluster::{self, Beside};
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
    let Some(_turn) = cluster::enter("a_wrong_manifest_is_answered_with_words", Beside::Others) else { return };
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
    let Some(_turn) = cluster::enter("fields_that_hold_the_state_cannot_be_changed", Beside::Others) else { return };
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
    let Some(_turn) =
        cluster::enter("sql_that_only_the_planner_can_refuse_stalls_the_job_until_it_is_corrected", Beside::Others)
    else {
        return;
    };
    let namespace = Namespace::new("planner");
    let job = Job::lasting("planner", 20, 1);
    let wrong = Job { query: job.query.replace("sum(price)", "sum(prize)"), ..job.clone() };
    namespace.apply(&wrong.manifest(&namespace)).good();
    let stalled = job.until(&namespace, "the job is stalled", |job| is(job, "Stalled", "True", "JobFailed"));
    let conditions = stalled["status"]["conditions"].as_array().unwrap();
    let message = conditions.iter().find(|condition| condition["type"] == "Stalled").unwrap()["message"].to_string();
    for part in ["line", "column", "prize", "price"] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
    assert_eq!(crate::pods::restarts(&namespace, &job), 0, "workers are in a crash loop");
    namespace.apply(&job.manifest(&namespace)).good();
    job.until(&namespace, "the job runs", |job| settled(job) || job["status"]["state"] == "Finished");
    job.check_output(&namespace);
}

#[test]
fn a_worker_has_no_token_and_its_leader_answers_nobody_without_a_certificate() {
    let scenario = "a_worker_has_no_token_and_its_leader_answers_nobody_without_a_certificate";
    let Some(_turn) = cluster::enter_nodes(scenario, Beside::Others) else { return };
    let namespace = Namespace::new("closed");
    let job = Job::lasting("closed", 600, 1);
    job.start(&namespace);
    let leader = namespace.get("pod", &crate::pods::with_ordinal(&namespace, &job, 0));
    let text = leader.to_string();
    assert!(!text.contains("serviceaccount"), "a token of the API server is mounted: {text}");
    let (node, address) = (leader["spec"]["nodeName"].as_str().unwrap(), leader["status"]["podIP"].as_str().unwrap());
    // The same question three times: with the controller's certificate, with none, and with one that nobody knows.
    let ask = |with: &str| {
        let request = "GET /v1/job HTTP/1.1\\r\\nHost: worker.weir\\r\\nConnection: close\\r\\n\\r\\n";
        let client =
            format!("timeout 20 openssl s_client -quiet -connect {address}:8081 -servername worker.weir {with}");
        let script =
            format!("cd \"$(mktemp -d)\" && {{ {}; }} && printf '{request}' | {client} 2>&1", keys(&namespace));
        cluster::run("docker", &["exec", node, "bash", "-c", &script], "").text
    };
    let known = ask("-cert tls.crt -key tls.key -CAfile ca.crt -verify_return_error");
    assert!(known.contains("200 OK") && known.contains("\"name\":\"closed\""), "{known}");
    for with in ["", "-cert own.crt -key own.key"] {
        let answer = ask(with);
        assert!(!answer.contains("HTTP/1.1") && !answer.contains("closed"), "{with}: {answer}");
    }
}

/// Commands that write the controller's certificate for the job `closed`, and one that somebody has made for themselves.
fn keys(namespace: &Namespace) -> String {
    let secret = namespace.get("secret", "closed-controller-tls");
    let file = |name: &str| format!("echo {} | base64 -d >{name}", secret["data"][name].as_str().unwrap());
    let own = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout own.key -out own.crt \
               -subj /CN=own -addext subjectAltName=DNS:controller.weir 2>/dev/null";
    [&file("tls.crt"), &file("tls.key"), &file("ca.crt"), own].join(" && ")
}
