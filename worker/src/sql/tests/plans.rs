//! Plans as text.

use super::{TABLES, draw, plan};
use crate::plan::{Node, NodeKind, Plan};

fn nexmark(query: &str) -> String {
    let script = format!("{}\n{query}", include_str!("nexmark.sql"));
    match plan(&script) {
        Ok(plan) => draw(&plan),
        Err(mistakes) => mistakes.iter().map(|mistake| mistake.render(&script)).collect::<Vec<_>>().join("\n"),
    }
}

#[test]
fn the_queries_of_nexmark_have_their_plans() {
    let queries = [
        ("q0", include_str!("../../../../examples/nexmark/q0.sql")),
        ("q1", include_str!("../../../../examples/nexmark/q1.sql")),
        ("q2", include_str!("../../../../examples/nexmark/q2.sql")),
        ("q11", include_str!("../../../../examples/nexmark/q11.sql")),
        ("q17", include_str!("../../../../examples/nexmark/q17.sql")),
        ("q22", include_str!("../../../../examples/nexmark/q22.sql")),
    ];
    let drawn: String = queries.iter().map(|(name, query)| format!("== {name}\n{}", nexmark(query))).collect();
    let expected = include_str!("nexmark.plans");
    assert!(drawn == expected, "{drawn}");
}

const OTHERS: &str = "
CREATE TABLE out4 (a BIGINT, b BIGINT, s TIMESTAMP(3), e TIMESTAMP(3)) WITH ('connector' = 'blackhole');
CREATE TABLE more (a BIGINT, b BIGINT) WITH ('connector' = 'blackhole');
CREATE TABLE ltz (id INT, at TIMESTAMP_LTZ(3), WATERMARK FOR at AS at) WITH ('connector' = 'files');
CREATE TABLE meta (id INT, f STRING METADATA FROM 'file.path' VIRTUAL) WITH ('connector' = 'files');
CREATE TABLE numbers (t TINYINT, i INT, b BIGINT, f FLOAT, d DOUBLE, m DECIMAL(10, 2), v STRING) WITH ('connector' = 'files');
CREATE TABLE typed (t TINYINT, i INT, b BIGINT, f FLOAT, d DOUBLE, m DECIMAL(38, 2), ai INT, af FLOAT, am DECIMAL(38, 6), v STRING,
  c BIGINT NOT NULL) WITH ('connector' = 'blackhole');
";

/// The plans of `shapes.txt`: a script, a line `--->`, its plan, an empty line.
#[test]
fn each_shape_of_query_has_its_plan() {
    let mut actual = String::new();
    for case in include_str!("shapes.txt").split("\n\n").filter(|case| !case.trim().is_empty()) {
        let (script, _) = case.split_once("\n--->").unwrap_or((case, ""));
        let full = format!("{TABLES}{OTHERS}{script}");
        let drawn = match plan(&full) {
            Ok(plan) => draw(&plan),
            Err(mistakes) => mistakes.iter().map(|mistake| mistake.render(&full)).collect::<Vec<_>>().join("\n"),
        };
        actual.push_str(&format!("{script}\n--->\n{drawn}\n"));
    }
    assert!(actual == include_str!("shapes.txt"), "{actual}");
}

#[test]
fn equal_scripts_have_equal_fingerprints_and_ids() {
    let script = format!("{}\n{}", include_str!("nexmark.sql"), include_str!("../../../../examples/nexmark/q17.sql"));
    let first = plan(&script).unwrap();
    let ids = |plan: &Plan| plan.nodes.iter().map(|node| node.id.clone()).collect::<Vec<_>>();
    for _ in 0..50 {
        let again = plan(&script).unwrap();
        assert_eq!(again.fingerprint, first.fingerprint);
        assert_eq!(ids(&again), ids(&first));
        assert_eq!(draw(&again), draw(&first));
    }
    let other = plan(&script.replace("10000", "10001")).unwrap();
    assert_ne!(other.fingerprint, first.fingerprint);
    let elsewhere = plan(&script.replace("'blackhole'", "'blackhole', 'path' = '/x'")).unwrap();
    assert_ne!(elsewhere.fingerprint, first.fingerprint);
}

/// State is found by these ids: they must not change from one version to the next.
#[test]
fn ids_of_operators_are_golden() {
    let windowed = "FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end";
    let cases = [
        ("INSERT INTO more SELECT auction, COUNT(*) FROM bids GROUP BY auction".to_owned(), GROUP),
        // A filter, an alias or a view leave the state alone.
        ("INSERT INTO more SELECT auction, COUNT(*) FROM bids WHERE price > 3 GROUP BY auction".to_owned(), GROUP),
        ("INSERT INTO more SELECT x.auction, COUNT(*) AS n FROM bids AS x GROUP BY x.auction".to_owned(), GROUP),
        (
            "CREATE VIEW v AS SELECT * FROM bids; INSERT INTO more SELECT auction, COUNT(*) FROM v GROUP BY auction"
                .to_owned(),
            GROUP,
        ),
        // A key, a call or a sink do not.
        ("INSERT INTO more SELECT bidder, COUNT(*) FROM bids GROUP BY bidder".to_owned(), "group-aggregate-"),
        ("INSERT INTO more SELECT auction, SUM(price) FROM bids GROUP BY auction".to_owned(), "group-aggregate-"),
        (format!("INSERT INTO more SELECT auction, COUNT(*) {windowed}"), WINDOW),
    ];
    for (script, expected) in cases {
        let planned = plan(&format!("{TABLES}{OTHERS}{script}")).unwrap();
        let ids: Vec<String> = planned.nodes.iter().filter_map(|node| Some(node.id.as_ref()?.0.clone())).collect();
        assert_eq!((ids[0].as_str(), ids[2].as_str()), ("source-bids", "sink-more"));
        if expected.ends_with('-') {
            assert!(ids[1].starts_with(expected) && ids[1] != GROUP, "{script}: {ids:?}");
        } else {
            assert_eq!(ids[1], expected, "{script}");
        }
    }
}

const GROUP: &str = "group-aggregate-55af8a1e70ffcf4c";
const WINDOW: &str = "window-aggregate-576882bddfbfe648";

#[test]
fn equal_operators_are_numbered_and_shared_ones_are_one() {
    let ids = |script: &str| {
        let planned = plan(&format!("{TABLES}{OTHERS}{script}")).unwrap();
        let stateful = |node: &&Node| matches!(node.kind, NodeKind::GroupAggregate(_));
        planned.nodes.iter().filter(stateful).map(|node| node.id.clone().unwrap().0).collect::<Vec<_>>()
    };
    let half = |filter: &str| format!("SELECT auction, COUNT(*) FROM bids WHERE {filter} GROUP BY auction");
    let two = ids(&format!("INSERT INTO more {} UNION ALL {}", half("price > 1"), half("price > 2")));
    assert_eq!(two, [GROUP.to_owned(), format!("{GROUP}-2")]);
    let one = ids(&format!("INSERT INTO more {0}; INSERT INTO out4 (a, b) {0}", half("price > 1")));
    assert_eq!(one, [GROUP]);
}

#[test]
fn secrets_reach_connectors_and_no_fingerprint() {
    let script = |value: &str| {
        format!(
            "{}CREATE TABLE s (a INT) WITH ('connector' = 'files', 'password' = '{value}');
      INSERT INTO plain (id) SELECT a FROM s",
            TABLES
        )
    };
    let planned = plan(&script("x${secret:db/password}y")).unwrap();
    let NodeKind::Source(source) = &planned.nodes[0].kind else { panic!("the source comes first") };
    assert_eq!(source.options.entries()["password"].value, "xhunter2y");
    let written = plan(&script("xhunter2y")).unwrap();
    assert_ne!(written.fingerprint, planned.fingerprint);
}
