//! A controller's requests to a leader.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use weir_worker::tls::{Identity, Security};

/// Who has not taken a connection by then may be cut off.
const CONNECT: Duration = Duration::from_secs(1);

/// Who has not answered by then may stand still.
const ANSWER: Duration = Duration::from_secs(2);

/// The status and the body of the answer to who has the certificate in `identity`; `None` when nobody answers.
pub fn ask(identity: &Path, address: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: weir\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let answer = runtime.block_on(async {
        let security = Security::Mutual(Identity::in_folder(identity).unwrap());
        let mut stream = timeout(CONNECT, security.connect(address)).await.ok()?.ok()?;
        stream.write_all((head + body).as_bytes()).await.ok()?;
        stream.flush().await.ok()?;
        let mut answer = String::new();
        // Whoever answers and ends the connection has answered.
        let _ = timeout(ANSWER, stream.read_to_string(&mut answer)).await.ok()?;
        Some(answer)
    })?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| (status, body.to_owned()))
}
