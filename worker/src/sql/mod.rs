//! SQL: from the text of a script to a streaming plan.
//!
//! The way: `syntax` reads statements and refuses what cannot run; `bind` resolves names and types into logical plans;
//! `lower` cuts these at their stateful operators, optimises what lies between, and makes the nodes of the plan.
//! The scalar functions are in [`functions`]. DataFusion stays behind this module.

mod bind;
mod errors;
pub mod functions;
mod lower;
mod settings;
mod syntax;
#[cfg(test)]
mod tests;

use crate::connector::options::Options;
use crate::connector::{self, Environment, Sink, Source, TableShape};
use crate::diagnostic::Diagnostic;
use crate::plan::Plan;
use bind::{BoundInsert, Catalog, Table, insert};
use lower::Settings;
use std::sync::Arc;
use std::time::Duration;
use syntax::Statement;

/// Finds the value of a secret by its name and key, or says why not.
pub type SecretResolver<'a> = &'a (dyn Fn(&str, &str) -> Result<String, String> + Sync);

/// What a script is planned with.
pub struct PlanConfig<'a> {
    /// Who reads the options of tables.
    pub connectors: &'a dyn Connectors,
    /// Where `'${secret:name/key}'` comes from.
    pub secrets: SecretResolver<'a>,
    /// How long groups without a window are kept when no row touches them; the script's `table.exec.state.ttl` goes
    /// before it. `None` keeps them for ever.
    pub state_ttl: Option<Duration>,
}

/// Who reads the options of tables.
pub trait Connectors: Sync {
    /// A table that is read.
    fn source(&self, options: &Options, shape: &TableShape) -> Result<Arc<dyn Source>, Vec<Diagnostic>>;
    /// A table that is written.
    fn sink(&self, options: &Options, shape: &TableShape) -> Result<Arc<dyn Sink>, Vec<Diagnostic>>;
    /// A table that nothing reads or writes: what is wrong with its options all the same.
    fn unused(&self, options: &Options, shape: &TableShape) -> Result<(), Vec<Diagnostic>>;
}

/// The connectors that there are.
#[derive(Debug, Clone, Default)]
pub struct BuiltInConnectors {
    /// What they find outside of their options.
    pub environment: Environment,
}

impl Connectors for BuiltInConnectors {
    fn source(&self, options: &Options, shape: &TableShape) -> Result<Arc<dyn Source>, Vec<Diagnostic>> {
        connector::source(options, shape, &self.environment)
    }

    fn sink(&self, options: &Options, shape: &TableShape) -> Result<Arc<dyn Sink>, Vec<Diagnostic>> {
        connector::sink(options, shape, &self.environment)
    }

    fn unused(&self, options: &Options, shape: &TableShape) -> Result<(), Vec<Diagnostic>> {
        connector::unused(options, shape, &self.environment)
    }
}

/// Deep syntax trees are walked by recursion: planning has a stack that holds the deepest ones that are let in.
const STACK_BYTES: usize = 256 << 20;

/// Plans a script. The mistakes come with their places; what is wrong in one statement does not hide another's.
pub fn plan(script: &str, config: &PlanConfig) -> Result<Plan, Vec<Diagnostic>> {
    std::thread::scope(|scope| {
        let planner = std::thread::Builder::new().name("sql".to_owned()).stack_size(STACK_BYTES);
        let planning = planner.spawn_scoped(scope, || plan_here(script, config));
        let joined = planning.map(std::thread::ScopedJoinHandle::join);
        match joined {
            Ok(Ok(planned)) => planned,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => Err(vec![Diagnostic::new(format!("there is no memory to plan the script with: {error}"))]),
        }
    })
}

fn plan_here(script: &str, config: &PlanConfig) -> Result<Plan, Vec<Diagnostic>> {
    let statements = syntax::parse(script).map_err(|mistake| vec![mistake])?;
    let mut catalog = Catalog::new();
    let mut settings = Settings { state_ttl: config.state_ttl, ..Settings::default() };
    let mut mistakes = Vec::new();
    let mut inserts: Vec<BoundInsert> = Vec::new();
    let mut declared = Ok(());
    for statement in &statements {
        let done = match statement {
            Statement::Set(setting) => settings::apply(setting, &mut settings),
            Statement::CreateTable(create) => {
                let done = create_table(create, &mut catalog, config);
                declared = declared.and(done.as_ref().map(|_| ()).map_err(|_| ()));
                done
            }
            // What a broken declaration would have declared is missed by every later statement.
            _ if declared.is_err() => Ok(()),
            Statement::CreateView(view) => {
                let done = create_view(view, &mut catalog);
                declared = done.as_ref().map(|_| ()).map_err(|_| ());
                done
            }
            Statement::Insert(statement) => insert::bind(statement, &catalog).map(|bound| inserts.push(bound)),
        };
        mistakes.extend(done.err());
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    if inserts.is_empty() {
        let hint = "add INSERT INTO <table> SELECT …";
        return Err(vec![Diagnostic::new("the script has no INSERT INTO: there is nothing to run").hint(hint)]);
    }
    lower::lower(inserts, &catalog, settings, config)
}

fn create_table(create: &syntax::CreateTable, catalog: &mut Catalog, config: &PlanConfig) -> Result<(), Diagnostic> {
    if !is_free(&create.name, create.if_not_exists, catalog)? {
        return Ok(());
    }
    let table = Table::declare(create, catalog, config.secrets)?;
    catalog.add_table(table);
    Ok(())
}

fn create_view(view: &syntax::CreateView, catalog: &mut Catalog) -> Result<(), Diagnostic> {
    if !is_free(&view.name, view.if_not_exists, catalog)? {
        return Ok(());
    }
    catalog.add_view(view)
}

fn is_free(name: &sqlparser::ast::Ident, if_not_exists: bool, catalog: &Catalog) -> Result<bool, Diagnostic> {
    if !catalog.contains(&name.value) {
        return Ok(true);
    }
    if if_not_exists {
        return Ok(false);
    }
    let message = format!("there is already a table or view '{}'", name.value);
    Err(Diagnostic::new(message).at(syntax::name_position(name)).hint("give it another name, or add IF NOT EXISTS"))
}
