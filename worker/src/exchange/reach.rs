//! Whether the machine of a peer can be reached.
//!
//! A peer reads whatever its tasks do, because what is sent has its credits: backpressure is credits that do not come, never
//! bytes that nobody acknowledges or a window that stays closed. So the kernels of both machines can tell that the way
//! between them is cut, by `TCP_USER_TIMEOUT` for what was sent and by keepalive for a connection that is silent, and
//! no pings are needed; whether a process works is for its heartbeats with the leader to say.

use crate::failure::{Failure, Result};
use socket2::{SockRef, TcpKeepalive};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Less than this one lost packet could use up: the first one of a connection is sent again after a second.
const SHORTEST: Duration = Duration::from_secs(2);

/// More than this the kernel does not take for every option.
const LONGEST: Duration = Duration::from_secs(3600);

/// Probes of a silent connection within the limit. Their number is not an option of its own: the kernel gives a connection
/// with a user timeout up after that time.
const PROBES: u32 = 3;

/// Connects to a peer, and watches the connection. Fails with kind `Transient` when no machine answers for so long.
pub(super) async fn dial(peer: SocketAddr, lost_after: Duration) -> Result<TcpStream> {
    let longest = limit(lost_after);
    let Ok(stream) = timeout(longest, TcpStream::connect(peer)).await else {
        let seconds = longest.as_secs_f32();
        return Err(Failure::transient(format!(
            "no machine answered at {peer} within {seconds} seconds: can the two machines reach each other?"
        )));
    };
    let stream = stream.map_err(|error| Failure::transient(format!("cannot connect to {peer}")).because(error))?;
    watch(&stream, peer, lost_after)?;
    Ok(stream)
}

/// From now on reads and writes fail when the machine on the other side has answered nothing for so long, though it was
/// sent something or asked whether it is there.
pub(super) fn watch(stream: &TcpStream, peer: SocketAddr, lost_after: Duration) -> Result<()> {
    let unwatched = |error| Failure::transient(format!("the connection with {peer} cannot be watched")).because(error);
    let (socket, limit) = (SockRef::from(stream), limit(lost_after));
    let pause = Duration::from_secs((limit / PROBES).as_secs().max(1));
    let keepalive = TcpKeepalive::new().with_time(pause).with_interval(pause);
    socket.set_tcp_user_timeout(Some(limit)).map_err(unwatched)?;
    socket.set_tcp_keepalive(&keepalive).map_err(unwatched)
}

fn limit(lost_after: Duration) -> Duration {
    lost_after.clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn both_ends_are_watched_near_the_limit_of_heartbeats() {
        let table =
            [(0, 2_000, 1), (1_200, 2_000, 1), (3_000, 3_000, 1), (31_000, 31_000, 10), (u64::MAX, 3_600_000, 1200)];
        for (lost_after_ms, limit_ms, pause) in table {
            let lost_after = Duration::from_millis(lost_after_ms);
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let peer = listener.local_addr().unwrap();
            let dialled = dial(peer, lost_after).await.unwrap();
            let (accepted, caller) = listener.accept().await.unwrap();
            watch(&accepted, caller, lost_after).unwrap();
            for socket in [SockRef::from(&dialled), SockRef::from(&accepted)] {
                assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(limit_ms)), "{lost_after:?}");
                let pauses = (socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap());
                assert_eq!(pauses, (Duration::from_secs(pause), Duration::from_secs(pause)), "{lost_after:?}");
                assert!(socket.keepalive().unwrap());
            }
        }
    }
}
