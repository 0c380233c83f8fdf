//! An API server of its own.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

/// The controller, as the API server knows it: it has the rights of any service account to be served.
pub(crate) const CONTROLLER: &str = "system:serviceaccount:weir-system:weir";

/// The folder of the programs that a cluster is made of.
pub(crate) fn programs() -> Option<PathBuf> {
    let cache = std::env::var_os("WEIR_CACHE").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/weir")))?;
    let mut folders: Vec<PathBuf> =
        cache.join("kind").read_dir().ok()?.filter_map(|of| Some(of.ok()?.path())).collect();
    folders.retain(|folder| ["etcd", "kube-apiserver", "kubeadm"].iter().all(|program| folder.join(program).is_file()));
    folders.sort_by_key(|folder| folder.metadata().and_then(|metadata| metadata.modified()).ok());
    folders.pop()
}

/// An etcd and a kube-apiserver, until it is dropped.
pub(crate) struct Server {
    folder: PathBuf,
    children: Vec<Child>,
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    pub(crate) fn start(programs: &Path) -> Self {
        let folder = std::env::temp_dir().join(format!("weir-load-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        println!("logs and data are in {}", folder.display());
        let mut server = Self { folder, children: Vec::new() };
        let (clients, peers, port) = (free_port(), free_port(), free_port());
        server.write_files(programs, port);
        let (clients_at, peers_at) = (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
        server.run(
            &programs.join("etcd"),
            &[
                "--data-dir=etcd".to_owned(),
                // What a disk does is not what is measured.
                "--unsafe-no-fsync".to_owned(),
                format!("--listen-client-urls={clients_at}"),
                format!("--advertise-client-urls={clients_at}"),
                format!("--listen-peer-urls={peers_at}"),
                format!("--initial-advertise-peer-urls={peers_at}"),
                format!("--initial-cluster=default={peers_at}"),
            ],
        );
        server.wait(|| TcpStream::connect(("127.0.0.1", clients)).is_ok());
        let mut flags: Vec<String> = [
            "--bind-address=127.0.0.1",
            "--cert-dir=certs",
            "--service-account-key-file=sa.pub",
            "--service-account-signing-key-file=sa.key",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--token-auth-file=tokens",
            "--authorization-mode=RBAC",
            // There is nobody to make service accounts.
            "--disable-admission-plugins=ServiceAccount",
            "--audit-policy-file=audit.yaml",
            "--audit-log-path=audit.log",
        ]
        .map(str::to_owned)
        .to_vec();
        flags.extend([format!("--etcd-servers={clients_at}"), format!("--secure-port={port}")]);
        server.run(&programs.join("kube-apiserver"), &flags);
        server.wait(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        server
    }

    fn write_files(&self, programs: &Path, port: u16) {
        let write = |file: &str, text: &str| fs::write(self.folder.join(file), text).unwrap();
        write(
            "tokens",
            &format!(
                "admin,admin,1,system:masters\ncontroller,{CONTROLLER},2,\"system:serviceaccounts,system:authenticated\"\n"
            ),
        );
        for user in ["admin", "controller"] {
            let config = json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                "users": [{"name": "a", "user": {"token": user}}],
                "clusters": [{"name": "a", "cluster": {"server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true}}],
            });
            write(user, &config.to_string());
        }
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
            "rules": [{"level": "Metadata", "users": [CONTROLLER]}, {"level": "None"}],
        });
        write("audit.yaml", &policy.to_string());
        // Without a version kubeadm asks for one on the internet.
        let kubeadm = || {
            let mut command = Command::new(programs.join("kubeadm"));
            command.current_dir(&self.folder);
            command
        };
        let version = kubeadm().args(["version", "--output=short"]).output().unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        let mut make = kubeadm();
        make.args(["init", "phase", "certs", "sa", "--kubernetes-version", version.trim(), "--cert-dir"]);
        let made = make.arg(&self.folder).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    fn run(&mut self, program: &Path, flags: &[String]) {
        let name = program.file_name().unwrap().to_string_lossy().into_owned();
        let log = self.file(&format!("{name}.log"));
        let mut command = Command::new(program);
        command.current_dir(&self.folder).args(flags).stdout(log.try_clone().unwrap()).stderr(log);
        self.children.push(command.spawn().unwrap());
    }

    fn wait(&mut self, answers: impl Fn() -> bool) {
        while !answers() {
            for child in &mut self.children {
                assert!(child.try_wait().unwrap().is_none(), "a server has ended: see {}", self.folder.display());
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// A new file among the others.
    pub(crate) fn file(&self, name: &str) -> File {
        File::create(self.folder.join(name)).unwrap()
    }

    /// The kubeconfig of a user.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(user)
    }

    /// Where the requests of the controller are logged.
    pub(crate) fn requests(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// A client that may do everything, once all is there that the controller needs.
    pub(crate) async fn prepared(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig("admin")).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let post = PostParams::default();
        for namespace in ["weir-system", super::NAMESPACE] {
            let restricted = json!({"metadata": {"name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
            let namespace: Namespace = serde_json::from_value(restricted).unwrap();
            while Api::all(client.clone()).create(&post, &namespace).await.is_err() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": "weir"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "User", "name": CONTROLLER}],
        }))
        .unwrap();
        Api::all(client.clone()).create(&post, &binding).await.unwrap();
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        for (_, crd) in weir_crds::definitions() {
            let crd: CustomResourceDefinition = serde_yaml::from_str(&crd).unwrap();
            let name = crd.metadata.name.clone().unwrap();
            crds.create(&post, &crd).await.unwrap();
            while !established(&crds.get(&name).await.unwrap()) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        client
    }
}

fn established(crd: &CustomResourceDefinition) -> bool {
    let conditions = crd.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}
