//! The forms that a text in a manifest can have: each pattern of the schemas, with what it means for a human.
//!
//! A pattern of the schema that is missing here is found by a test, and so is a form that disagrees with its pattern.

use crate::{Duration, duration, schema};

/// One form of text.
pub(crate) struct Form {
    pub(crate) pattern: &'static str,
    /// What is expected, to follow "expected".
    pub(crate) expected: &'static str,
    matches: fn(&str) -> bool,
    /// More about what is wrong with a text that does not match.
    complaint: fn(&str) -> Option<String>,
    pub(crate) hint: Option<&'static str>,
}

impl Form {
    pub(crate) fn of(pattern: &str) -> Option<&'static Self> {
        FORMS.iter().find(|form| form.pattern == pattern)
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        (self.matches)(text)
    }

    /// What the API server says of a text that does not match.
    pub(crate) fn message(&self) -> String {
        let hint = self.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        format!("expected {}{hint}", self.expected)
    }

    /// What is wrong with a text that does not match.
    pub(crate) fn complaint(&self, text: &str) -> String {
        (self.complaint)(text).unwrap_or_else(|| format!("is not {}", self.expected))
    }
}

pub(crate) static FORMS: [Form; 7] = [
    Form {
        pattern: duration::PATTERN,
        expected: "a duration such as 10s or 1h30m",
        matches: |text| text.parse::<Duration>().is_ok(),
        complaint: |text| text.parse::<Duration>().err().map(|error| error.to_string()),
        hint: None,
    },
    Form {
        pattern: schema::OBJECT_NAME,
        expected: "the name of an object",
        matches: |text| is_name(text, |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')),
        complaint: |_| None,
        hint: Some("names hold a-z, 0-9, - and ., with a letter or digit at both ends"),
    },
    Form {
        pattern: schema::CONFIG_KEY,
        expected: "a key of a ConfigMap",
        matches: |text| is_of(text, b"-._"),
        complaint: |_| None,
        hint: Some("keys hold letters, digits, -, _ and ."),
    },
    Form {
        pattern: schema::BUCKET,
        expected: "the name of a bucket",
        matches: |text| text.len() > 1 && is_name(text, |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9')),
        complaint: |_| None,
        hint: Some("write the bucket alone, without s3:// and path: the path goes into prefix"),
    },
    Form {
        pattern: schema::PREFIX,
        expected: "a prefix of object keys",
        matches: |text| text.is_empty() || text.split('/').all(|part| is_of(part, b"-_.=")),
        complaint: |_| None,
        hint: Some("prefixes hold letters, digits, -, _, . and =, with single slashes between, such as jobs/prod"),
    },
    Form {
        pattern: schema::ENDPOINT,
        expected: "an http or https address",
        matches: |text| {
            let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or_default();
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            is_of(host, b"-.:[]") && (path.is_empty() || is_of(path, b"-_.~/"))
        },
        complaint: |_| None,
        hint: Some("write it with its scheme, such as https://minio.example:9000"),
    },
    Form {
        pattern: schema::QUANTITY,
        expected: "an amount such as 500m, 2 or 4Gi",
        matches: is_quantity,
        complaint: |_| None,
        hint: Some("CPU is written as 2 or 500m, memory as 512Mi or 4Gi"),
    },
];

/// Whether a text is made of ASCII letters and digits, and of `more`.
fn is_of(text: &str, more: &[u8]) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
}

fn is_name(text: &str, at_end: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(first, last)| at_end(*first) && at_end(*last));
    ends && bytes.iter().all(|byte| at_end(*byte) || b"-.".contains(byte))
}

fn is_quantity(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let well_formed = match number.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(number),
    };
    let known = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let exponent = suffix.strip_prefix(['e', 'E']);
    well_formed && (known.contains(&suffix) || exponent.is_some_and(digits))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn patterns(schema: &Value, into: &mut Vec<String>) {
        match schema {
            Value::Object(map) => {
                if let Some(Value::String(pattern)) = map.get("pattern") {
                    into.push(pattern.clone());
                }
                map.values().for_each(|value| patterns(value, into));
            }
            Value::Array(items) => items.iter().for_each(|value| patterns(value, into)),
            _ => {}
        }
    }

    #[test]
    fn every_pattern_of_the_schema_has_its_form() {
        let mut found = Vec::new();
        patterns(&schema::MANIFEST, &mut found);
        assert!(found.len() > 10, "{found:?}");
        for pattern in found {
            assert!(Form::of(&pattern).is_some(), "no form for {pattern}");
        }
    }

    /// The pattern as the API server reads it, through CEL's `matches`.
    fn by_pattern(pattern: &str, text: &str) -> bool {
        let pattern = pattern.replace('\\', "\\\\");
        let schema = serde_json::json!({
            "type": "string",
            "x-kubernetes-validations": [{"rule": format!("self.matches('{pattern}')")}],
        });
        kube::core::cel::Validator::new().validate(&schema, &Value::from(text), None).is_ok()
    }

    fn form_and_text() -> impl Strategy<Value = (usize, String)> {
        (0..FORMS.len()).prop_flat_map(|index| {
            let bare = FORMS[index].pattern.trim_start_matches('^').trim_end_matches('$');
            (Just(index), proptest::string::string_regex(bare).unwrap())
        })
    }

    proptest! {
        #[test]
        fn texts_of_a_pattern_match_its_form((index, text) in form_and_text()) {
            let form = &FORMS[index];
            // The empty text is excluded by minLength where the pattern lets it through.
            prop_assume!(!text.is_empty());
            prop_assert!(form.matches(&text), "{:?} does not match {}", text, form.pattern);
        }

        #[test]
        fn a_form_accepts_what_its_pattern_does(index in 0..FORMS.len(), text in "[-a-z0-9A-Z./:_ \n]{1,8}|https?:/{0,3}[a/]{0,3}") {
            let form = &FORMS[index];
            prop_assert_eq!(form.matches(&text), by_pattern(form.pattern, &text), "{:?} {}", text, form.pattern);
        }
    }
}
