//! State and files in a bucket: against a real S3 server, through a proxy that makes it fail, and as a user runs it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says what it skips")]

mod away;
mod bucket;
mod export;
mod files;
mod forks;
mod jobs;
#[path = "../nexmark/moments.rs"]
mod moments;
#[path = "../nexmark/queries.rs"]
mod queries;
mod run;
mod tables;
mod web_identity;
mod workers;

use bucket::gateway::{BUCKET, Gateway, KEY_ID, SECRET, Tls};
use bucket::proxy::{Fault, Proxy};
use bytes::Bytes;
use std::path::Path;
use std::time::Duration;
use weir_protocol::Generation;
use weir_worker::checkpoint::store::s3::{
    Bucket, Completed, Condition, Credentials, IfAbsent, Limits, Put, S3Store, Settings,
};
use weir_worker::checkpoint::store::{self, Store};
use weir_worker::failure::Kind;

/// Bytes that are like no others.
fn content(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| ((at.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 56) as u8).collect()
}

/// A bucket behind a proxy, with little patience.
fn troubled(gateway: &Gateway) -> (Proxy, Bucket) {
    let proxy = Proxy::start(gateway.address, gateway.data());
    let bucket = Bucket::open(Gateway::settings_at(proxy.address)).unwrap();
    (proxy, bucket)
}

fn impatient(address: std::net::SocketAddr) -> Settings {
    let limits = Limits { attempt: Duration::from_millis(300), attempts: 1, ..Limits::default() };
    Settings { limits, ..Gateway::settings_at(address) }
}

#[test]
fn writes_happen_only_under_their_conditions() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let put = |body: &'static str, condition| bucket.put("a/b", Bytes::from_static(body.as_bytes()), condition);
    assert!(matches!(put("zero", Condition::IfMatch("\"none\"".into())), Put::Refused));
    let Put::Done(first) = put("one", Condition::IfAbsent) else { panic!("not done") };
    assert!(matches!(put("two", Condition::IfAbsent), Put::Refused));
    let Put::Done(second) = put("two", Condition::IfMatch(first.clone())) else { panic!("not done") };
    assert!(matches!(put("three", Condition::IfMatch(first)), Put::Refused));
    assert_eq!(bucket.get("a/b").unwrap().unwrap(), "two");
    assert_eq!(bucket.head("a/b").unwrap().unwrap().etag, second);
    assert!(matches!(put("four", Condition::None), Put::Done(_)));
    assert_eq!(bucket.get_range("a/b", 1..3).unwrap().unwrap(), "ou");
    assert_eq!(bucket.get_range("a/b", 2..900).unwrap().unwrap(), "ur");
    assert_eq!(bucket.get_range("a/b", 10..12).unwrap().unwrap(), "");
    assert_eq!(bucket.get("a/c").unwrap(), None);
    assert_eq!(bucket.get_range("a/c", 0..1).unwrap(), None);
    assert_eq!(bucket.head("a/c").unwrap(), None);
}

#[test]
fn of_many_writers_one_wins() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    for round in 0..20 {
        let key = format!("generations/{round}");
        let won = std::thread::scope(|scope| {
            let write = |writer: u8| {
                let (bucket, key) = (&bucket, &key);
                scope.spawn(move || {
                    let body = Bytes::from(vec![writer]);
                    matches!(bucket.put(key, body, Condition::IfAbsent), Put::Done(_)).then_some(writer)
                })
            };
            let writers: Vec<_> = (0..8).map(write).collect();
            writers.into_iter().filter_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(won.len(), 1);
        assert_eq!(bucket.get(&key).unwrap().unwrap(), won);
    }
}

#[test]
fn a_listing_and_a_deletion_go_over_all_pages() {
    let Some(gateway) = Gateway::start() else { return };
    let store = S3Store::open(Bucket::open(gateway.settings()).unwrap(), "p/job").unwrap();
    let folder = gateway.data().join("p/job/state/op");
    std::fs::create_dir_all(&folder).unwrap();
    for number in 0..2_500 {
        std::fs::write(folder.join(format!("{number:05}")), b"x").unwrap();
    }
    let names = store.list("state/").unwrap();
    assert_eq!(names.len(), 2_500);
    assert!(names.is_sorted());
    assert_eq!((names[0].as_str(), names[2_499].as_str()), ("state/op/00000", "state/op/02499"));
    let gone = [&names[..2_400], &["state/op/never".to_owned()]].concat();
    store.delete(&gone).unwrap();
    assert_eq!(store.list("state/").unwrap().len(), 100);
    assert_eq!(store.list("").unwrap().len(), 100, "the probe is gone");
    assert_eq!(store.list("other/").unwrap(), Vec::<String>::new());
}

#[test]
fn large_files_go_in_parts_and_come_in_ranges() {
    let Some(gateway) = Gateway::start() else { return };
    let store = S3Store::open(Bucket::open(gateway.settings()).unwrap(), "p/job").unwrap();
    let body = content(20 << 20);
    assert!(matches!(store.put_if_absent("state/op/1-a", &body), store::Put::Done));
    assert!(matches!(store.put_if_absent("state/op/1-a", &content(17 << 20)), store::Put::Exists));
    assert_eq!(store.get("state/op/1-a").unwrap().unwrap(), body);
    let ranges = [(19 << 20)..(20 << 20), 0..(18 << 20), 5..5, (8 << 20) - 1..(8 << 20) + 1];
    for (range, found) in ranges.iter().zip(store.get_ranges("state/op/1-a", &ranges).unwrap()) {
        assert!(found == body[range.start as usize..range.end as usize], "{range:?}");
    }
    for beyond in [(20 << 20) - 1..(20 << 20) + 1, 0..u64::MAX] {
        assert_eq!(store.get_range("state/op/1-a", beyond).unwrap_err().kind, Kind::Corrupt);
    }
    assert_eq!(store.get_range("state/op/none", 0..1).unwrap_err().kind, Kind::Corrupt);
    assert_eq!(store.bucket().list_uploads("").unwrap(), []);
}

#[test]
fn unfinished_uploads_of_earlier_generations_are_aborted() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let store = S3Store::open(bucket.clone(), "p/job").unwrap();
    let begin = |key: &str| {
        let upload = bucket.create_upload(key).unwrap();
        (bucket.upload_part(&upload, 1, Bytes::from_static(b"part")).unwrap(), upload)
    };
    let [(part, early), (_, own), (_, other)] =
        ["p/job/state/op/3-a", "p/job/state/op/7-b", "p/other/state/op/3-a"].map(begin);
    store.remove_unfinished(Generation(7)).unwrap();
    let mut left: Vec<String> = bucket.list_uploads("p/").unwrap().into_iter().map(|upload| upload.id).collect();
    left.sort();
    let mut expected = [own.id.clone(), other.id];
    expected.sort();
    assert_eq!(left, expected);
    // Who was frozen meanwhile cannot complete its upload any more.
    assert!(matches!(bucket.complete_upload(&early, &[part], IfAbsent::Yes), Completed::NoSuchUpload));
    assert_eq!(bucket.head("p/job/state/op/3-a").unwrap(), None);
    bucket.abort_upload(&early).unwrap();
    bucket.abort_upload(&own).unwrap();
}

#[test]
fn what_passes_is_tried_again() {
    let Some(gateway) = Gateway::start() else { return };
    let (proxy, bucket) = troubled(&gateway);
    let faults = [Fault::SlowDown, Fault::Conflict, Fault::AppliedThenError, Fault::AppliedThenCut];
    for (number, fault) in faults.into_iter().enumerate() {
        let key = format!("put-{number}");
        proxy.fault("PUT", ["put-0", "put-1", "put-2", "put-3"][number], fault, 2);
        let outcome = bucket.put(&key, Bytes::from(key.clone()), Condition::IfAbsent);
        assert!(matches!(outcome, Put::Done(_)), "{fault:?}: {outcome:?}");
        assert_eq!(bucket.get(&key).unwrap().unwrap(), key);
        assert!(matches!(bucket.put(&key, Bytes::from_static(b"x"), Condition::IfAbsent), Put::Refused));
    }
    let meter = bucket.meter().read();
    // A write that is refused after an answer was lost may be the own one: that is looked at, not written again.
    assert_eq!((meter[0].throttled, meter[0].retries), (2, 2 * 4));
    proxy.fault("GET", "put-0", Fault::CutContent, 2);
    assert_eq!(bucket.get("put-0").unwrap().unwrap(), "put-0");
    proxy.fault("GET", "list-type=2", Fault::SlowDown, 1);
    assert_eq!(bucket.list("put-").unwrap().len(), 4);
    proxy.fault("POST", "delete", Fault::AppliedThenCut, 1);
    bucket.delete(&["put-0".to_owned()]).unwrap();
    assert_eq!(bucket.get("put-0").unwrap(), None);
}

#[test]
fn after_an_unknown_outcome_another_ones_write_is_not_taken_for_the_own() {
    let Some(gateway) = Gateway::start() else { return };
    let (proxy, bucket) = troubled(&gateway);
    let direct = Bucket::open(gateway.settings()).unwrap();
    assert!(matches!(direct.put("contested", Bytes::from_static(b"other"), Condition::IfAbsent), Put::Done(_)));
    proxy.fault("PUT", "contested", Fault::AppliedThenError, 1);
    assert!(matches!(bucket.put("contested", Bytes::from_static(b"own"), Condition::IfAbsent), Put::Refused));
}

#[test]
fn a_write_without_an_answer_is_neither_done_nor_undone() {
    let Some(gateway) = Gateway::start() else { return };
    let proxy = Proxy::start(gateway.address, gateway.data());
    let bucket = Bucket::open(impatient(proxy.address)).unwrap();
    proxy.fault("PUT", "late", Fault::Hang(Duration::MAX), 1);
    let outcome = bucket.put("late", Bytes::from_static(b"late"), Condition::IfAbsent);
    let Put::Unknown(failure) = outcome else { panic!("{outcome:?}") };
    assert!(failure.chain().contains("no answer within 0.3"), "{}", failure.chain());
    let direct = Bucket::open(gateway.settings()).unwrap();
    assert_eq!(direct.get("late").unwrap(), None);
    // It lands after it was given up, unless somebody was there before.
    proxy.release();
    while direct.get("late").unwrap().is_none() {
        std::thread::yield_now();
    }
    assert!(matches!(direct.put("late", Bytes::from_static(b"next"), Condition::IfAbsent), Put::Refused));
}

#[test]
fn a_file_in_parts_survives_faults_in_each_of_its_steps() {
    let Some(gateway) = Gateway::start() else { return };
    let proxy = Proxy::start(gateway.address, gateway.data());
    let store = S3Store::open(Bucket::open(Gateway::settings_at(proxy.address)).unwrap(), "p/job").unwrap();
    let body = content(18 << 20);
    let steps = [
        ("POST", "?uploads", Fault::SlowDown, store::Put::Done),
        ("POST", "?uploads", Fault::AppliedThenCut, store::Put::Done),
        ("PUT", "partNumber=2", Fault::SlowDown, store::Put::Done),
        ("PUT", "partNumber=2", Fault::AppliedThenCut, store::Put::Done),
        ("POST", "uploadId=", Fault::SlowDown, store::Put::Done),
        ("POST", "uploadId=", Fault::AppliedThenError, store::Put::Done),
        ("POST", "uploadId=", Fault::AppliedThenCut, store::Put::Done),
    ];
    for (number, (method, target, fault, expected)) in steps.into_iter().enumerate() {
        proxy.fault(method, target, fault, 1);
        let key = format!("state/op/1-{number}");
        let outcome = store.put_if_absent(&key, &body);
        let same = std::mem::discriminant(&outcome) == std::mem::discriminant(&expected);
        assert!(same, "{method} {target} {fault:?}: {outcome:?}");
        assert_eq!(proxy.met(), number + 1);
        assert!(store.get(&key).unwrap().unwrap() == body);
    }
    proxy.fault("GET", "1-0", Fault::CutContent, 3);
    assert!(store.get_range("state/op/1-0", 1..17 << 20).unwrap() == body[1..17 << 20]);
}

#[test]
fn what_the_user_can_mend_is_said() {
    let Some(gateway) = Gateway::start() else { return };
    let good = gateway.settings();
    let fixed = |key_id: &str, secret: &str| Credentials::Fixed {
        key_id: key_id.to_owned(),
        secret: secret.to_owned(),
        token: None,
    };
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let quick = Limits { attempts: 2, ..good.limits };
    let folder = tempfile::tempdir().unwrap();
    let table = [
        (Settings { bucket: "elsewhere".into(), ..good.clone() }, "there is no bucket 'elsewhere' at http://127.0.0.1"),
        (
            Settings { credentials: fixed("nobody", SECRET), limits: quick, ..good.clone() },
            "there are no good credentials",
        ),
        (
            Settings { credentials: fixed(KEY_ID, "wrong"), limits: quick, ..good.clone() },
            "there are no good credentials",
        ),
        (
            Settings { credentials: Credentials::Folder(folder.path().into()), limits: quick, ..good.clone() },
            "AWS_ACCESS_KEY_ID is missing or empty",
        ),
        (Settings { region: Some("mars-west-1".into()), ..good.clone() }, "is not in the region 'mars-west-1'"),
        (
            Settings { endpoint: Some(format!("http://{nobody}")), limits: quick, ..good.clone() },
            "nobody answers at http://127.0.0.1",
        ),
        (
            Settings { endpoint: Some("http://no-such-host.invalid".into()), limits: quick, ..good.clone() },
            "nobody answers at http://no-such-host.invalid",
        ),
    ];
    for (settings, expected) in table {
        let refused = S3Store::open(Bucket::open(settings).unwrap(), "p/job").err().unwrap();
        let said = refused.chain();
        assert_eq!(refused.kind, Kind::User, "{said}");
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
        assert!(!said.contains(SECRET), "{said}");
    }
}

#[test]
fn a_bucket_that_has_worked_may_be_away_for_a_while() {
    let Some(gateway) = Gateway::start() else { return };
    let settings = Settings { limits: Limits { attempts: 2, ..Limits::default() }, ..gateway.settings() };
    let bucket = Bucket::open(settings).unwrap();
    assert!(matches!(bucket.put("a", Bytes::from_static(b"a"), Condition::IfAbsent), Put::Done(_)));
    drop(gateway);
    let outcome = bucket.put("b", Bytes::from_static(b"b"), Condition::IfAbsent);
    let Put::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.kind, Kind::Transient, "{}", failure.chain());
}

#[test]
fn a_store_without_conditional_writes_is_refused_by_name() {
    let Some(gateway) = Gateway::start() else { return };
    let (proxy, bucket) = troubled(&gateway);
    proxy.fault("PUT", ".probe-", Fault::IgnoreCondition, usize::MAX);
    let refused = S3Store::open(bucket, "p/job").err().unwrap();
    assert_eq!(refused.kind, Kind::User);
    let said = refused.chain();
    let name = format!("http://{}", proxy.address);
    assert!(said.contains(&name) && said.contains(BUCKET) && said.contains("ignores If-None-Match"), "{said}");
}

#[test]
fn a_store_without_conditions_for_uploads_in_parts_is_refused_by_name() {
    let Some(gateway) = Gateway::start() else { return };
    for (fault, expected) in [
        (Fault::NotImplemented, "does not do CompleteMultipartUpload with If-None-Match"),
        (Fault::IgnoreCondition, "ignores If-None-Match of CompleteMultipartUpload"),
    ] {
        let (proxy, bucket) = troubled(&gateway);
        proxy.fault("POST", "uploadId=", fault, usize::MAX);
        let refused = S3Store::open(bucket, "p/job").err().unwrap();
        let said = refused.chain();
        assert_eq!(refused.kind, Kind::User, "{said}");
        assert!(said.contains(&format!("http://{}", proxy.address)) && said.contains(expected), "{said}");
    }
    let direct = Bucket::open(gateway.settings()).unwrap();
    assert_eq!((direct.list("").unwrap(), direct.list_uploads("").unwrap()), (vec![], vec![]));
}

/// The server refuses such a body before it has read it, and ends the connection.
#[test]
fn a_large_write_that_is_refused_early_has_an_outcome() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let body = Bytes::from(content(12 << 20));
    assert!(matches!(bucket.put("large", body.clone(), Condition::IfAbsent), Put::Done(_)));
    for round in 0..4 {
        let other = Bytes::from(content((12 << 20) + 1));
        let outcome = bucket.put("large", other, Condition::IfAbsent);
        assert!(matches!(outcome, Put::Refused), "{round}: {outcome:?}");
    }
    // The own write whose answer was lost, perhaps; or a refusal.
    let outcome = bucket.put("large", body, Condition::IfAbsent);
    assert!(matches!(outcome, Put::Done(_) | Put::Refused), "{outcome:?}");
}

#[test]
fn credentials_are_read_again_when_they_are_refused() {
    let Some(gateway) = Gateway::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    put("AWS_ACCESS_KEY_ID", KEY_ID);
    put("AWS_SECRET_ACCESS_KEY", "of yesterday");
    let settings = Settings { credentials: Credentials::Folder(folder.path().into()), ..gateway.settings() };
    let limits = Limits { attempts: 1, ..settings.limits };
    let bucket = Bucket::open(Settings { limits, ..settings }).unwrap();
    assert_eq!(bucket.check().unwrap_err().kind, Kind::User);
    put("AWS_SECRET_ACCESS_KEY", SECRET);
    bucket.check().unwrap();
}

/// A certificate for this machine that nobody vouches for but itself, in files of this name.
fn self_signed(folder: &Path, name: &str) -> Tls {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let write = |end: &str, text: String| {
        let path = folder.join(format!("{name}.{end}"));
        std::fs::write(&path, text).unwrap();
        path
    };
    Tls { certificate: write("pem", made.cert.pem()), key: write("key", made.signing_key.serialize_pem()) }
}

#[test]
fn a_certificate_needs_an_authority_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let [tls, Tls { certificate: foreign, .. }] = ["own", "foreign"].map(|name| self_signed(folder.path(), name));
    let Some(gateway) = Gateway::start_with(Some(&tls)) else { return };
    let settings = |authorities| Settings {
        endpoint: Some(format!("https://{}", gateway.address)),
        authorities: Some(authorities),
        limits: Limits { attempts: 2, ..Limits::default() },
        ..gateway.settings()
    };
    S3Store::open(Bucket::open(settings(tls.certificate.clone())).unwrap(), "p/job").unwrap();
    let refused = S3Store::open(Bucket::open(settings(foreign)).unwrap(), "p/job").err().unwrap();
    assert_eq!(refused.kind, Kind::User);
    assert!(
        refused.chain().contains("is not trusted: ") && refused.chain().contains("foreign.pem"),
        "{}",
        refused.chain()
    );
    let unreadable = Bucket::open(settings(tls.key.clone())).err().unwrap();
    assert!(unreadable.chain().contains("has no certificates in PEM"), "{}", unreadable.chain());
}
