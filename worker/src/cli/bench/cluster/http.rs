//! Asks a worker of the benchmark: one small request at a time, on a connection of its own.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(40);

/// A process that does not answer this quickly is dead or not there yet.
const NEAR: Duration = Duration::from_millis(300);

/// The numbers of a worker, as text.
pub(super) fn metrics(address: SocketAddr) -> io::Result<String> {
    let (status, text) = send(address, "GET", "/metrics", "", NEAR)?;
    if status == 200 { Ok(text) } else { Err(io::Error::other(format!("status {status}"))) }
}

/// What the leader answers, with its status.
pub(super) fn ask(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> io::Result<(u16, Value)> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let (status, text) = send(address, method, path, &body, PATIENCE)?;
    Ok((status, serde_json::from_str(&text)?))
}

fn send(address: SocketAddr, method: &str, path: &str, body: &str, patience: Duration) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
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
