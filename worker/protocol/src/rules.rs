//! Switches of rules, for tests that prove that each rule is needed.

/// The rules in force: all of them, unless a test switches one off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<R> {
    off: Option<R>,
}

impl<R> Default for Rules<R> {
    fn default() -> Self {
        Self { off: None }
    }
}

impl<R: Copy + PartialEq> Rules<R> {
    pub(crate) fn without(rule: R) -> Self {
        Self { off: Some(rule) }
    }

    pub(crate) fn hold(self, rule: R) -> bool {
        self.off != Some(rule)
    }
}
