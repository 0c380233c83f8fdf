//! The queries of the benchmark, and what Apache Flink answered on the frozen input.

#![allow(dead_code, reason = "not every test uses everything")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A query: its name, its sink's columns, and the query.
pub(crate) const QUERIES: [(&str, &str, &str); 6] = [
    (
        "q0",
        "auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra VARCHAR",
        "SELECT auction, bidder, price, `dateTime`, extra FROM bid",
    ),
    (
        "q1",
        "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), `dateTime` TIMESTAMP(3), extra VARCHAR",
        "SELECT auction, bidder, 0.908 * price as price, `dateTime`, extra FROM bid",
    ),
    ("q2", "auction BIGINT, price BIGINT", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
    (
        "q11",
        "bidder BIGINT, bid_count BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)",
        "SELECT B.bidder, count(*) as bid_count, SESSION_START(B.`dateTime`, INTERVAL '10' SECOND) as starttime, \
         SESSION_END(B.`dateTime`, INTERVAL '10' SECOND) as endtime \
         FROM bid B GROUP BY B.bidder, SESSION(B.`dateTime`, INTERVAL '10' SECOND)",
    ),
    (
        "q17",
        "auction BIGINT, `day` VARCHAR, total_bids BIGINT, rank1_bids BIGINT, rank2_bids BIGINT, rank3_bids BIGINT, \
         min_price BIGINT, max_price BIGINT, avg_price BIGINT, sum_price BIGINT",
        "SELECT auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') as `day`, count(*) AS total_bids, \
         count(*) filter (where price < 10000) AS rank1_bids, \
         count(*) filter (where price >= 10000 and price < 1000000) AS rank2_bids, \
         count(*) filter (where price >= 1000000) AS rank3_bids, min(price) AS min_price, max(price) AS max_price, \
         avg(price) AS avg_price, sum(price) AS sum_price FROM bid GROUP BY auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
    ),
    (
        "q22",
        "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, dir1 VARCHAR, dir2 VARCHAR, dir3 VARCHAR",
        "SELECT auction, bidder, price, channel, SPLIT_INDEX(url, '/', 3) as dir1, SPLIT_INDEX(url, '/', 4) as dir2, \
         SPLIT_INDEX(url, '/', 5) as dir3 FROM bid",
    ),
];

/// Unions of rows, and of tables that are updated; what they give is what a quiet run gives.
pub(crate) const UNIONS: [(&str, &str, &str); 2] = [
    (
        "union",
        "auction BIGINT, n BIGINT",
        "SELECT auction, count(*) AS n FROM (SELECT auction FROM bid UNION ALL SELECT id AS auction FROM auction) \
         GROUP BY auction",
    ),
    (
        "union-of-tables",
        "n BIGINT, ids BIGINT",
        "SELECT n, count(*) AS ids FROM (SELECT auction, count(*) AS n FROM bid GROUP BY auction UNION ALL \
         SELECT seller, count(*) AS n FROM auction GROUP BY seller) GROUP BY n",
    ),
];

/// Whether the query's results are taken back and changed: they are written as a changelog.
pub(crate) fn is_updated(query: &str) -> bool {
    query == "q17" || UNIONS.iter().any(|(name, ..)| *name == query)
}

/// Folds a changelog to the rows of its table.
pub(crate) fn folded(lines: &[String]) -> Vec<String> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for line in lines {
        let row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let values =
            row.iter().skip(1).map(|(_, value)| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        let sign = if matches!(row["op"].as_str().unwrap(), "+I" | "+U") { 1 } else { -1 };
        *counts.entry(values.collect::<Vec<_>>().join("\t")).or_default() += sign;
    }
    counts.retain(|_, count| *count != 0);
    assert!(counts.values().all(|count| *count == 1), "a row is there more than once, or was taken back too often");
    counts.into_keys().collect()
}

/// The folder that all is in.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A compressed file of the benchmark, unpacked.
pub(crate) fn unpacked(path: &str) -> String {
    let mut text = String::new();
    let file = fs::File::open(root().join("examples/nexmark").join(path)).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

/// What Flink answered, in order.
pub(crate) fn expected(query: &str) -> Vec<String> {
    let mut rows: Vec<String> = unpacked(&format!("expected/{query}.tsv.gz")).lines().map(str::to_owned).collect();
    rows.sort_unstable();
    rows
}
