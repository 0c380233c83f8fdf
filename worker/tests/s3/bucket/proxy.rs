//! A proxy before a server that does what servers and networks do on their bad days.

use super::held::Held;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server has too much to do; nothing happens.
    SlowDown,
    /// No answer comes for so long, or until the proxy is released; then the request is carried out.
    Hang(Duration),
    /// It is carried out, and answered with an error of the server.
    AppliedThenError,
    /// It is carried out, and the connection ends without an answer.
    AppliedThenCut,
    /// The connection ends within the answer's content.
    CutContent,
    /// Another write of the object is under way; nothing happens.
    Conflict,
    /// The server does not do such things; nothing happens.
    NotImplemented,
    /// Who asks may not do this; nothing happens.
    Denied,
    /// A write happens whatever its condition says.
    IgnoreCondition,
}

/// Which requests meet a fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) method: &'static str,
    /// Something that the path and query contain.
    pub(crate) target: &'static str,
    pub(crate) fault: Fault,
    /// Of those requests every n-th one.
    pub(crate) every: usize,
    /// Not more than this many.
    pub(crate) times: usize,
}

/// A request that changed something, and who sent it.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) by: IpAddr,
    pub(crate) method: String,
    pub(crate) target: String,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    data: PathBuf,
    plans: Mutex<Vec<(Plan, usize, usize)>>,
    held: Mutex<Vec<Arc<Held>>>,
    met: Mutex<BTreeMap<String, usize>>,
    changes: Mutex<Vec<Change>>,
    away: AtomicBool,
    /// Requests that nobody answered because the server was away, by method and target.
    unanswered: Mutex<BTreeMap<(String, String), usize>>,
    ended: AtomicBool,
    /// How often what hangs was released.
    released: Mutex<u64>,
    release: Condvar,
}

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    head: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Proxy {
    /// A proxy before the server at `server`, which keeps its objects in `data`.
    pub(crate) fn start(server: SocketAddr, data: PathBuf) -> Self {
        Self::listen(Ipv4Addr::LOCALHOST.into(), server, data)
    }

    /// One that listens at an address of this machine.
    pub(crate) fn listen(at: IpAddr, server: SocketAddr, data: PathBuf) -> Self {
        let listener = TcpListener::bind((at, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            server,
            data,
            plans: Mutex::default(),
            held: Mutex::default(),
            met: Mutex::default(),
            changes: Mutex::default(),
            away: AtomicBool::new(false),
            unanswered: Mutex::default(),
            ended: AtomicBool::new(false),
            released: Mutex::default(),
            release: Condvar::new(),
        });
        let for_connections = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&for_connections);
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                // The thread ends with its connection.
                std::thread::spawn(move || shared.serve(&client));
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    pub(crate) fn plan(&self, plan: Plan) {
        self.shared.plans.lock().push((plan, 0, 0));
    }

    /// The first `times` requests of this kind.
    pub(crate) fn fault(&self, method: &'static str, target: &'static str, fault: Fault, times: usize) {
        self.plan(Plan { method, target, fault, every: 1, times });
    }

    /// Stops a request of this kind on its way, once.
    pub(crate) fn hold(&self, held: Held) -> Arc<Held> {
        let held = Arc::new(held);
        self.shared.held.lock().push(Arc::clone(&held));
        held
    }

    /// Nobody gets an answer from now on, or everybody does again.
    pub(crate) fn is_away(&self, away: bool) {
        self.shared.away.store(away, Ordering::Relaxed);
    }

    /// How often one request of this kind was tried while the server was away, at most.
    pub(crate) fn tries_while_away(&self, method: &str, target: &str) -> usize {
        let unanswered = self.shared.unanswered.lock();
        let of_kind = unanswered.iter().filter(|((by, to), _)| by == method && to.contains(target));
        of_kind.map(|(_, tries)| *tries).max().unwrap_or(0)
    }

    /// How many requests have met their faults.
    pub(crate) fn met(&self) -> usize {
        self.shared.met.lock().values().sum()
    }

    /// The same by fault.
    pub(crate) fn met_by_fault(&self) -> BTreeMap<String, usize> {
        self.shared.met.lock().clone()
    }

    /// What has been changed, from the first such request on.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.shared.changes.lock().clone()
    }

    /// What hangs is carried out now.
    pub(crate) fn release(&self) {
        *self.shared.released.lock() += 1;
        self.shared.release.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.release();
        self.shared.held.lock().iter().for_each(|held| held.lose());
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn serve(&self, client: &TcpStream) {
        let mut reader = BufReader::new(client);
        while let Ok(Some(request)) = read_request(&mut reader) {
            let goes_on = match self.stopped(&request) {
                Some(held) => self.answer_held(client, &request, &held),
                None if self.away.load(Ordering::Relaxed) => {
                    self.meets("Away");
                    *self.unanswered.lock().entry((request.method, request.target)).or_default() += 1;
                    Ok(false)
                }
                None => self.answer(client, &request),
            };
            if !matches!(goes_on, Ok(true)) {
                let _ = client.shutdown(std::net::Shutdown::Both);
                return;
            }
        }
    }

    fn meets(&self, fault: &str) {
        *self.met.lock().entry(fault.to_owned()).or_default() += 1;
    }

    fn stopped(&self, request: &Request) -> Option<Arc<Held>> {
        let mut held = self.held.lock();
        let at = held.iter().position(|held| held.concerns(request))?;
        Some(held.remove(at))
    }

    fn answer_held(&self, mut client: &TcpStream, request: &Request, held: &Held) -> io::Result<bool> {
        self.meets("Held");
        let Some(answered) = held.stop(|| self.forward(client, request)) else { return Ok(false) };
        client.write_all(&answered?)?;
        Ok(true)
    }

    /// True while the connection goes on.
    fn answer(&self, mut client: &TcpStream, request: &Request) -> io::Result<bool> {
        let error = |status: &str, code: &str| {
            let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>planned</Message></Error>");
            let length = body.len();
            format!("HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        match self.fault_of(request) {
            None => client.write_all(&self.forward(client, request)?)?,
            Some(Fault::SlowDown) => client.write_all(error("503 Slow Down", "SlowDown").as_bytes())?,
            Some(Fault::Conflict) => {
                client.write_all(error("409 Conflict", "ConditionalRequestConflict").as_bytes())?;
            }
            Some(Fault::NotImplemented) => {
                client.write_all(error("501 Not Implemented", "NotImplemented").as_bytes())?;
            }
            Some(Fault::Denied) => client.write_all(error("403 Forbidden", "AccessDenied").as_bytes())?,
            Some(Fault::AppliedThenError) => {
                self.forward(client, request)?;
                client.write_all(error("500 Internal Server Error", "InternalError").as_bytes())?;
            }
            Some(Fault::AppliedThenCut) => {
                self.forward(client, request)?;
                return Ok(false);
            }
            Some(Fault::Hang(time)) => {
                let mut released = self.released.lock();
                let before = *released;
                let hangs = |now: &mut u64| *now == before && !self.ended.load(Ordering::Relaxed);
                self.release.wait_while_for(&mut released, hangs, time);
                drop(released);
                // Nobody may be there any more to whom the answer matters.
                client.write_all(&self.forward(client, request)?)?;
            }
            Some(Fault::CutContent) => {
                let answer = self.forward(client, request)?;
                client.write_all(&answer[..answer.len() - answer.len() / 4])?;
                return Ok(false);
            }
            Some(Fault::IgnoreCondition) => {
                let path = request.target.split('?').next().unwrap_or_default();
                let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
                let _ = fs::remove_file(self.data.join(key));
                client.write_all(&self.forward(client, request)?)?;
            }
        }
        Ok(true)
    }

    fn fault_of(&self, request: &Request) -> Option<Fault> {
        let mut plans = self.plans.lock();
        let mut found = None;
        for (plan, seen, met) in plans.iter_mut() {
            if plan.method == request.method && request.target.contains(plan.target) {
                *seen += 1;
                if *seen % plan.every == 0 && *met < plan.times {
                    *met += 1;
                    found = Some(plan.fault);
                    break;
                }
            }
        }
        plans.retain(|(plan, _, met)| *met < plan.times);
        drop(plans);
        found.inspect(|fault| self.meets(format!("{fault:?}").split('(').next().unwrap_or_default()))
    }

    /// Has the server carry the request out; its whole answer.
    fn forward(&self, client: &TcpStream, request: &Request) -> io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(self.server)?;
        server.write_all(&request.head)?;
        server.write_all(&request.body)?;
        let mut reader = BufReader::new(server);
        loop {
            let mut answer = Vec::new();
            let length = read_head(&mut reader, &mut answer)?;
            let status = answer.split(|byte| *byte == b' ').nth(1).unwrap_or_default().to_vec();
            if status.first() == Some(&b'1') {
                continue;
            }
            if request.method != "HEAD" && status != b"204" && status != b"304" {
                read_body(&mut reader, length, &mut answer)?;
            }
            if status.first() == Some(&b'2') && !matches!(request.method.as_str(), "GET" | "HEAD") {
                let (method, target) = (request.method.clone(), request.target.clone());
                let by = client.peer_addr().map_or(self.server.ip(), |address| address.ip());
                self.changes.lock().push(Change { by, method, target });
            }
            return Ok(answer);
        }
    }
}

/// The length of what follows a head.
#[derive(Clone, Copy)]
enum Length {
    Known(usize),
    Chunked,
}

fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    if reader.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let length = read_head(reader, &mut head)?;
    let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut body = Vec::new();
    read_body(reader, length, &mut body)?;
    Ok(Some(Request { method, target, head, body }))
}

fn read_head(reader: &mut impl BufRead, head: &mut Vec<u8>) -> io::Result<Length> {
    let mut length = Length::Known(0);
    loop {
        let start = head.len();
        if reader.read_until(b'\n', head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = String::from_utf8_lossy(&head[start..]).trim().to_ascii_lowercase();
        if line.is_empty() {
            return Ok(length);
        }
        if let Some(number) = line.strip_prefix("content-length:") {
            length = Length::Known(number.trim().parse().map_err(io::Error::other)?);
        } else if line.starts_with("transfer-encoding:") && line.contains("chunked") {
            length = Length::Chunked;
        }
    }
}

fn read_body(reader: &mut impl BufRead, length: Length, body: &mut Vec<u8>) -> io::Result<()> {
    match length {
        Length::Known(length) => reader.take(length as u64).read_to_end(body).map(drop),
        Length::Chunked => loop {
            let start = body.len();
            reader.read_until(b'\n', body)?;
            let line = String::from_utf8_lossy(&body[start..]).trim().to_owned();
            let size = u64::from_str_radix(&line, 16).map_err(io::Error::other)?;
            reader.by_ref().take(size + 2).read_to_end(body)?;
            if size == 0 {
                return Ok(());
            }
        },
    }
}
