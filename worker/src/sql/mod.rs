//! SQL: from the text of a script to a streaming plan.

pub mod functions;

use crate::connector::Environment;
use crate::diagnostic::Diagnostic;
use crate::plan::Plan;

/// Where secrets in options come from.
pub trait Secrets {
    /// The text of a secret's key; the error says what is missing.
    fn resolve(&self, name: &str, key: &str) -> Result<String, String>;
}

/// What a script is planned with.
pub struct PlanConfig<'a> {
    /// Where connectors find what they need.
    pub environment: Environment,
    /// Where secrets come from.
    pub secrets: &'a dyn Secrets,
}

/// Plans a script.
pub fn plan(script: &str, config: &PlanConfig<'_>) -> Result<Plan, Vec<Diagnostic>> {
    let _ = (script, config);
    Err(vec![Diagnostic::new("no front end")])
}
