//! What is wrong with a peer, or what a peer finds wrong with us, in words for people.

use super::Role;
use super::certificate::{Flaw, names};
use crate::failure::Failure;
use rustls::{AlertDescription, Error};
use rustls_pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;

/// Why a handshake came to nothing.
#[derive(Debug)]
pub(super) enum Refused {
    /// Its certificate is not good enough.
    Certificate(Flaw),
    /// It showed none.
    NoCertificate,
    /// Its certificate is good and says no role.
    Nameless,
    /// It refused ours.
    ByPeer(AlertDescription),
    /// It said something else than TLS.
    NotTls,
    /// It went away.
    Gone,
    /// The connection failed, or the protocol did.
    Other,
}

impl Refused {
    pub(super) fn of(error: &io::Error) -> Self {
        match inner(error) {
            Some(Error::InvalidCertificate(error)) => Self::Certificate(Flaw::of(error)),
            Some(Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(Error::AlertReceived(alert)) => Self::ByPeer(*alert),
            Some(Error::InvalidMessage(_)) => Self::NotTls,
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Gone,
            _ => Self::Other,
        }
    }

    /// The failure of a connection with this peer.
    pub(super) fn by(self, address: SocketAddr, cause: io::Error) -> Failure {
        let (worker, controller) = (Role::Worker.name(), Role::Controller.name());
        let text = match self {
            Self::Certificate(flaw) => format!("the certificate of {address} {flaw}"),
            Self::NoCertificate => format!("{address} showed no certificate: only processes of this job may connect"),
            Self::Nameless => format!("the certificate of {address} names neither {worker} nor {controller}"),
            Self::ByPeer(alert) => format!("{address} {}", objection(alert)),
            Self::NotTls => format!("{address} does not speak TLS: does it run with --insecure?"),
            Self::Gone => format!("{address} went away during the handshake: does it run with --insecure?"),
            Self::Other => return Failure::transient(format!("no secure connection with {address}")).because(cause),
        };
        Failure::transient(text)
    }
}

/// The role that a peer's certificate names: the controller's if it names both.
pub(super) fn role(certificates: Option<&[CertificateDer<'_>]>) -> Option<Role> {
    let names = names(certificates?.first()?)?;
    [Role::Controller, Role::Worker].into_iter().find(|role| names.iter().any(|name| name == role.name()))
}

/// Says in words what an alert of the peer means.
pub(super) fn explain(error: io::Error) -> io::Error {
    match inner(&error) {
        Some(Error::AlertReceived(alert)) => {
            io::Error::new(error.kind(), format!("the other side {}", objection(*alert)))
        }
        _ => error,
    }
}

fn inner(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn objection(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let why = match alert {
        A::UnknownCA | A::DecryptError => "it was not made by an authority that the other side trusts",
        A::CertificateExpired => "it has expired",
        A::CertificateRequired | A::NoCertificate => return "demands a certificate".to_owned(),
        A::BadCertificate | A::UnsupportedCertificate | A::CertificateRevoked | A::CertificateUnknown => {
            "the other side's log says why"
        }
        A::AccessDenied => "its role may not connect there",
        other => return format!("ended the handshake: {other:?}"),
    };
    format!("refused the certificate of this process: {why}")
}
