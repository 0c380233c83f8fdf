//! Who reaches the pods of a job, where the network of the cluster enforces policies.

use crate::cluster::{self, Beside, s3_image};
use crate::job::Job;
use crate::namespace::Namespace;
use crate::output::reaches;
use crate::pods;

/// How often a pod is tried that nobody may reach: a network takes a moment to follow a policy.
const TRIES: usize = 50;

/// Whether nobody reaches a pod any more once a policy says so.
fn is_enforced(namespace: &Namespace) -> bool {
    let manifest = format!(
        r#"apiVersion: v1
kind: Pod
metadata: {{name: listener, labels: {{app: listener}}}}
spec:
  automountServiceAccountToken: false
  nodeSelector: {{node-role.kubernetes.io/control-plane: ""}}
  tolerations: [{{operator: Exists}}]
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: listener
    image: "{}"
    imagePullPolicy: IfNotPresent
    args: [--port, ":9000", posix, /data]
    env: [{{name: ROOT_ACCESS_KEY, value: nobody}}, {{name: ROOT_SECRET_KEY, value: nobody-else}}]
    readinessProbe: {{tcpSocket: {{port: 9000}}, periodSeconds: 1}}
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, emptyDir: {{}}}}]
"#,
        s3_image()
    );
    namespace.apply(&manifest).good();
    namespace.kubectl(&["wait", "pod/listener", "--for=condition=Ready", "--timeout=10m"]).good();
    let address = address(&namespace.get("pod", "listener"));
    assert!(reaches(&address, 9000), "nobody reaches a pod that anybody may reach");
    let policy = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed}
spec: {podSelector: {matchLabels: {app: listener}}, policyTypes: [Ingress]}
";
    namespace.apply(policy).good();
    (0..TRIES).any(|_| !reaches(&address, 9000))
}

fn address(pod: &serde_json::Value) -> String {
    pod["status"]["podIP"].as_str().unwrap().to_owned()
}

#[test]
fn strangers_reach_the_health_of_a_worker_and_nothing_else() {
    let scenario = "strangers_reach_the_health_of_a_worker_and_nothing_else";
    let Some(_turn) = cluster::enter(scenario, Beside::Others) else { return };
    let namespace = Namespace::new("strangers");
    if !is_enforced(&namespace) {
        return eprintln!("{scenario}: passed over, as the network of this cluster enforces no policies");
    }
    // That it runs at all needs its workers to reach each other, and the controller its leader.
    let job = Job::endless("guarded", 2);
    job.start(&namespace);
    job.wrote(&namespace);
    for pod in pods::all(&namespace, &job) {
        let address = address(&pod);
        assert!(reaches(&address, 8080), "nobody reaches health and metrics of {address}");
        let open: Vec<u16> = [7071, 7072, 8081].into_iter().filter(|port| reaches(&address, *port)).collect();
        assert!(open.is_empty(), "strangers reach ports {open:?} of {address}");
    }
    job.check_output_so_far(&namespace);
}
