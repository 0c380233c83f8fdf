//! Every pod passes the pod security standard `restricted`, and is closed further than that.

use serde_json::{Value, json};

use super::{manifests, pods, with};

/// A rule, and a change of a pod that breaks it: where, and to what.
struct Rule {
    name: &'static str,
    holds: fn(&Value) -> bool,
    broken_by: (&'static str, &'static str),
}

const CONTAINER: &str = "/spec/containers/0/securityContext";

/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>, baseline and restricted, then our own.
const RULES: &[Rule] = &[
    rule(
        "no windows host process",
        |pod| none(pod, "hostProcess"),
        ("/spec/securityContext/windowsOptions", "{\"hostProcess\": true}"),
    ),
    rule("no host network", |pod| is_off(&pod["spec"]["hostNetwork"]), ("/spec/hostNetwork", "true")),
    rule("no host processes", |pod| is_off(&pod["spec"]["hostPID"]), ("/spec/hostPID", "true")),
    rule("no host IPC", |pod| is_off(&pod["spec"]["hostIPC"]), ("/spec/hostIPC", "true")),
    rule(
        "no host ports",
        |pod| none(pod, "hostPort"),
        ("/spec/containers/0/ports", "[{\"containerPort\": 1, \"hostPort\": 1}]"),
    ),
    rule("not privileged", |pod| each(pod, |of| is_off(&of["privileged"])), (CONTAINER, "{\"privileged\": true}")),
    rule(
        "no capabilities are added",
        |pod| each(pod, |of| of["capabilities"]["add"].is_null()),
        ("/spec/containers/0/securityContext/capabilities/add", "[\"NET_RAW\"]"),
    ),
    rule(
        "all capabilities are dropped",
        |pod| each(pod, |of| of["capabilities"]["drop"] == json!(["ALL"])),
        ("/spec/containers/0/securityContext/capabilities", "{\"drop\": [\"KILL\"]}"),
    ),
    rule(
        "volumes of allowed types",
        |pod| volumes(pod).iter().all(is_allowed),
        ("/spec/volumes/0", "{\"name\": \"weir-config\", \"hostPath\": {\"path\": \"/\"}}"),
    ),
    rule(
        "no escalation",
        |pod| each(pod, |of| of["allowPrivilegeEscalation"] == false),
        ("/spec/containers/0/securityContext/allowPrivilegeEscalation", "null"),
    ),
    rule(
        "not root",
        |pod| pod["spec"]["securityContext"]["runAsNonRoot"] == true && each(pod, |of| of["runAsNonRoot"] != false),
        ("/spec/containers/0/securityContext/runAsNonRoot", "false"),
    ),
    rule(
        "no user 0",
        |pod| pod["spec"]["securityContext"]["runAsUser"].as_u64() > Some(0) && each(pod, |of| of["runAsUser"] != 0),
        ("/spec/securityContext/runAsUser", "0"),
    ),
    rule(
        "seccomp",
        |pod| is_confined(&pod["spec"]["securityContext"]) && each(pod, is_confined),
        ("/spec/containers/0/securityContext/seccompProfile", "{\"type\": \"Unconfined\"}"),
    ),
    rule(
        "default proc mount",
        |pod| none(pod, "procMount"),
        ("/spec/containers/0/securityContext/procMount", "\"Unmasked\""),
    ),
    rule(
        "no SELinux options",
        |pod| none(pod, "seLinuxOptions"),
        ("/spec/securityContext/seLinuxOptions", "{\"type\": \"x\"}"),
    ),
    rule(
        "no AppArmor options",
        |pod| none(pod, "appArmorProfile"),
        ("/spec/securityContext/appArmorProfile", "{\"type\": \"Unconfined\"}"),
    ),
    rule(
        "no sysctls",
        |pod| none(pod, "sysctls"),
        ("/spec/securityContext/sysctls", "[{\"name\": \"a\", \"value\": \"b\"}]"),
    ),
    rule(
        "no probes of other hosts",
        |pod| none(pod, "host"),
        ("/spec/containers/0/livenessProbe", "{\"httpGet\": {\"host\": \"a\", \"port\": 1}}"),
    ),
    rule(
        "a root that cannot be written",
        |pod| each(pod, |of| of["readOnlyRootFilesystem"] == true),
        ("/spec/containers/0/securityContext/readOnlyRootFilesystem", "false"),
    ),
    rule(
        "no token is mounted",
        |pod| pod["spec"]["automountServiceAccountToken"] == false,
        ("/spec/automountServiceAccountToken", "true"),
    ),
    rule(
        "no token is projected",
        |pod| none(pod, "serviceAccountToken"),
        (
            "/spec/volumes/0",
            "{\"name\": \"weir-config\", \"projected\": {\"sources\": [{\"serviceAccountToken\": {\"path\": \"t\"}}]}}",
        ),
    ),
    rule(
        "no names of services in the environment",
        |pod| pod["spec"]["enableServiceLinks"] == false,
        ("/spec/enableServiceLinks", "true"),
    ),
    rule("one container", |pod| containers(pod).len() == 1, ("/spec/initContainers", "[{\"name\": \"a\"}]")),
    rule("mounts have volumes", mounts_have_volumes, ("/spec/containers/0/volumeMounts/0/name", "\"nothing\"")),
    rule(
        "nothing is mounted twice",
        nothing_is_mounted_twice,
        ("/spec/containers/0/volumeMounts/0/mountPath", "\"/tmp\""),
    ),
    rule(
        "the authority's key is mounted nowhere",
        |pod| !pod.to_string().contains("bids-ca"),
        ("/spec/volumes/0", "{\"name\": \"weir-config\", \"secret\": {\"secretName\": \"bids-ca\"}}"),
    ),
    rule(
        "nothing secret can be written",
        secrets_are_read_only,
        ("/spec/containers/0/volumeMounts/1/readOnly", "false"),
    ),
];

const fn rule(name: &'static str, holds: fn(&Value) -> bool, broken_by: (&'static str, &'static str)) -> Rule {
    Rule { name, holds, broken_by }
}

fn is_off(flag: &Value) -> bool {
    flag.is_null() || flag == false
}

fn containers(pod: &Value) -> Vec<&Value> {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    lists.iter().filter_map(|list| pod["spec"][list].as_array()).flatten().collect()
}

/// Whether this holds for the security context of each container.
fn each(pod: &Value, holds: fn(&Value) -> bool) -> bool {
    containers(pod).iter().all(|container| holds(&container["securityContext"]))
}

/// Whether no field of this name is anywhere in the pod.
fn none(value: &Value, field: &str) -> bool {
    match value {
        Value::Object(fields) => fields.iter().all(|(name, value)| name != field && none(value, field)),
        Value::Array(items) => items.iter().all(|item| none(item, field)),
        _ => true,
    }
}

fn volumes(pod: &Value) -> Vec<Value> {
    pod["spec"]["volumes"].as_array().cloned().unwrap_or_default()
}

fn is_allowed(volume: &Value) -> bool {
    let allowed =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    let mut fields = volume.as_object().unwrap().keys().filter(|field| *field != "name");
    fields.all(|field| allowed.contains(&field.as_str()))
}

fn is_confined(context: &Value) -> bool {
    context["seccompProfile"]["type"] == "RuntimeDefault"
}

fn mounts(pod: &Value) -> Vec<Value> {
    let of = containers(pod).into_iter().filter_map(|container| container["volumeMounts"].as_array());
    of.flatten().cloned().collect()
}

fn mounts_have_volumes(pod: &Value) -> bool {
    let volumes = volumes(pod);
    mounts(pod).iter().all(|mount| volumes.iter().filter(|volume| volume["name"] == mount["name"]).count() == 1)
}

fn nothing_is_mounted_twice(pod: &Value) -> bool {
    let mounts = mounts(pod);
    let mut paths: Vec<&str> = mounts.iter().filter_map(|mount| mount["mountPath"].as_str()).collect();
    paths.sort_unstable();
    paths.windows(2).all(|two| two[0] != two[1])
}

fn secrets_are_read_only(pod: &Value) -> bool {
    let volumes = volumes(pod);
    let is_secret =
        |mount: &&Value| volumes.iter().any(|volume| volume["name"] == mount["name"] && !volume["secret"].is_null());
    mounts(pod).iter().filter(is_secret).all(|mount| mount["readOnly"] == true)
}

/// Sets what is at a pointer; what is on the way is there.
fn set(object: &mut Value, pointer: &str, to: Value) {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(parent).unwrap() {
        Value::Array(items) => items[field.parse::<usize>().unwrap()] = to,
        fields => fields[field] = to,
    }
}

#[test]
fn every_pod_of_every_role_passes_every_rule() {
    for (manifest, fields) in manifests() {
        for pod in pods(&with(&fields)) {
            for rule in RULES {
                assert!((rule.holds)(&pod), "{manifest}: {}: {pod:#}", rule.name);
            }
        }
    }
}

#[test]
fn every_rule_can_be_broken() {
    let pod = pods(&with(&json!({}))).remove(0);
    for rule in RULES {
        let mut broken = pod.clone();
        set(&mut broken, rule.broken_by.0, serde_json::from_str(rule.broken_by.1).unwrap());
        assert!(!(rule.holds)(&broken), "{}: {broken:#}", rule.name);
    }
}
