//! Asks a worker of the benchmark: one small request at a time, on a connection of its own.

use crate::tls::{Identity, Security};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(40);

/// A process that does not answer this quickly is dead or not there yet.
const NEAR: Duration = Duration::from_millis(300);

/// The numbers of a worker, as text.
pub(super) fn metrics(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, NEAR)?;
    stream.set_read_timeout(Some(NEAR))?;
    stream.write_all(request(address, "GET", "/metrics", "").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match parsed(&answer)? {
        (200, text) => Ok(text.to_owned()),
        (status, _) => Err(io::Error::other(format!("status {status}"))),
    }
}

/// The leader's API.
pub(super) struct Api {
    address: SocketAddr,
    security: Security,
    runtime: Runtime,
}

impl Api {
    /// Asks there as `identity`.
    pub(super) fn new(address: SocketAddr, identity: Arc<Identity>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        Ok(Self { address, security: Security::Mutual(identity), runtime })
    }

    /// What the leader answers, with its status.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, Value)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let answer = self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.send(&request(self.address, method, path, &body))).await
        });
        let answer = answer.map_err(io::Error::other)??;
        let (status, text) = parsed(&answer)?;
        Ok((status, serde_json::from_str(text)?))
    }

    async fn send(&self, request: &str) -> io::Result<String> {
        let mut stream =
            self.security.connect(self.address).await.map_err(|failure| io::Error::other(failure.chain()))?;
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        String::from_utf8(answer).map_err(io::Error::other)
    }
}

fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn parsed(answer: &str) -> io::Result<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body))
}

/// The sum of a metric's samples whose labels contain all of `labels`, such as `outcome="completed"`.
pub(super) fn sum(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (of, value) = rest.rsplit_once(' ')?;
        let is_it = of.is_empty() || of.starts_with('{');
        (is_it && labels.iter().all(|label| of.contains(label))).then(|| value.parse::<f64>().ok())?
    };
    metrics.lines().filter_map(value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# HELP rows_total Rows.\nrows_total{name=\"a -> sink b\",task=\"0\"} 3\n\
                    rows_total{name=\"source c\",task=\"0\"} 40\nrows_total_more{name=\"sink\"} 500\nsize 1e3\n";
        for (name, labels, expected) in [
            ("rows_total", vec![], 43.0),
            ("rows_total", vec!["sink"], 3.0),
            ("rows_total", vec!["source", "task=\"0\""], 40.0),
            ("size", vec![], 1000.0),
            ("absent", vec![], 0.0),
        ] {
            assert!((sum(text, name, &labels) - expected).abs() < 1e-9, "{name} {labels:?}");
        }
    }
}
