//! The tables, views and functions that a script can name.

use super::table::{BoundTable, Relation, Table};
use super::type_check::TypeCheck;
use super::types::plain_type;
use super::windows::WindowPlanner;
use super::{aggregates, insert};
use crate::diagnostic::Diagnostic;
use crate::sql::errors::{self, Located, Names};
use crate::sql::functions;
use crate::sql::syntax::{self, CreateView};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, DataFusionError, Result, TableReference, plan_datafusion_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion_expr::{AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion_sql::planner::{NullOrdering, ParserOptions, PlannerContext, SqlToRel};
use sqlparser::ast;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What a script can name.
pub(in crate::sql) struct Catalog {
    tables: BTreeMap<String, Arc<Table>>,
    views: BTreeMap<String, Arc<Relation>>,
    scalar_functions: BTreeMap<String, Arc<ScalarUDF>>,
    aggregate_functions: BTreeMap<String, Arc<AggregateUDF>>,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    options: ConfigOptions,
}

impl Catalog {
    /// Functions alone.
    pub(in crate::sql) fn new() -> Self {
        let mut scalar_functions = BTreeMap::new();
        for udf in functions::scalar_functions() {
            for alias in udf.aliases() {
                scalar_functions.insert(alias.clone(), udf.clone());
            }
            scalar_functions.insert(udf.name().to_owned(), udf);
        }
        let aggregate_functions = aggregates::all().into_iter().map(|udf| (udf.name().to_owned(), udf)).collect();
        let mut expr_planners = functions::expr_planners();
        expr_planners.push(Arc::new(TypeCheck));
        expr_planners.push(Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner));
        let mut options = ConfigOptions::default();
        options.sql_parser.enable_ident_normalization = false;
        options.sql_parser.collect_spans = true;
        let relation_planners: Vec<Arc<dyn RelationPlanner>> = vec![Arc::new(WindowPlanner)];
        let (tables, views) = (BTreeMap::new(), BTreeMap::new());
        Self { tables, views, scalar_functions, aggregate_functions, expr_planners, relation_planners, options }
    }

    /// A declared table.
    pub(in crate::sql) fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.get(name)
    }

    /// All declared tables.
    pub(in crate::sql) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values()
    }

    /// True if a table or view has this name.
    pub(in crate::sql) fn contains(&self, name: &str) -> bool {
        self.tables.contains_key(name) || self.views.contains_key(name)
    }

    /// True if a view has this name.
    pub(in crate::sql) fn is_view(&self, name: &str) -> bool {
        self.views.contains_key(name)
    }

    /// Adds a table; its name is free.
    pub(in crate::sql) fn add_table(&mut self, table: Table) {
        self.tables.insert(table.shape.name.clone(), Arc::new(table));
    }

    /// Adds a view; its name is free.
    pub(in crate::sql) fn add_view(&mut self, view: &CreateView) -> std::result::Result<(), Diagnostic> {
        let mut plan = self.query(&view.query)?;
        if !view.columns.is_empty() {
            plan = insert::rename(plan, &view.columns, self)?;
        }
        let schema = Arc::new(plan.schema().as_arrow().clone());
        self.views.insert(view.name.value.clone(), Arc::new(Relation { schema, plan: Some(plan) }));
        Ok(())
    }

    /// Binds a query.
    pub(in crate::sql) fn query(&self, query: &ast::Query) -> std::result::Result<LogicalPlan, Diagnostic> {
        let planner = SqlToRel::new_with_options(self, parser_options());
        let plan = planner.sql_statement_to_plan(ast::Statement::Query(Box::new(query.clone())));
        plan.map_err(|error| self.locate(&error, query))
    }

    /// What is wrong in a part of the syntax tree, and where.
    pub(in crate::sql) fn locate<T: ast::Visit + ast::Spanned>(&self, error: &DataFusionError, tree: &T) -> Diagnostic {
        let mistake = errors::from_datafusion(error, self);
        // The text of an unknown column names all others too.
        let named = errors::missing_column(error).map_or_else(|| error.to_string(), str::to_owned);
        let found = mistake.position.or_else(|| syntax::place::find(tree, &named));
        mistake.at_if_unknown(found).at_if_unknown(syntax::position(tree))
    }

    /// Binds an expression over the columns of `schema`.
    pub(in crate::sql) fn expression(
        &self,
        expr: &ast::Expr,
        schema: &DFSchema,
    ) -> std::result::Result<Expr, Diagnostic> {
        let planner = SqlToRel::new_with_options(self, parser_options());
        let bound = planner.sql_to_expr(expr.clone(), schema, &mut PlannerContext::new());
        bound.map_err(|error| self.locate(&error, expr))
    }
}

fn parser_options() -> ParserOptions {
    ParserOptions::new()
        .with_enable_ident_normalization(false)
        .with_collect_spans(true)
        .with_parse_float_as_decimal(true)
        .with_default_null_ordering(NullOrdering::NullsMin)
}

impl Names for Catalog {
    fn tables(&self) -> Vec<String> {
        self.tables.keys().chain(self.views.keys()).cloned().collect()
    }

    fn functions(&self) -> Vec<String> {
        let names = self.scalar_functions.keys().chain(self.aggregate_functions.keys());
        names.map(|name| name.to_uppercase()).collect()
    }
}

impl ContextProvider for Catalog {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if let Some(table) = self.tables.get(name.table()) {
            return Ok(Arc::new(BoundTable(table.clone())));
        }
        let view = self.views.get(name.table()).ok_or_else(|| plan_datafusion_err!("table '{name}' not found"))?;
        Ok(view.clone())
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar_functions.get(&name.to_lowercase()).map(functions::for_call)
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregate_functions.get(&name.to_lowercase()).cloned()
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalar_functions.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregate_functions.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Flink's types in `CAST`.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        let data_type = plain_type(sql_type).map_err(|message| errors::to_datafusion(Diagnostic::new(message)))?;
        Ok(Some(Arc::new(Field::new("", data_type, true).with_metadata(limits(sql_type)))))
    }
}

/// What a written type says beyond its Arrow type.
fn limits(sql_type: &ast::DataType) -> HashMap<String, String> {
    use ast::DataType as T;
    let characters = |length: &Option<ast::CharacterLength>| match length {
        None => Some(1),
        Some(ast::CharacterLength::IntegerLength { length, .. }) => Some(*length),
        Some(ast::CharacterLength::Max) => None,
    };
    let (length, padded, precision) = match sql_type {
        T::Char(length) | T::Character(length) => (characters(length), true, None),
        T::Varchar(length) | T::CharVarying(length) | T::CharacterVarying(length) => {
            (length.as_ref().and_then(|_| characters(length)), false, None)
        }
        T::Binary(length) => (Some(length.unwrap_or(1)), true, None),
        T::Varbinary(Some(ast::BinaryLength::IntegerLength { length })) => (Some(*length), false, None),
        T::Timestamp(precision, _) => (None, false, *precision),
        _ => (None, false, None),
    };
    let mut limits = HashMap::new();
    limits.extend(length.map(|length| (functions::LENGTH_KEY.to_owned(), length.to_string())));
    limits.extend(padded.then(|| (functions::PADDED_KEY.to_owned(), String::new())));
    let coarser = precision.filter(|precision| !matches!(precision, 3 | 6));
    limits.extend(coarser.map(|precision| (functions::PRECISION_KEY.to_owned(), precision.to_string())));
    limits
}
