//! A client that shows what it has.

use super::contains;
use crate::tls::tests::connect_without_certificate;
use crate::tls::{Authority, Security, Stream};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Who asks.
pub(super) enum Client {
    Of(Security),
    Nobody(Box<Authority>),
}

impl Client {
    /// The status and the body, or why there is no answer.
    pub(super) fn ask(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        body: &str,
    ) -> Result<(u16, String), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: worker.weir\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let answer = runtime.block_on(async {
            let mut stream = self.connect(address).await?;
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
            Ok::<_, String>(answer)
        })?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer but {answer:?}"))?;
        Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
    }

    async fn connect(&self, address: SocketAddr) -> Result<Stream, String> {
        match self {
            Self::Of(security) => security.connect(address).await.map_err(|failure| failure.chain()),
            Self::Nobody(authority) => {
                connect_without_certificate(authority, address).await.map_err(|error| error.to_string())
            }
        }
    }

    #[track_caller]
    pub(super) fn check(
        &self,
        address: SocketAddr,
        (method, path, body): (&str, &str, &str),
        expected: u16,
        part: &Value,
    ) {
        let (status, text) = self.ask(address, method, path, body).unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {text}"));
        assert_eq!(status, expected, "{method} {path} {body}: {text}");
        assert!(contains(&answer, part), "{method} {path} {body}: {text}");
    }
}
