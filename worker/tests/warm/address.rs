//! Addresses for processes that are told where to listen.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// An address that nobody else has: each process has its own number in the loopback network, and each call its own port,
/// below those that connections take.
pub fn free_address() -> String {
    static PORTS: AtomicU16 = AtomicU16::new(20_000);
    let [_, first, second, third] = std::process::id().to_be_bytes();
    let own = Ipv4Addr::new(127, 64 | first & 0x3f, second, third);
    let free = |port: &u16| TcpListener::bind((own, *port)).is_ok();
    let port = std::iter::repeat_with(|| PORTS.fetch_add(1, Ordering::Relaxed)).take(1000).find(free);
    format!("{own}:{}", port.unwrap())
}
