//! Which Secrets a job reads, and which objects its pods cannot start without.

use std::collections::BTreeSet;

use serde_json::Value;
use weir_crds::StreamJobSpec;

use crate::model::Needed;

/// How a secret is written in SQL.
const OPENS: &str = "${secret:";

/// The Secrets that the pods of a job mount, sorted.
pub(super) fn of(spec: &StreamJobSpec) -> Vec<String> {
    let sql = spec.pipeline.sql.as_deref().unwrap_or_default();
    let mut names: BTreeSet<String> = in_sql(sql).collect();
    let bucket = spec.storage.as_ref().and_then(|storage| storage.s3.as_ref());
    names.extend(bucket.and_then(|s3| s3.credentials_secret_ref.as_ref()).map(|secret| secret.name.clone()));
    names.into_iter().collect()
}

/// What the volumes of a pod template are made of, but for what is optional there.
pub(super) fn in_volumes(volumes: &[Value]) -> impl Iterator<Item = Needed> {
    volumes.iter().flat_map(|volume| {
        let projected = volume["projected"]["sources"].as_array().into_iter().flatten();
        let projected = projected.flat_map(|source| needed(source, "name"));
        needed(volume, "secretName").into_iter().chain(projected)
    })
}

/// What one source names; a Secret's name has another field in a volume of its own than in a projected one.
fn needed(source: &Value, secret_name: &str) -> Vec<Needed> {
    let named = |source: &Value, field: &str| -> Option<String> {
        let name = source[field].as_str().filter(|name| is_name(name))?;
        (source["optional"] != true).then(|| name.to_owned())
    };
    let secret = named(&source["secret"], secret_name).map(Needed::Secret);
    let config_map = named(&source["configMap"], "name").map(Needed::ConfigMap);
    secret.into_iter().chain(config_map).collect()
}

fn in_sql(sql: &str) -> impl Iterator<Item = String> {
    sql.split(OPENS).skip(1).filter_map(|rest| {
        let (inside, _) = rest.split_once('}')?;
        let (name, _) = inside.split_once('/')?;
        is_name(name).then(|| name.to_owned())
    })
}

/// Whether a Secret can have this name; whatever else stands there is for the planner to refuse.
fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let outer = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    name.len() <= 253 && name.bytes().all(inner) && outer(name.bytes().next()) && outer(name.bytes().last())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{in_sql, in_volumes};

    #[track_caller]
    fn check(sql: &str, names: &[&str]) {
        assert_eq!(in_sql(sql).collect::<Vec<_>>(), names, "{sql}");
    }

    #[test]
    fn secrets_are_found_where_the_sql_names_them() {
        check("WITH ('password' = '${secret:kafka/password}')", &["kafka"]);
        check("'${secret:a/x}', '${secret:b.c/y}' -- ${secret:a/z}", &["a", "b.c", "a"]);
        check("'${secret:no-key}' '${secret:UPPER/key}' '${secret:/key}' '${secret:open/key", &[]);
    }

    #[track_caller]
    fn check_volume(source: &str, wanted: &str) {
        let volume: Value = serde_json::from_str(source).expect("a volume is JSON");
        let needed: Vec<String> = in_volumes(&[volume]).map(|needed| format!("{needed:?}")).collect();
        assert_eq!(needed.join(" "), wanted, "{source}");
    }

    #[test]
    fn volumes_need_what_they_are_made_of_unless_it_is_optional() {
        check_volume(r#"{"name": "a", "secret": {"secretName": "ca"}}"#, r#"Secret("ca")"#);
        check_volume(r#"{"name": "a", "secret": {"secretName": "ca", "optional": false}}"#, r#"Secret("ca")"#);
        check_volume(r#"{"name": "a", "secret": {"secretName": "ca", "optional": true}}"#, "");
        check_volume(r#"{"name": "a", "configMap": {"name": "tables"}}"#, r#"ConfigMap("tables")"#);
        check_volume(r#"{"name": "a", "configMap": {"name": "tables", "optional": true}}"#, "");
        let projected = r#"{"name": "a", "projected": {"sources": [
            {"secret": {"name": "ca"}}, {"configMap": {"name": "tables"}}, {"downwardAPI": {}},
            {"secret": {"name": "other", "optional": true}}, {"configMap": {"name": "Not a name"}}]}}"#;
        check_volume(projected, r#"Secret("ca") ConfigMap("tables")"#);
        check_volume(r#"{"name": "a", "emptyDir": {}}"#, "");
        check_volume(r#""no volume""#, "");
    }
}
