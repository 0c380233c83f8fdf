//! What names look like that users give.

/// Bytes of a savepoint's name.
const SAVEPOINT_LIMIT: usize = 63;

/// Says what [`is_savepoint`] takes: reads on from "use ".
pub const SAVEPOINT_RULE: &str = "1 to 63 of a-z, 0-9 and -, with a letter or a digit first";

/// Whether a savepoint may have this name: one that every store, every file system and Kubernetes take.
#[must_use]
pub fn is_savepoint(name: &str) -> bool {
    let at_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= SAVEPOINT_LIMIT
        && name.as_bytes().first().is_some_and(at_first)
        && name.bytes().all(|byte| at_first(&byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_savepoints_name_is_one_that_everything_takes() {
        let longest = "x".repeat(SAVEPOINT_LIMIT);
        for good in ["a", "7", "before-upgrade", "2026-11-21", "a-", "latest", longest.as_str()] {
            assert!(is_savepoint(good), "{good}");
        }
        let longer = "x".repeat(SAVEPOINT_LIMIT + 1);
        for bad in ["", "-a", "A", "a_b", "a.b", "..", "a/b", "ä", "a b", "a\n", longer.as_str()] {
            assert!(!is_savepoint(bad), "{bad:?}");
        }
    }
}
