//! Credentials for a token, as pods with a role get them.

use crate::bucket::gateway::{BUCKET, KEY_ID, SECRET};
use crate::run::weir;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A token service that gives the bucket's key to who has the right token, and an empty store beside it; what both were
/// asked is kept.
struct Services {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Services {
    fn start(token: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let for_clients = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let request = read(&client);
                let (status, answer) = match request.starts_with("POST") {
                    true => answer(request.contains(&format!("WebIdentityToken={token}"))),
                    false => {
                        ("200 OK", "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>".to_owned())
                    }
                };
                for_clients.lock().unwrap().push(request);
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nConnection: close\r\nContent-Length: {}",
                    answer.len()
                );
                let _ = write!(&client, "{head}\r\n\r\n{answer}");
            }
        });
        Self { address, asked }
    }
}

/// A request's lines and its content.
fn read(client: &TcpStream) -> String {
    let mut reader = BufReader::new(client);
    let (mut request, mut length) = (String::new(), 0);
    for line in reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        request.extend([&line, "\n"]);
    }
    let _ = reader.take(length).read_to_string(&mut request);
    request
}

fn answer(is_good: bool) -> (&'static str, String) {
    if !is_good {
        let error = "<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code><Message>no such token\
                     </Message></Error><RequestId>r</RequestId></ErrorResponse>";
        return ("400 Bad Request", error.to_owned());
    }
    let credentials = format!(
        "<AccessKeyId>{KEY_ID}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>session</SessionToken>\
         <Expiration>2999-01-01T00:00:00Z</Expiration>"
    );
    let result = format!(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
         <AssumeRoleWithWebIdentityResult><SubjectFromWebIdentityToken>s</SubjectFromWebIdentityToken>\
         <AssumedRoleUser><AssumedRoleId>i:n</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/weir/n</Arn>\
         </AssumedRoleUser><Credentials>{credentials}</Credentials></AssumeRoleWithWebIdentityResult>\
         <ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>"
    );
    ("200 OK", result)
}

#[test]
fn a_token_and_a_role_are_exchanged_for_credentials() {
    let services = Services::start("good-token");
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let state = format!("s3://{BUCKET}/jobs/default/job-0a0b0c0d-0000-4000-8000-000000000001");
    let list = |expected: &str| {
        let mut command = weir(folder.path(), &["savepoint", "list", &state]);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
            command.env_remove(name);
        }
        let address = format!("http://{}", services.address);
        command.env("HOME", folder.path()).env("AWS_REGION", "us-east-1").env("AWS_ENDPOINT_URL", &address);
        command.env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).env("AWS_ROLE_ARN", "arn:aws:iam::1:role/weir");
        let output = command.env("AWS_ENDPOINT_URL_STS", &address).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{:?}: {said}", output.status);
        said
    };
    fs::write(&token, "bad-token").unwrap();
    let said = list("there are no good credentials");
    assert!(said.contains("no such token") && !said.contains("bad-token"), "{said}");
    let of_store = |request: &&String| request.starts_with("GET");
    assert_eq!(services.asked.lock().unwrap().iter().filter(of_store).count(), 0);
    fs::write(&token, "good-token").unwrap();
    list("holds no state of a job");
    let asked = services.asked.lock().unwrap();
    let service = asked.iter().rfind(|request| request.starts_with("POST")).unwrap();
    for part in ["Action=AssumeRoleWithWebIdentity", "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fweir"] {
        assert!(service.contains(part), "{part:?} is not in {service}");
    }
    let store = asked.iter().find(of_store).unwrap();
    for part in [format!("Credential={KEY_ID}/"), "x-amz-security-token: session".to_owned()] {
        assert!(store.contains(&part), "{part:?} is not in {store}");
    }
}
