//! Machines for workers and the network between them, which can be cut.
//!
//! As root with iproute2 a machine is a network namespace with a veth pair to a bridge in a namespace of its own, where
//! no rules of this machine reach; a cut takes the pair off the bridge, or sends what goes to some addresses to a machine
//! that is not there, so that packets vanish and nobody is told. Elsewhere the ways to a machine are relays in this
//! process, which stop passing bytes on.

use super::relay::Relay;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

/// Where leaders take registrations.
pub const CONTROL: u16 = 7071;

/// The number of the namespace that joins the machines.
const SWITCH: u8 = 0;

/// A machine that nobody has.
const NOWHERE: &str = "02:00:00:00:00:fe";

/// What a machine is cut off from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Everybody.
    All,
    /// The store alone.
    Store,
    /// The other machines, and the leader's service; it reaches the store.
    Workers,
    /// One other machine, where machines are told apart.
    Machine(IpAddr),
}

/// A network with machines on it.
pub struct Network {
    /// The third number of its addresses, with namespaces.
    subnet: Option<u8>,
    /// The third number of its addresses, with relays.
    cluster: u8,
    machines: AtomicU8,
}

static CLUSTERS: AtomicU8 = AtomicU8::new(0);

/// A machine. It is gone when it is dropped.
pub struct Machine {
    number: u8,
    kind: Kind,
}

#[expect(clippy::large_enum_variant, reason = "a test has a handful of machines")]
enum Kind {
    Namespace { subnet: u8 },
    Relays { inside: IpAddr, control: Relay, store: Relay, leader: Relay, exchange: Relay },
}

fn ip(arguments: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments.split_whitespace()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Network {
    /// With namespaces where they can be had. `WEIR_CHAOS_NETWORK=relays` does without.
    pub fn new() -> Self {
        let relays = std::env::var("WEIR_CHAOS_NETWORK").is_ok_and(|kind| kind == "relays");
        let subnet = if relays { None } else { namespaces() };
        if subnet.is_none() {
            eprintln!("without network namespaces: relays in their place");
        }
        let cluster = (std::process::id() as u8).wrapping_add(CLUSTERS.fetch_add(1, Ordering::Relaxed));
        Self { subnet, cluster, machines: AtomicU8::new(0) }
    }

    /// Where this process serves the leader's address.
    pub fn service(&self) -> IpAddr {
        self.subnet.map_or(Ipv4Addr::LOCALHOST, |subnet| Ipv4Addr::new(198, 18, subnet, 1)).into()
    }

    /// Where this process serves the store.
    pub fn store(&self) -> IpAddr {
        self.subnet.map_or(Ipv4Addr::LOCALHOST, |subnet| Ipv4Addr::new(198, 18, subnet, 2)).into()
    }

    /// True when who sends a request can be seen by its address.
    pub fn tells_machines_apart(&self) -> bool {
        self.subnet.is_some()
    }

    /// Another machine. It reaches the store and the leader's service by addresses of its own.
    pub fn machine(&self, store: SocketAddr, leader: SocketAddr) -> Machine {
        let number = 10 + self.machines.fetch_add(1, Ordering::Relaxed) % 240;
        let kind = match self.subnet {
            Some(subnet) => {
                let (name, switch) = (name(subnet, number), name(subnet, SWITCH));
                let made = ip(&format!("netns add {name}"))
                    && ip(&format!("-n {switch} link add m{number} type veth peer name eth0 netns {name}"))
                    && ip(&format!("-n {switch} link set m{number} master br0 up"))
                    && ip(&format!("-n {name} link set lo up"))
                    && ip(&format!("-n {name} addr add 198.18.{subnet}.{number}/24 dev eth0"))
                    && ip(&format!("-n {name} link set eth0 up"));
                assert!(made, "the namespace {name} could not be made");
                Kind::Namespace { subnet }
            }
            None => {
                let outside: IpAddr = Ipv4Addr::new(127, 1, self.cluster, number).into();
                let inside: IpAddr = Ipv4Addr::new(127, 2, self.cluster, number).into();
                let exchange = Relay::start(outside, None);
                exchange.point_to(Some(SocketAddr::new(inside, exchange.address.port())));
                Kind::Relays {
                    inside,
                    control: Relay::start(outside, Some(SocketAddr::new(inside, CONTROL))),
                    store: Relay::start(outside, Some(store)),
                    leader: Relay::start(outside, Some(leader)),
                    exchange,
                }
            }
        };
        Machine { number, kind }
    }
}

/// Makes a bridge with a number that nobody has.
fn namespaces() -> Option<u8> {
    let start = std::process::id() as u8;
    let free = |subnet: &u8| ip(&format!("netns add {}", name(*subnet, SWITCH)));
    let subnet = (0..=u8::MAX).map(|step| start.wrapping_add(step)).find(free)?;
    let switch = name(subnet, SWITCH);
    let ready = ip(&format!("-n {switch} link add br0 type bridge"))
        && ip(&format!("-n {switch} link set br0 up"))
        && ip(&format!("link add weir{subnet} type veth peer name uplink netns {switch}"))
        && ip(&format!("-n {switch} link set uplink master br0 up"))
        && ip(&format!("addr add 198.18.{subnet}.1/24 dev weir{subnet}"))
        && ip(&format!("addr add 198.18.{subnet}.2/24 dev weir{subnet}"))
        && ip(&format!("link set weir{subnet} up"))
        && Command::new("nsenter").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !ready {
        ip(&format!("netns delete {switch}"));
    }
    ready.then_some(subnet)
}

fn name(subnet: u8, number: u8) -> String {
    format!("weir{subnet}-{number}")
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(subnet) = self.subnet {
            ip(&format!("netns delete {}", name(subnet, SWITCH)));
        }
    }
}

impl Machine {
    /// The program, to be run on it.
    pub fn command(&self, program: &str) -> Command {
        match self.kind {
            Kind::Namespace { subnet } => {
                // `ip netns exec` would hide the control groups.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{}", name(subnet, self.number))).arg(program);
                command
            }
            Kind::Relays { .. } => Command::new(program),
        }
    }

    fn inside(&self) -> IpAddr {
        match self.kind {
            Kind::Namespace { subnet } => Ipv4Addr::new(198, 18, subnet, self.number).into(),
            Kind::Relays { inside, .. } => inside,
        }
    }

    /// Its own address, as the store sees it.
    pub fn address(&self) -> IpAddr {
        self.inside()
    }

    /// Where its processes listen for this process.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.inside(), port)
    }

    /// Where others reach a leader on it.
    pub fn control(&self) -> SocketAddr {
        match &self.kind {
            Kind::Namespace { .. } => self.at(CONTROL),
            Kind::Relays { control, .. } => control.address,
        }
    }

    /// Where a worker takes rows, and under which address others reach it.
    pub fn exchange(&self) -> (SocketAddr, IpAddr) {
        match &self.kind {
            Kind::Namespace { .. } => (self.at(7072), self.inside()),
            Kind::Relays { exchange, .. } => (self.at(exchange.address.port()), exchange.address.ip()),
        }
    }

    /// Where its processes find the store.
    pub fn store(&self, store: SocketAddr) -> SocketAddr {
        match &self.kind {
            Kind::Namespace { .. } => store,
            Kind::Relays { store, .. } => store.address,
        }
    }

    /// Where its processes find the leader.
    pub fn leader(&self, leader: SocketAddr) -> SocketAddr {
        match &self.kind {
            Kind::Namespace { .. } => leader,
            Kind::Relays { leader, .. } => leader.address,
        }
    }

    /// Nothing passes between it and these any more.
    pub fn cut(&self, from: From) {
        match &self.kind {
            Kind::Namespace { subnet } => {
                let name = name(*subnet, self.number);
                let vanish =
                    |to: IpAddr| ip(&format!("-n {name} neigh replace {to} lladdr {NOWHERE} nud permanent dev eth0"));
                let nowhere = |number: u8| {
                    vanish(Ipv4Addr::new(198, 18, *subnet, number).into());
                };
                match from {
                    From::All => self.plug(*subnet, "nomaster"),
                    From::Store => nowhere(2),
                    From::Machine(other) => assert!(vanish(other), "{name} cannot be cut off from {other}"),
                    From::Workers => (1..=250).filter(|number| *number == 1 || *number >= 10).for_each(nowhere),
                }
            }
            Kind::Relays { store, leader, exchange, control, .. } => {
                assert!(!matches!(from, From::Machine(_)), "a relay does not know who calls");
                store.hold(from != From::Workers);
                leader.hold(from != From::Store);
                control.hold(from != From::Store);
                exchange.hold(from != From::Store);
            }
        }
    }

    fn plug(&self, subnet: u8, how: &str) {
        let switch = name(subnet, SWITCH);
        assert!(ip(&format!("-n {switch} link set m{} {how}", self.number)), "{switch} {} {how}", self.number);
    }

    /// Everything passes again.
    pub fn join(&self) {
        match &self.kind {
            Kind::Namespace { subnet } => {
                let name = name(*subnet, self.number);
                ip(&format!("-n {name} neigh flush all nud permanent"));
                self.plug(*subnet, "master br0");
            }
            Kind::Relays { store, leader, exchange, control, .. } => {
                [store, leader, exchange, control].into_iter().for_each(|relay| relay.hold(false));
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Kind::Namespace { subnet } = self.kind {
            ip(&format!("netns delete {}", name(subnet, self.number)));
        }
    }
}
