//! Requests to a worker, as a controller, a worker or a kubelet sends them.

use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_worker::tls::{Identity, Security};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Debug, Clone, Copy)]
pub enum Method {
    Get,
    Put,
    Post,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Put => "PUT",
            Self::Post => "POST",
        }
    }
}

fn request(method: Method, path: &str, body: Option<&Value>) -> String {
    let body = body.map(ToString::to_string).unwrap_or_default();
    format!(
        "{} {path} HTTP/1.1\r\nHost: weir\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        method.name(),
        body.len()
    )
}

fn answer(text: &str) -> Option<(u16, Value)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// Asks over TLS, with the certificate in `identity`. `None` when nobody answers.
pub fn ask(identity: &Path, address: &str, method: Method, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = runtime.block_on(async {
        let security = Security::Mutual(Identity::in_folder(identity).unwrap());
        let mut stream = security.connect(address.parse().unwrap()).await.ok()?;
        stream.write_all(request(method, path, body).as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        let mut text = String::new();
        // Whoever answers and ends the connection has answered.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await.ok()?;
        Some(text)
    })?;
    answer(&text)
}

/// Asks in plain text.
pub fn ask_plainly(address: &str, path: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request(Method::Get, path, None).as_bytes()).ok()?;
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    answer(&text)
}
