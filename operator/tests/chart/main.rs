//! The Helm chart: what it installs, what it refuses, and that it goes with the documentation.
//!
//! The rendered manifests are snapshots: after a change of the chart look at `INSTA_UPDATE=always cargo test -p
//! weir-operator --test chart` and its diff.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

mod controller;
mod documents;
mod helm;

use helm::{CHART, Helm};
use serde_json::{Value, json};

/// Everything that is off by default.
const MONITORING: &str = r#"monitoring={"labels": {"release": "prometheus"}, "serviceMonitor": {"enabled": true}, "podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true, "runbooks": "https://weir.example/operations", "alertLabels": {"team": "data"}}, "dashboard": {"enabled": true}}"#;

const NAMESPACED: &str = r#"namespaces=["shop", "bank"]"#;

/// Most that the pods of the controller can be given.
const PODS: &[&str] = &[
    r#"replicas=3"#,
    r#"image={"repository": "registry.example/weir/operator", "digest": "sha256:0000000000000000000000000000000000000000000000000000000000000000"}"#,
    r#"workerImage={"repository": "registry.example/weir/worker", "tag": "1.2.3"}"#,
    r#"imagePullSecrets=[{"name": "registry"}]"#,
    r#"podLabels={"team": "data"}"#,
    r#"podAnnotations={"note": "x"}"#,
    r#"nodeSelector={"disk": "ssd"}"#,
    r#"tolerations=[{"key": "spot", "operator": "Exists"}]"#,
    r#"affinity={"podAntiAffinity": {}}"#,
    r#"priorityClassName="high""#,
    r#"env=[{"name": "TZ", "value": "UTC"}]"#,
    r#"log="text""#,
    r#"serviceAccount={"annotations": {"a/b": "c"}}"#,
];

const WITHOUT_CRDS: &str = r#"crds={"install": false}"#;

#[test]
fn lint_finds_nothing() {
    let Some(helm) = Helm::find("lint_finds_nothing") else { return };
    for values in [&[][..], &[MONITORING], &[NAMESPACED, MONITORING], PODS] {
        let mut args = vec!["lint", CHART, "--strict", "--quiet"];
        args.extend(values.iter().flat_map(|value| ["--set-json", value]));
        let output = helm.run(&args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{values:?}: {said}");
    }
}

#[test]
fn what_is_installed_is_as_it_was() {
    let Some(helm) = Helm::find("what_is_installed_is_as_it_was") else { return };
    let mut all = PODS.to_vec();
    all.extend([WITHOUT_CRDS, NAMESPACED]);
    for (name, values) in
        [("default", vec![WITHOUT_CRDS]), ("namespaced", all), ("monitoring", vec![WITHOUT_CRDS, MONITORING])]
    {
        let text = helm.template(&values).unwrap();
        insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!(name, text);
        });
    }
}

#[test]
fn a_misspelt_value_is_refused() {
    let Some(helm) = Helm::find("a_misspelt_value_is_refused") else { return };
    for (value, said) in [
        (r#"replica=3"#, "replica"),
        (r#"replicas="many""#, "replicas"),
        (r#"namespaces=["Shop"]"#, "namespaces"),
        (r#"image={"tags": "1"}"#, "tags"),
        (r#"image={"digest": "sha256:1"}"#, "digest"),
        (r#"log="xml""#, "log"),
        (r#"monitoring={"serviceMonitor": {"enabled": "yes"}}"#, "enabled"),
        (r#"crds={"delete": true}"#, "delete"),
    ] {
        let error = helm.template(&[value]).expect_err(value);
        assert!(error.contains("values don't meet") && error.contains(said), "{value}: {error}");
    }
}

#[test]
fn crds_are_upgraded_with_the_chart_and_kept_without_it() {
    let Some(helm) = Helm::find("crds_are_upgraded_with_the_chart_and_kept_without_it") else { return };
    let crds = |values: &[&str]| -> Vec<Value> {
        helm.objects(values).into_iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect()
    };
    let installed = crds(&[]);
    let names: Vec<&Value> = installed.iter().map(|crd| &crd["metadata"]["name"]).collect();
    assert_eq!(names, ["savepoints.weir.dev", "streamjobs.weir.dev"]);
    for (file, yaml) in weir_crds::definitions() {
        let definition: Value = serde_yaml::from_str(&yaml).unwrap();
        let crd = installed.iter().find(|crd| crd["metadata"]["name"] == definition["metadata"]["name"]).expect(file);
        assert!(
            numbers_as_floats(&crd["spec"]) == numbers_as_floats(&definition["spec"]),
            "{file} is installed otherwise"
        );
        assert_eq!(crd["metadata"]["annotations"], json!({"helm.sh/resource-policy": "keep"}));
        assert_eq!(crd["metadata"]["labels"]["app.kubernetes.io/part-of"], "weir");
    }
    assert!(crds(&[r#"crds={"keep": false}"#]).iter().all(|crd| crd["metadata"]["annotations"].is_null()));
    assert!(crds(&[WITHOUT_CRDS]).is_empty());
}

/// Helm writes whole numbers without a point.
fn numbers_as_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(numbers_as_floats).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), numbers_as_floats(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

#[test]
fn for_named_namespaces_there_are_no_roles_of_the_cluster() {
    let Some(helm) = Helm::find("for_named_namespaces_there_are_no_roles_of_the_cluster") else { return };
    let kinds = |values: &[&str], kind: &str| {
        helm.objects(values).into_iter().filter(|object| object["kind"].as_str().unwrap() == kind).collect::<Vec<_>>()
    };
    assert!(kinds(&[NAMESPACED], "ClusterRole").is_empty() && kinds(&[NAMESPACED], "ClusterRoleBinding").is_empty());
    let roles = kinds(&[NAMESPACED], "Role");
    let namespaces: Vec<&Value> = roles.iter().map(|role| &role["metadata"]["namespace"]).collect();
    assert_eq!(namespaces, ["shop", "bank", "weir-system"]);
    assert_eq!(
        roles[0]["rules"],
        kinds(&[], "ClusterRole").iter().find(|it| it["metadata"]["name"] == "weir").unwrap()["rules"]
    );
    assert_eq!(kinds(&[NAMESPACED], "RoleBinding").len(), 3);
    assert!(kinds(&[r#"rbac={"create": false}"#], "ClusterRole").is_empty());
}

#[test]
fn the_controller_may_not_look_into_what_is_not_its_own() {
    let Some(helm) = Helm::find("the_controller_may_not_look_into_what_is_not_its_own") else { return };
    let mut seen = 0;
    for object in helm.objects(&[]) {
        let lists = |rule: &Value, key: &str| -> Vec<String> {
            serde_json::from_value(rule.get(key).cloned().unwrap_or(json!([]))).unwrap()
        };
        for rule in object["rules"].as_array().into_iter().flatten() {
            seen += 1;
            let (resources, verbs) = (lists(rule, "resources"), lists(rule, "verbs"));
            let groups = lists(rule, "apiGroups");
            assert!(!resources.iter().chain(&verbs).chain(&groups).any(|name| name == "*"), "{rule}");
            for never in ["pods/exec", "pods/attach", "serviceaccounts/token", "nodes", "roles", "clusterroles"] {
                assert!(!resources.iter().any(|resource| resource == never), "{rule}");
            }
            let of_secrets = resources.iter().any(|resource| resource == "secrets");
            assert!(!of_secrets || !verbs.iter().any(|verb| verb == "list" || verb == "watch"), "{rule}");
        }
    }
    assert!(seen > 10);
}

#[test]
fn the_controllers_pods_pass_restricted_pod_security() {
    let Some(helm) = Helm::find("the_controllers_pods_pass_restricted_pod_security") else { return };
    let objects = helm.objects(PODS);
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for container in pod["containers"].as_array().unwrap() {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false);
        assert_eq!(security["readOnlyRootFilesystem"], true);
        assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
        assert!(
            container["resources"]["requests"].is_object() && container["resources"]["limits"]["memory"].is_string()
        );
    }
    for never in ["hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"] {
        assert!(pod[never].is_null(), "{never}");
    }
}

#[test]
fn alerts_link_to_their_runbooks_where_these_can_be_read() {
    let Some(helm) = Helm::find("alerts_link_to_their_runbooks_where_these_can_be_read") else { return };
    let first = |values: &[&str]| {
        let objects = helm.objects(values);
        let rules = objects.iter().find(|object| object["kind"] == "PrometheusRule").unwrap();
        rules["spec"]["groups"][0]["rules"][0]["annotations"].clone()
    };
    let linked = first(&[MONITORING]);
    assert_eq!(linked["runbook_url"], "https://weir.example/operations#weircontrolleraway");
    assert!(linked["runbook"].is_null());
    let named = first(&[r#"monitoring={"prometheusRule": {"enabled": true}}"#]);
    assert_eq!(named["runbook"], "docs/operations.md, WeirControllerAway");
    assert!(named["runbook_url"].is_null());
}

#[test]
fn one_replica_blocks_no_drain() {
    let Some(helm) = Helm::find("one_replica_blocks_no_drain") else { return };
    let budgets =
        |values: &[&str]| helm.objects(values).iter().filter(|it| it["kind"] == "PodDisruptionBudget").count();
    assert_eq!((budgets(&[]), budgets(&["replicas=1"])), (1, 0));
}
