//! A relay: passes connections on to somebody, whoever that is at the moment, as a Service does; and can stop to.

use parking_lot::{Condvar, Mutex};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

pub struct Relay {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    target: Option<SocketAddr>,
    held: bool,
    ended: bool,
}

impl Relay {
    /// Listens at a port of this address.
    pub fn start(at: IpAddr, target: Option<SocketAddr>) -> Self {
        let listener = TcpListener::bind((at, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        shared.state.lock().target = target;
        let for_connections = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if for_connections.state.lock().ended {
                    return;
                }
                let shared = Arc::clone(&for_connections);
                // The thread ends with its connection.
                std::thread::spawn(move || shared.connect(client));
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// New connections go there.
    pub fn point_to(&self, target: Option<SocketAddr>) {
        self.shared.state.lock().target = target;
    }

    /// No byte passes, and nobody is told.
    pub fn hold(&self, held: bool) {
        self.shared.state.lock().held = held;
        self.shared.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        (state.ended, state.held, state.target) = (true, false, None);
        drop(state);
        self.shared.changed.notify_all();
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn connect(self: Arc<Self>, client: TcpStream) {
        self.pass();
        let Some(target) = self.state.lock().target else { return };
        let Ok(server) = TcpStream::connect_timeout(&target, std::time::Duration::from_secs(3)) else { return };
        let (Ok(to_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
        let back = Arc::clone(&self);
        std::thread::spawn(move || back.pump(server, to_client));
        self.pump(client, to_server);
    }

    fn pass(&self) {
        self.changed.wait_while(&mut self.state.lock(), |state| state.held);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length) = from.read(&mut buffer) {
            self.pass();
            if length == 0 || to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        self.pass();
        let _ = from.shutdown(Shutdown::Read);
        let _ = to.shutdown(Shutdown::Write);
    }
}
