//! Who is on the other side of a connection, and that nobody else hears or says anything on it.
//!
//! The processes of a job know each other by certificates of the job's own authority, on both sides of every
//! connection. What a certificate says is a role, not an address: `worker.weir` or `controller.weir`. A job whose
//! authority is being replaced trusts several for a while: all that are in the file of authorities.
//!
//! Invariants: nothing is read from a peer before its certificate was checked; the only cryptography is aws-lc-rs, given
//! to every configuration by name and never as the default of the process; sessions are never resumed, so that an
//! authority that is no longer trusted cannot come back through an old session.

mod authority;
mod certificate;
mod identity;
mod peer;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

pub use authority::{Authority, self_made};
pub use identity::Identity;
pub use stream::Stream;

use crate::failure::{Failure, Result};
use peer::Refused;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// How long a connection may take to be made, with its handshake.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);

/// What a machine that is there needs at most to take a connection.
const LONGEST_WAY: Duration = Duration::from_secs(1);

/// How long a refused peer gets to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// How connections are secured.
#[derive(Debug, Clone)]
pub enum Security {
    /// Not at all: everybody is believed to be everything. Only for who asks for it by name.
    Insecure,
    /// Both sides show a certificate of the job's authority.
    Mutual(Arc<Identity>),
}

/// What a process is to the job. Its certificate says so among its DNS names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Runs tasks; worker 0 leads besides.
    Worker,
    /// Says what the job should be.
    Controller,
}

/// Who is on the other side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// What its certificate says; without certificates everybody is a controller.
    pub role: Role,
}

impl Role {
    /// The DNS name that says so.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker.weir",
            Self::Controller => "controller.weir",
        }
    }
}

impl Security {
    /// Connects to a worker of the same job, within ten seconds. Fails with kind `Transient`, also when the worker's
    /// certificate is refused: it may be on its way to be replaced. That the worker refuses ours shows with the first
    /// read of the stream.
    pub async fn connect(&self, address: SocketAddr) -> Result<Stream> {
        match timeout(LONGEST_HANDSHAKE, self.dial(address)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(too_slow(address)),
        }
    }

    /// Secures a connection that was accepted, within ten seconds and a second to say no: call it on the connection's
    /// own task, not on the one that accepts. Fails with kind `Transient`.
    pub async fn accept(&self, stream: TcpStream) -> Result<(Stream, Peer)> {
        let lost = |error| Failure::transient("a connection was lost as it was accepted").because(error);
        let address = stream.peer_addr().map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        let Self::Mutual(identity) = self else {
            return Ok((Stream::Plain(stream), Peer { role: Role::Controller }));
        };
        let acceptor = TlsAcceptor::from(Arc::clone(&identity.current().server));
        let Ok(outcome) = timeout(LONGEST_HANDSHAKE, acceptor.accept(stream).into_fallible()).await else {
            return Err(too_slow(address));
        };
        let stream = match outcome {
            Ok(stream) => stream,
            Err((error, stream)) => {
                let _ = timeout(FAREWELL, farewell(stream)).await;
                return Err(Refused::of(&error).by(address, error));
            }
        };
        let Some(role) = peer::role(stream.get_ref().1.peer_certificates()) else {
            return Err(Refused::Nameless.by(address, std::io::Error::other("no role")));
        };
        Ok((Stream::Tls(Box::new(TlsStream::Server(stream))), Peer { role }))
    }

    /// The same for an address that may be nobody's any more, while another one has taken its place: it is given up when
    /// no machine has answered within a second. A machine that is there answers at once, however busy its processes are.
    pub async fn connect_anew(&self, address: SocketAddr) -> Result<Stream> {
        let Ok(stream) = timeout(LONGEST_WAY, TcpStream::connect(address)).await else {
            return Err(Failure::transient(format!("no machine answered at {address} within a second")));
        };
        let stream = stream.map_err(|error| unreachable(address, error))?;
        self.connect_over(stream, address).await
    }

    /// The same over a connection to `address` that is there already.
    pub async fn connect_over(&self, stream: TcpStream, address: SocketAddr) -> Result<Stream> {
        match timeout(LONGEST_HANDSHAKE, self.shake_hands(stream, address)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(too_slow(address)),
        }
    }

    async fn dial(&self, address: SocketAddr) -> Result<Stream> {
        let stream = TcpStream::connect(address).await.map_err(|error| unreachable(address, error))?;
        self.shake_hands(stream, address).await
    }

    async fn shake_hands(&self, stream: TcpStream, address: SocketAddr) -> Result<Stream> {
        stream.set_nodelay(true).map_err(|error| unreachable(address, error))?;
        let Self::Mutual(identity) = self else { return Ok(Stream::Plain(stream)) };
        let name = ServerName::try_from(Role::Worker.name()).expect("the role is a DNS name");
        let connector = TlsConnector::from(Arc::clone(&identity.current().client));
        match connector.connect(name, stream).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(TlsStream::Client(stream)))),
            Err(error) => Err(Refused::of(&error).by(address, error)),
        }
    }
}

/// The peer may have sent more behind its certificate; a connection closed on unread bytes is reset, and the reset would
/// overtake the alert that says why.
async fn farewell(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut rest = [0; 1024];
    let mut longest = 64 * 1024_usize;
    while let Ok(length @ 1..) = stream.read(&mut rest).await {
        longest = longest.saturating_sub(length);
        if longest == 0 {
            return;
        }
    }
}

fn unreachable(address: SocketAddr, error: std::io::Error) -> Failure {
    Failure::transient(format!("cannot connect to {address}")).because(error)
}

fn too_slow(address: SocketAddr) -> Failure {
    let seconds = LONGEST_HANDSHAKE.as_secs();
    Failure::transient(format!("{address} did not answer within {seconds} seconds of connecting"))
}
