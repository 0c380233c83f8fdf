//! Shows savepoints.

use crate::cli::exit::{Code, Refusal};
use crate::cli::found::Found;
use crate::cli::progress::size;
use crate::cli::table::{self, Align};
use crate::cli::time;
use serde_json::{Value, json};
use weir_protocol::chain::{Manifest, OperatorState};
use weir_protocol::{EventTime, OperatorId};

/// `weir savepoint list`.
pub(super) fn list(found: &Found, as_json: bool) -> Result<Code, Refusal> {
    let savepoints = found.history.savepoints();
    let manifests = savepoints.iter().map(|(name, pin)| (name, pin, found.history.manifest(pin.link)));
    if as_json {
        let objects = manifests.map(|(name, pin, manifest)| match manifest {
            Ok(manifest) => json!({
                "name": name, "uid": pin.uid, "link": pin.link, "checkpoint": manifest.checkpoint,
                "completedUnixMs": manifest.completed_unix_ms, "bytes": manifest.sizes.total_bytes, "files": manifest.sizes.files,
            }),
            Err(failure) => json!({"name": name, "uid": pin.uid, "link": pin.link, "damage": failure.chain()}),
        });
        println!("{}", Value::Array(objects.collect()));
        return Ok(Code::Done);
    }
    if savepoints.is_empty() {
        println!("job {} has no savepoints", found.history.job);
        return Ok(Code::Done);
    }
    let rows: Vec<Vec<String>> = manifests
        .map(|(name, pin, manifest)| {
            let rest = match manifest {
                Ok(manifest) => [
                    manifest.checkpoint.to_string(),
                    pin.link.to_string(),
                    time::of_unix_ms(manifest.completed_unix_ms),
                    size(manifest.sizes.total_bytes),
                ],
                Err(failure) => ["?".to_owned(), pin.link.to_string(), failure.chain(), "?".to_owned()],
            };
            [name.clone()].into_iter().chain(rest).collect()
        })
        .collect();
    let headings = [
        ("name", Align::Left),
        ("checkpoint", Align::Right),
        ("link", Align::Right),
        ("time", Align::Left),
        ("size", Align::Right),
    ];
    print!("{}", table::render(&headings, &rows));
    Ok(Code::Done)
}

/// `weir savepoint inspect`.
pub(super) fn inspect(found: &Found, name: &str, as_json: bool) -> Result<Code, Refusal> {
    let manifest = manifest(found, name)?;
    if as_json {
        let text =
            serde_json::to_string_pretty(manifest).map_err(|error| Refusal::failed(format!("error: {error}")))?;
        println!("{text}");
        return Ok(Code::Done);
    }
    let pending: usize = manifest.committables.values().map(std::collections::BTreeMap::len).sum();
    println!("job           {}", manifest.job);
    println!("checkpoint    {} (link {}, generation {})", manifest.checkpoint, manifest.number, manifest.generation);
    println!("time          {}", time::of_unix_ms(manifest.completed_unix_ms));
    println!("parallelism   {} of {} key groups", manifest.parallelism, manifest.max_parallelism.get());
    println!("plan          {}", manifest.plan);
    println!("size          {} in {} files", size(manifest.sizes.total_bytes), manifest.sizes.files);
    println!("to commit     {pending}");
    if let Some(stop) = manifest.stop {
        println!("stopped       {}", format!("{stop:?}").to_lowercase());
    }
    for (id, state) in &manifest.operators {
        println!();
        operator(id, state, manifest.committables.get(id).map_or(0, std::collections::BTreeMap::len));
    }
    Ok(Code::Done)
}

fn manifest<'a>(found: &'a Found, name: &str) -> Result<&'a Manifest, Refusal> {
    // A savepoint may be called so, and then that one is meant.
    if name == "latest" && !found.history.savepoints().contains_key(name) {
        let standing = found.history.standing()?;
        for link in &standing.skipped {
            if let Some(damage) = found.history.damaged.get(link) {
                eprintln!("warning: {damage}; this is the checkpoint before it");
            }
        }
        return standing
            .manifest
            .ok_or_else(|| Refusal::user(format!("error: job {} has no checkpoint yet", found.history.job)));
    }
    Ok(found.history.manifest(found.pin(name)?.link)?)
}

fn operator(id: &OperatorId, state: &OperatorState, pending: usize) {
    println!("{id}: {}", state.kind);
    if !state.schema.is_null() {
        println!("  schema      {}", state.schema);
    }
    if !state.files.is_empty() {
        let (bytes, rows): (u64, u64) =
            state.files.iter().fold((0, 0), |sum, file| (sum.0 + file.bytes, sum.1 + file.rows));
        println!("  files       {} with {rows} rows, {}", state.files.len(), size(bytes));
    }
    for split in state.unfinished.values() {
        println!("  split       {} at {}{}", split.split, split.position, watermark(Some(split.watermark)));
    }
    if !state.finished.is_empty() {
        println!("  splits      {} read to their ends", state.finished.len());
    }
    if let Some(lowest) = state.watermarks.iter().map(|(_, watermark)| *watermark).min() {
        println!("  event time {}", watermark(Some(lowest)).trim_start_matches(','));
    }
    for (name, count) in &state.counters {
        println!("  counter     {name} {count}");
    }
    if pending > 0 {
        println!("  to commit   {pending}");
    }
}

fn watermark(watermark: Option<EventTime>) -> String {
    match watermark {
        None | Some(EventTime::MIN) => String::new(),
        Some(EventTime::MAX) => ", watermark at the end".to_owned(),
        Some(EventTime(ms)) => {
            let time = chrono::DateTime::from_timestamp_millis(ms);
            time.map_or_else(String::new, |time| format!(", watermark {}", time.format("%Y-%m-%d %H:%M:%S%.3f")))
        }
    }
}
