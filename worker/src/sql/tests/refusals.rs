//! Bad scripts, with what is said about them: what, where, and what to do.

use super::{TABLES, plan};
use crate::diagnostic::Diagnostic;

/// `line:column message | hint` of each mistake.
fn mistakes(script: &str) -> String {
    let describe = |mistake: &Diagnostic| {
        let place = mistake.position.map_or("-".to_owned(), |at| format!("{}:{}", at.line, at.column));
        let hint = mistake.hint.as_deref().unwrap_or("-");
        format!("{place} {} | {hint}", mistake.message)
    };
    match plan(script) {
        Ok(_) => "planned".to_owned(),
        Err(mistakes) => mistakes.iter().map(describe).collect::<Vec<_>>().join("\n"),
    }
}

/// Scripts and expectations of `refusals.txt`: a script, a line `--->`, what is expected, an empty line. `@` stands for
/// the tables of all tests, with the line numbers of the script beginning after them.
#[test]
fn bad_scripts_are_told_what_is_wrong_where_and_what_to_do() {
    let mut actual = String::new();
    for case in include_str!("refusals.txt").split("\n\n").filter(|case| !case.trim().is_empty()) {
        let (script, _) = case.split_once("\n--->").unwrap_or((case, ""));
        let full = match script.strip_prefix("@ ") {
            Some(rest) => format!("{}{rest}", TABLES.replace('\n', " ")),
            None => script.to_owned(),
        };
        let shift = if script.starts_with("@ ") { TABLES.len() - 2 } else { 0 };
        let told = mistakes(&full);
        let told: Vec<String> = told.lines().map(|line| unshift(line, shift)).collect();
        actual.push_str(&format!("{script}\n---> {}\n\n", told.join("\n---> ")));
    }
    assert!(actual == include_str!("refusals.txt"), "{actual}");
}

/// Columns of line 1 without the tables before the script.
fn unshift(line: &str, shift: usize) -> String {
    let column = line.strip_prefix("1:").and_then(|rest| rest.split_once(' '));
    match column.and_then(|(column, rest)| Some((column.parse::<usize>().ok()?, rest))) {
        Some((column, rest)) if column > shift => format!("1:{} {rest}", column - shift),
        _ => line.to_owned(),
    }
}
