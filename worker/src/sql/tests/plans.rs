//! Plans as text.

use super::{draw, plan};

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
