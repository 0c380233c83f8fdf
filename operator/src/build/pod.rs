//! Pods: workers, checks, and short ones that work on the state of a stopped job.

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction,
    PersistentVolumeClaimVolumeSource, Pod, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile,
    SecretVolumeSource, SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use weir_crds::StreamJobSpec;

use super::template::{Template, of_pod, variable};
use super::{label_map, metadata, objects, secrets, spec_of};
use crate::model::{Against, Maintenance, NewPod, Observed, RevisionSeen, Role, name};

/// The user that the image is made for.
const USER: i64 = 65_532;
/// Time between SIGTERM and SIGKILL, and what a worker makes of it.
const GRACE_S: i64 = 30;
const DRAIN: &str = "25s";
/// A check or a piece of work that takes longer is ended, in seconds.
const SHORT_LIMIT_S: i64 = 300;

const CONFIG: &str = "/etc/weir";
const TLS: &str = "/etc/weir-tls";
const SECRETS: &str = "/etc/weir-secrets";
pub(super) const VOLUME: &str = "/var/lib/weir/volume";
const COPIES: &str = "/var/lib/weir/copies";
const LOG: &str = "/dev/termination-log";

/// Everything that a pod of a program is made of.
struct Plan<'a> {
    observed: &'a Observed,
    program: &'a RevisionSeen,
    spec: StreamJobSpec,
    template: Template,
}

/// A worker.
pub(super) fn worker(observed: &Observed, program: &RevisionSeen, new: &NewPod) -> Option<Pod> {
    let plan = Plan::of(observed, program)?;
    let pod_name = name::worker(observed.name(), new.ordinal, new.program, new.attempt);
    let mut labels =
        label_map([(name::LABEL_ORDINAL, new.ordinal.to_string()), (name::LABEL_ATTEMPT, new.attempt.to_string())]);
    if new.active {
        labels.insert(name::LABEL_ACTIVE.to_owned(), "true".to_owned());
    }
    let mut container = plan.container(vec!["worker".to_owned(), plan.manifest()], plan.worker_env(new));
    container.resources = plan.template.resources();
    container.ports = Some(ports(new.ordinal));
    container.readiness_probe = Some(probe("/readyz", 2, 3));
    // Only what hangs for a minute is killed: a busy worker is not a dead one, and the leader misses a dead one earlier.
    container.liveness_probe = Some(probe("/healthz", 10, 6));
    let mut spec = plan.spec(container);
    spec.restart_policy = Some("Always".to_owned());
    spec.termination_grace_period_seconds = Some(GRACE_S);
    spec.topology_spread_constraints = Some(plan.spread());
    let mut pod = plan.pod(pod_name, Role::Worker, labels, spec);
    if new.failures > 0 {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(name::FAILURES.to_owned(), new.failures.to_string());
        annotations.extend(new.failing_since.map(|since| (name::FAILING_SINCE.to_owned(), since.to_string())));
    }
    Some(pod)
}

/// A pod that tells whether a program fits the state that a revision begins with.
pub(super) fn check(observed: &Observed, (revision, program): (u64, &RevisionSeen), against: &Against) -> Option<Pod> {
    let plan = Plan::of(observed, program)?;
    let state = match against {
        Against::Own => vec!["--against", "own"],
        Against::Restored(from) => vec!["--restore", from],
        Against::Nothing => Vec::new(),
    };
    let manifest = plan.manifest();
    let arguments = ["check", &manifest, "--json"].into_iter().chain(state).map(str::to_owned).collect();
    let pod_name = format!("{}-check", name::revision(observed.name(), revision));
    let labels = label_map([(name::LABEL_REVISION, revision.to_string())]);
    Some(plan.short(pod_name, Role::Check, labels, arguments, Vec::new()))
}

/// A pod that works on the state of the stopped job.
pub(super) fn maintenance(observed: &Observed, program: &RevisionSeen, work: &Maintenance) -> Option<Pod> {
    let plan = Plan::of(observed, program)?;
    let mut arguments = work.arguments.clone();
    arguments.push(plan.manifest());
    let env = vec![
        variable("WEIR_REVISION", program.number.to_string()),
        variable("WEIR_ATTEMPT", work.attempt.to_string()),
        of_pod("WEIR_POD", "metadata.uid"),
        variable("WEIR_REQUEST", &work.request),
    ];
    let labels = label_map([(name::LABEL_ATTEMPT, work.attempt.to_string())]);
    let mut pod = plan.short(work.pod.clone(), Role::Maintenance, labels, arguments, env);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(name::REQUEST.to_owned(), work.request.clone());
    Some(pod)
}

impl<'a> Plan<'a> {
    fn of(observed: &'a Observed, program: &'a RevisionSeen) -> Option<Self> {
        let spec = spec_of(program)?;
        let template = Template::of(&spec.worker);
        Some(Self { observed, program, spec, template })
    }

    fn manifest(&self) -> String {
        format!("{CONFIG}/{}", objects::MANIFEST)
    }

    fn pod(&self, pod_name: String, role: Role, labels: BTreeMap<String, String>, spec: PodSpec) -> Pod {
        let mut metadata = metadata(self.observed, pod_name);
        let ours = metadata.labels.take().unwrap_or_default();
        let role = label_map([
            (name::LABEL_ROLE, role.label().to_owned()),
            (name::LABEL_REVISION, self.program.number.to_string()),
        ]);
        metadata.labels =
            Some(self.template.labels.clone().into_iter().chain(ours).chain(role).chain(labels).collect());
        metadata.annotations = Some(self.template.annotations.clone()).filter(|annotations| !annotations.is_empty());
        Pod { metadata, spec: Some(spec), status: None }
    }

    /// A pod that ends by itself.
    fn short(
        &self,
        pod_name: String,
        role: Role,
        labels: BTreeMap<String, String>,
        arguments: Vec<String>,
        env: Vec<EnvVar>,
    ) -> Pod {
        let mut container = self.container(arguments, self.env(env));
        container.resources = Some(small());
        let mut spec = self.spec(container);
        spec.restart_policy = Some("Never".to_owned());
        spec.active_deadline_seconds = Some(SHORT_LIMIT_S);
        self.pod(pod_name, role, labels, spec)
    }

    fn spec(&self, container: Container) -> PodSpec {
        let mut spec = PodSpec {
            containers: vec![container],
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                seccomp_profile: Some(seccomp()),
                ..PodSecurityContext::default()
            }),
            volumes: Some(self.template.volumes(self.volumes())),
            ..PodSpec::default()
        };
        self.template.place(&mut spec);
        spec
    }

    fn container(&self, arguments: Vec<String>, env: Vec<EnvVar>) -> Container {
        Container {
            name: "weir".to_owned(),
            image: Some(self.program.content.image.clone()),
            args: Some(arguments),
            env: Some(env),
            volume_mounts: Some(self.template.mounts(self.mounts())),
            termination_message_path: Some(LOG.to_owned()),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                run_as_non_root: Some(true),
                capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
                seccomp_profile: Some(seccomp()),
                ..SecurityContext::default()
            }),
            ..Container::default()
        }
    }

    fn worker_env(&self, new: &NewPod) -> Vec<EnvVar> {
        let any = |port: u16| format!("0.0.0.0:{port}");
        let mut env = vec![
            variable("WEIR_ORDINAL", new.ordinal.to_string()),
            variable("WEIR_LEADER", &new.leader),
            variable("WEIR_EXCHANGE", any(name::EXCHANGE_PORT)),
            of_pod("WEIR_ADVERTISE", "status.podIP"),
            variable("WEIR_HEALTH", any(name::HEALTH_PORT)),
            variable("WEIR_TLS", TLS),
            of_pod("WEIR_POD", "metadata.uid"),
            variable("WEIR_REVISION", new.program.to_string()),
            variable("WEIR_ATTEMPT", new.attempt.to_string()),
            variable("WEIR_CODE", &self.program.content.code),
            variable("WEIR_DRAIN_TIMEOUT", DRAIN),
            variable("WEIR_COPIES", COPIES),
        ];
        if new.ordinal == 0 {
            env.push(variable("WEIR_CONTROL", any(name::CONTROL_PORT)));
            env.push(variable("WEIR_API", any(name::API_PORT)));
        }
        self.env(env)
    }

    fn env(&self, mut ours: Vec<EnvVar>) -> Vec<EnvVar> {
        ours.push(variable("WEIR_SECRETS", SECRETS));
        ours.push(variable("WEIR_TERMINATION_LOG", LOG));
        if self.claim().is_some() {
            let (namespace, uid) = (self.observed.namespace(), self.observed.uid());
            let folder = format!("{VOLUME}/{namespace}/{}-{uid}", self.observed.name());
            ours.push(variable("WEIR_STATE_DIR", folder));
        }
        self.template.env(ours)
    }

    fn claim(&self) -> Option<&weir_crds::VolumeClaimStorageSpec> {
        self.spec.storage.as_ref()?.persistent_volume_claim.as_ref()
    }

    fn volumes(&self) -> Vec<Volume> {
        let job = self.observed.name();
        let config = ConfigMapVolumeSource {
            name: name::revision(job, self.program.number),
            ..ConfigMapVolumeSource::default()
        };
        let mut volumes = vec![
            Volume { config_map: Some(config), ..named("weir-config") },
            Volume { secret: Some(secret(&name::worker_tls(job))), ..named("weir-tls") },
            Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..named("weir-copies") },
            Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..named("weir-tmp") },
        ];
        for (at, of) in secrets::of(&self.spec).iter().enumerate() {
            volumes.push(Volume { secret: Some(secret(of)), ..named(&format!("weir-secret-{at}")) });
        }
        if let Some(claim) = self.claim() {
            let source = PersistentVolumeClaimVolumeSource { claim_name: claim.claim_name.clone(), read_only: None };
            volumes.push(Volume { persistent_volume_claim: Some(source), ..named("weir-state") });
        }
        volumes
    }

    fn mounts(&self) -> Vec<VolumeMount> {
        let mut mounts = vec![
            mount("weir-config", CONFIG, true),
            mount("weir-tls", TLS, true),
            mount("weir-copies", COPIES, false),
            mount("weir-tmp", "/tmp", false),
        ];
        for (at, of) in secrets::of(&self.spec).iter().enumerate() {
            mounts.push(mount(&format!("weir-secret-{at}"), &format!("{SECRETS}/{of}"), true));
        }
        if let Some(claim) = self.claim() {
            let sub_path = Some(claim.sub_path.clone()).filter(|path| !path.is_empty());
            mounts.push(VolumeMount { sub_path, ..mount("weir-state", VOLUME, false) });
        }
        mounts
    }

    /// Workers of a program spread over nodes and zones, as far as there are any.
    fn spread(&self) -> Vec<TopologySpreadConstraint> {
        let selector = LabelSelector {
            match_labels: Some(label_map([
                (name::LABEL_JOB, self.observed.name().to_owned()),
                (name::LABEL_REVISION, self.program.number.to_string()),
            ])),
            match_expressions: None,
        };
        ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
            .into_iter()
            .map(|key| TopologySpreadConstraint {
                max_skew: 1,
                topology_key: key.to_owned(),
                when_unsatisfiable: "ScheduleAnyway".to_owned(),
                label_selector: Some(selector.clone()),
                ..TopologySpreadConstraint::default()
            })
            .collect()
    }
}

fn seccomp() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

fn named(volume: &str) -> Volume {
    Volume { name: volume.to_owned(), ..Volume::default() }
}

fn secret(of: &str) -> SecretVolumeSource {
    SecretVolumeSource { secret_name: Some(of.to_owned()), default_mode: Some(0o440), ..SecretVolumeSource::default() }
}

fn mount(volume: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: volume.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn probe(path: &str, period_s: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(i32::from(name::HEALTH_PORT)),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_s),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn ports(ordinal: u32) -> Vec<ContainerPort> {
    let leads = [("control", name::CONTROL_PORT), ("api", name::API_PORT)];
    let all = [("exchange", name::EXCHANGE_PORT), ("health", name::HEALTH_PORT)];
    let leads = leads.into_iter().filter(|_| ordinal == 0);
    all.into_iter()
        .chain(leads)
        .map(|(port, number)| ContainerPort {
            name: Some(port.to_owned()),
            container_port: i32::from(number),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        })
        .collect()
}

/// Planning and moving files takes little; quotas want it said.
fn small() -> ResourceRequirements {
    let quantities = |pairs: [(&str, &str); 2]| {
        pairs.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).collect()
    };
    ResourceRequirements {
        requests: Some(quantities([("cpu", "50m"), ("memory", "64Mi")])),
        limits: Some(quantities([("cpu", "1"), ("memory", "512Mi")])),
        claims: None,
    }
}
