//! Mistakes that are found before a row is read.

use super::place::*;

/// Mistakes in the manifest.
fn of_manifests() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let good = job(COUNT);
    let with = |spec: &str| manifest(spec, &[BIDS, TOTALS, COUNT]);
    vec![
        ("broken YAML", "kind: [StreamJob".to_owned(), vec!["line 1, column 7", "unclosed bracket"]),
        ("tab", good.replace("  parallelism", "\tparallelism"), vec!["line 5", "hint: indent with spaces"]),
        ("empty", String::new(), vec!["the manifest is empty", "hint: "]),
        ("list", "- a\n".to_owned(), vec!["line 1", "expected a StreamJob"]),
        (
            "unknown field",
            good.replace("parallelism", "paralelism"),
            vec!["line 5, column 3: spec.paralelism", "did you mean parallelism?"],
        ),
        ("kind", good.replace("StreamJob", "Streamjob"), vec!["line 2, column 7: kind: expected StreamJob"]),
        (
            "wrong type",
            good.replace("lism: 2", "lism: two"),
            vec!["line 5, column 16: spec.parallelism: expected a whole number"],
        ),
        ("negative", good.replace("lism: 2", "lism: -2"), vec!["spec.parallelism: expected a number from 1"]),
        ("no name", good.replace("{name: job}", "{}"), vec!["metadata.name: missing", "hint: name the job"]),
        (
            "name",
            good.replace("name: job", "name: A_b"),
            vec!["line 3", "metadata.name", "hint: names begin with a letter"],
        ),
        ("twice", good.replace("lism: 2", "lism: 2\n  parallelism: 3"), vec!["line 6, column 3", "twice"]),
        (
            "exclusive",
            with("  restart: {none: {}, fixedDelay: {}}\n"),
            vec!["line 6, column 13", "exclude each other", "keep one of"],
        ),
        (
            "both scripts",
            good.replace("    sql: |", "    sqlFrom: {configMapKeyRef: {name: a, key: b}}\n    sql: |"),
            vec!["sql and sqlFrom exclude each other"],
        ),
        (
            "duration",
            with("  checkpoint: {interval: soon}\n"),
            vec!["line 6, column 26: spec.checkpoint.interval", "for example 10s"],
        ),
        (
            "too parallel",
            with("  maxParallelism: 1\n"),
            vec!["line 5, column 16: spec.parallelism: 2 is above maxParallelism"],
        ),
    ]
}

/// Mistakes in SQL: the line is that of the manifest, `bids` is declared on 8 to 10, `totals` on 11 and 12, the query is 13.
fn of_queries() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let tumble = "INSERT INTO totals SELECT auction, count(*) FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(at), INTERVAL '10' SECOND)) \
                  GROUP BY auction, window_start, window_end;";
    let unmarked = BIDS.replace(",\n        WATERMARK FOR at AS at - INTERVAL '1' SECOND", "\n        ");
    vec![
        (
            "syntax",
            job("INSERT INTO totals SELECT auction, count( FROM bids;"),
            vec!["line 13, column 54", "found: bids"],
        ),
        (
            "keyword",
            job("INSERT INTO totals SELCT auction FROM bids;"),
            vec!["line 13, column 26", "\n   |                          ^"],
        ),
        (
            "text without end",
            job("INSERT INTO totals SELECT auction, 'a FROM bids;"),
            vec!["line 13, column 42: unterminated string"],
        ),
        (
            "semicolon",
            job("INSERT INTO totals SELECT auction, price FROM bids\n      INSERT INTO a SELECT 1;"),
            vec!["line 14, column 14", "hint: a ; ends"],
        ),
        (
            "letters",
            job("INSERT INTO totals SELECT auction, CASE WHEN name = 'äöü€' THEN pric END FROM bids;"),
            vec!["line 13, column 71", "did you mean 'price'"],
        ),
        (
            "table",
            job("INSERT INTO totals SELECT auction, price FROM bid;"),
            vec!["line 13, column 53", "'bid'", "did you mean 'bids'"],
        ),
        (
            "sink",
            job("INSERT INTO total SELECT auction, price FROM bids;"),
            vec!["line 13, column 19", "did you mean 'totals'"],
        ),
        (
            "column",
            job("INSERT INTO totals SELECT auction, prise FROM bids;"),
            vec!["line 13, column 42", "did you mean 'price'"],
        ),
        (
            "key",
            job("INSERT INTO totals SELECT auction, count(*) FROM bids GROUP BY auctio;"),
            vec!["line 13, column 70", "did you mean 'auction'"],
        ),
        (
            "ungrouped",
            job("INSERT INTO totals SELECT auction, price FROM bids GROUP BY auction;"),
            vec!["line 13, column 42", "hint: add it to GROUP BY"],
        ),
        (
            "function",
            job("INSERT INTO totals SELECT auction, coutn(price) FROM bids;"),
            vec!["line 13, column 42", "did you mean 'COUNT'"],
        ),
        (
            "insert",
            job("INSERT INTO totals SELECT auction, name FROM bids;"),
            vec!["line 13, column 42: the column 'n' of table 'totals' is BIGINT", "CAST(… AS BIGINT)"],
        ),
        (
            "columns",
            job("INSERT INTO totals SELECT auction FROM bids;"),
            vec!["the query has 1 column, but table 'totals' takes 2"],
        ),
        (
            "types",
            job("INSERT INTO totals SELECT auction, name + 1 FROM bids;"),
            vec!["line 13, column 42: STRING + INT has no meaning", "CAST"],
        ),
        (
            "condition",
            job("INSERT INTO totals SELECT auction, price FROM bids WHERE name;"),
            vec!["line 13, column 64: a condition is BOOLEAN"],
        ),
        (
            "arguments",
            job("INSERT INTO totals SELECT auction, sum(name) FROM bids GROUP BY auction;"),
            vec!["line 13, column 42: SUM does not take (STRING)"],
        ),
        (
            "no watermark",
            manifest("", &[&unmarked, TOTALS, tumble]),
            vec!["line 13, column 92: a window needs event time", "hint: declare it in CREATE TABLE: WATERMARK FOR"],
        ),
        (
            "join",
            job("INSERT INTO totals SELECT a.auction, b.price FROM bids a JOIN bids b ON a.auction = b.auction;"),
            vec!["line 13, column 69: JOIN is not available in this version"],
        ),
        (
            "top-N",
            job(
                "INSERT INTO totals SELECT auction, price FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price) AS r FROM bids) WHERE r < 3;",
            ),
            vec!["line 13, column 64: ROW_NUMBER() OVER is not available"],
        ),
        (
            "OVER",
            job("INSERT INTO totals SELECT auction, sum(price) OVER (PARTITION BY auction ORDER BY at) FROM bids;"),
            vec!["line 13, column 42: SUM() OVER is not available"],
        ),
        (
            "DISTINCT",
            job("INSERT INTO totals SELECT auction, count(DISTINCT price) FROM bids GROUP BY auction;"),
            vec!["line 13, column 42: COUNT(DISTINCT …) is not available"],
        ),
        (
            "ORDER BY",
            job("INSERT INTO totals SELECT auction, price FROM bids ORDER BY price;"),
            vec!["line 13, column 67: ORDER BY is not available"],
        ),
        ("no insert", job("SELECT 1;"), vec!["line 13, column 7", "hint: write INSERT INTO"]),
        (
            "setting",
            job("SET 'table.exec.stat.ttl' = '1 h';"),
            vec!["line 13, column 7", "did you mean 'table.exec.state.ttl'"],
        ),
    ]
}

/// Mistakes in tables.
fn of_tables() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let from = |new: &str| job(COUNT).replacen("'path' = 'in'", new, 1);
    vec![
        ("type", but("price BIGINT", "price BIGNT"), vec!["line 8, column 48: there is no type BIGNT"]),
        (
            "connector",
            but("'filesystem', 'path' = 'in'", "'filesytem', 'path' = 'in'"),
            vec!["line 10", "there is no connector 'filesytem'", "did you mean 'filesystem'"],
        ),
        ("option", from("'pth' = 'in'"), vec!["needs the option 'path'", "unknown option 'pth'"]),
        (
            "format",
            but("'path' = 'in', 'format' = 'json'", "'path' = 'in', 'format' = 'jsn'"),
            vec!["line 10", "there is no format 'jsn'", "did you mean 'json'"],
        ),
        (
            "kafka",
            but("'filesystem', 'path' = 'in'", "'kafka', 'topic' = 'in'"),
            vec!["line 10", "the connector 'kafka' is not available in this version"],
        ),
        ("S3 source", from("'path' = 's3://a/in'"), vec!["line 10", "'s3://a/in' names no bucket", "hint: "]),
        (
            "S3 sink",
            but("'path' = 'out'", "'path' = 's3://a/out'"),
            vec!["line 12", "'s3://a/out' names no bucket", "hint: "],
        ),
        (
            "another cloud",
            from("'path' = 'gs://bucket/in'"),
            vec!["line 10", "gs://, which is not available in this version", "hint: "],
        ),
        (
            "option of a bucket",
            but("'path' = 'out'", "'path' = 's3://bucket/out', 's3.acces-key' = 'x'"),
            vec!["line 12", "an unknown option 's3.acces-key'", "did you mean 's3.access-key'"],
        ),
        (
            "object that goes on",
            but("'path' = 'out'", "'path' = 's3://bucket/out', 'sink.rolling-policy.on-checkpoint' = 'false'"),
            vec!["line 12", "ends at each checkpoint", "hint: leave the option out"],
        ),
        (
            "missing source",
            from("'path' = 'missing'"),
            vec!["line 10", "there is no file or folder 'missing'", "hint: relative paths start"],
        ),
        ("sink below a file", but("'path' = 'out'", "'path' = 'job.yaml/out'"), vec!["line 12", "is not a folder"]),
        (
            "write-only",
            but("'filesystem', 'path' = 'in', 'format' = 'json'", "'blackhole'"),
            vec!["'blackhole' can be written to only"],
        ),
        (
            "read-only",
            but("'filesystem', 'path' = 'out', 'format' = 'json'", "'datagen'"),
            vec!["'datagen' can be read only"],
        ),
        (
            "watermark",
            but("WATERMARK FOR at AS at", "WATERMARK FOR price AS price"),
            vec!["line 9", "a watermark needs a column of type TIMESTAMP(3)", "TO_TIMESTAMP_LTZ"],
        ),
        (
            "changes",
            but("'path' = 'out', 'format' = 'json'", "'path' = 'out', 'format' = 'csv'"),
            vec!["line 13", "takes new rows only", "hint: group by a window"],
        ),
        (
            "secret",
            from("'path' = '${secret:db/password}'"),
            vec!["line 10", "option 'path'", "DB_PASSWORD is not set", "--secrets"],
        ),
        ("policy", from("'path' = 'in', 'bad-records' = 'ignore'"), vec!["line 10", "one of fail, skip, table"]),
        (
            "side table",
            from("'path' = 'in', 'bad-records' = 'table'"),
            vec!["'bad-records' = 'table' needs a table", "raw STRING and reason STRING"],
        ),
        (
            "wrong side table",
            from("'path' = 'in', 'bad-records' = 'table', 'bad-records.table' = 'totals'"),
            vec!["'totals' cannot take bad records"],
        ),
    ]
}

#[test]
fn a_mistake_is_told_with_its_place_and_its_cure_and_nothing_is_written() {
    for (what, text, parts) in of_manifests().into_iter().chain(of_queries()).chain(of_tables()) {
        let place = Place::new(&text, ROW);
        let parts = [&["error: job.yaml"], parts.as_slice()].concat();
        place.check(what, &["check", "job.yaml"], USER_ERROR, &parts);
        place.check(what, &["run", "job.yaml"], USER_ERROR, &parts);
        place.has_only(what, &["in", "job.yaml"]);
    }
}

#[test]
fn a_table_that_nothing_uses_is_checked_without_a_look_outside() {
    let unused = |declaration: &str| manifest("", &[BIDS, TOTALS, declaration, COUNT]);
    let mistakes: [(&str, &[&str]); 5] = [
        (
            "CREATE TABLE spare (a INT) WITH ('connector' = 'filesystem', 'pth' = 'x', 'format' = 'json');",
            &["needs the option 'path'", "unknown option 'pth'", "did you mean 'path'"],
        ),
        (
            "CREATE TABLE spare (a INT) WITH ('connector' = 'filesytem', 'path' = 'x');",
            &["line 13", "there is no connector 'filesytem'", "did you mean 'filesystem'"],
        ),
        (
            "CREATE TABLE spare (a INT) WITH ('connector' = 'print', 'print-identifer' = 'x');",
            &["unknown option 'print-identifer'", "did you mean 'print-identifier'"],
        ),
        ("CREATE TABLE spare (a INT) WITH ('connector' = 'datagen', 'rows-per-second' = 'many');", &["'many'"]),
        (
            "CREATE TABLE spare (a INT) WITH ('connector' = 'filesystem', 'path' = 'x', 'format' = 'jsn');",
            &["there is no format 'jsn'", "did you mean 'json'"],
        ),
    ];
    for (declaration, parts) in mistakes {
        let place = Place::new(&unused(declaration), ROW);
        place.check(declaration, &["check", "job.yaml"], USER_ERROR, parts);
    }
    let fine = [
        "CREATE TABLE spare (a INT) WITH ('connector' = 'filesystem', 'path' = 'missing/folder', 'format' = 'json');",
        "CREATE TABLE spare (a INT) WITH ('connector' = 'filesystem', 'path' = '/proc/x', 'format' = 'json', 'sink.rolling-policy.file-size' = '1mb');",
        "CREATE TABLE spare (a INT) WITH ('connector' = 'kafka', 'topic' = 'later');",
        "CREATE TABLE spare (a INT) WITH ('connector' = 'blackhole');",
    ];
    for declaration in fine {
        let place = Place::new(&unused(declaration), ROW);
        place.check(declaration, &["run", "job.yaml"], FINISHED, &["has finished"]);
        place.has_only(declaration, &[".weir", "in", "job.yaml", "out"]);
    }
}
