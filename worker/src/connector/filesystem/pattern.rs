//! Glob patterns over paths.

use regex::Regex;

/// True when the text has a character that means something in a pattern.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

/// The pattern as a regular expression over the whole path, or over a folder above it: `*` and `?` within one name,
/// `**` over folders too, `[a-z]`, `[!a-z]`, `{one,other}`.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let mut expression = String::from("^");
    let mut rest = pattern.chars().peekable();
    let mut alternatives = 0_u32;
    while let Some(character) = rest.next() {
        match character {
            '*' if rest.next_if_eq(&'*').is_some() => {
                let folders = rest.next_if_eq(&'/').is_some();
                expression.push_str(if folders { "(?:.*/)?" } else { ".*" });
            }
            '*' => expression.push_str("[^/]*"),
            '?' => expression.push_str("[^/]"),
            '[' => {
                expression.push('[');
                if rest.next_if(|next| matches!(next, '!' | '^')).is_some() {
                    expression.push('^');
                }
                let mut closed = false;
                for inside in rest.by_ref() {
                    closed = inside == ']';
                    if closed {
                        break;
                    }
                    if matches!(inside, '[' | '\\' | '&' | '~' | '^') {
                        expression.push('\\');
                    }
                    expression.push(inside);
                }
                if !closed {
                    return Err("a '[' is not closed".to_owned());
                }
                expression.push(']');
            }
            '{' => {
                alternatives += 1;
                expression.push_str("(?:");
            }
            ',' if alternatives > 0 => expression.push('|'),
            '}' if alternatives > 0 => {
                alternatives -= 1;
                expression.push(')');
            }
            other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    if alternatives > 0 {
        return Err("a '{' is not closed".to_owned());
    }
    expression.push_str("(?:/.*)?$");
    Regex::new(&expression).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn patterns_match_names_folders_and_all_below() {
        let table = [
            ("*.json", "a.json", true),
            ("*.json", "b/a.json", false),
            ("*/a.json", "b/a.json", true),
            ("**/a.json", "a.json", true),
            ("**/a.json", "b/c/a.json", true),
            ("2024-*", "2024-01/x/y.json", true),
            ("2024-*", "2025-01/x.json", false),
            ("a?.csv", "ab.csv", true),
            ("a?.csv", "a/.csv", false),
            ("[a-c]1", "b1", true),
            ("[!a-c]1", "b1", false),
            ("{x,y}.json", "y.json", true),
            ("{x,y}.json", "xy.json", false),
            ("a+b.json", "a+b.json", true),
            ("a.json", "aXjson", false),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(compile(pattern).unwrap().is_match(path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn brackets_must_be_closed() {
        assert!(compile("a[b").is_err());
        assert!(compile("a{b").is_err());
    }
}
