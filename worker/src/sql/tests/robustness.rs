//! No text makes the front end panic.

use super::{TABLES, plan};
use proptest::prelude::*;

const SCRIPTS: &str = concat!(
    include_str!("nexmark.sql"),
    include_str!("../../../../examples/nexmark/q11.sql"),
    include_str!("../../../../examples/nexmark/q17.sql"),
    include_str!("shapes.txt"),
    include_str!("refusals.txt"),
);

fn words() -> Vec<&'static str> {
    SCRIPTS.split_inclusive(|c: char| c.is_whitespace() || "(),;".contains(c)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = plan(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn random_words_are_no_panic(picks in prop::collection::vec(any::<prop::sample::Index>(), 0..60)) {
        let words = words();
        let text: String = picks.iter().map(|pick| *pick.get(&words)).collect();
        let _ = plan(&format!("{TABLES}INSERT INTO plain (id) SELECT {text}"));
    }

    #[test]
    fn changed_scripts_are_no_panic(
        from in any::<prop::sample::Index>(),
        length in 1_usize..40,
        with in any::<prop::sample::Index>(),
    ) {
        let script = concat!(include_str!("nexmark.sql"), include_str!("../../../../examples/nexmark/q11.sql"));
        let mut words: Vec<&str> = script.split_inclusive(|c: char| c.is_whitespace() || "(),;".contains(c)).collect();
        let at = from.index(words.len());
        let end = (at + length).min(words.len());
        let replacement = *with.get(&self::words());
        words.splice(at..end, [replacement]);
        let _ = plan(&words.concat());
    }
}

#[test]
fn deep_and_long_scripts_are_refused_without_a_panic() {
    let long = |part: &str, times: usize| part.repeat(times);
    let scripts = [
        format!("SELECT {}1{} FROM bids", long("(", 100_000), long(")", 100_000)),
        format!("SELECT 1{} FROM bids", long(" + 1", 15_000)),
        format!("SELECT 1{} FROM bids", long(" + 1", 300_000)),
        format!("SELECT id FROM plain WHERE id = 1{}", long(" OR id = 1", 5_000)),
        format!("SELECT {}id FROM plain", long("NOT ", 50_000)),
        format!("SELECT {}id FROM plain", long("- ", 50_000)),
        format!("{}id FROM plain", long("SELECT * FROM (SELECT ", 20_000)),
        format!("SELECT CASE {} END FROM plain", long("WHEN id = 1 THEN CASE ", 10_000)),
    ];
    for script in scripts {
        let planned = plan(&format!("{TABLES}INSERT INTO plain (id) {script}"));
        assert!(planned.is_err(), "{}…", &script[..40]);
    }
    let nested = format!("CREATE TABLE t (a {}INT{})", long("ARRAY<", 50_000), long(">", 50_000));
    assert!(plan(&nested).is_err());
}

#[test]
fn ordinary_lengths_are_planned() {
    let alternatives = vec!["id = 1"; 150].join(" OR ");
    let list = (0..5_000).map(|number| number.to_string()).collect::<Vec<_>>().join(", ");
    let union = vec!["SELECT id FROM plain"; 1_000].join(" UNION ALL ");
    for query in [
        format!("SELECT id FROM plain WHERE {alternatives}"),
        format!("SELECT id FROM plain WHERE id IN ({list})"),
        union,
    ] {
        let planned = plan(&format!("{TABLES}INSERT INTO plain (id) {query}"));
        assert!(planned.is_ok(), "{:?}", planned.err());
    }
}
