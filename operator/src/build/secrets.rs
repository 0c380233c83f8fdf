//! Which Secrets a job reads.

use std::collections::BTreeSet;
use weir_crds::StreamJobSpec;

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
    use super::in_sql;

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
}
