//! A declared table: its columns, event time and options, checked as far as no connector is needed.

use super::catalog::Catalog;
use super::types::{TIMESTAMP_3, arrow_type, sql_name};
use crate::connector::TableShape;
use crate::connector::options::{OptionValue, Options};
use crate::diagnostic::{Diagnostic, Position};
use crate::sql::SecretResolver;
use crate::sql::errors::{self, Located};
use crate::sql::lower::optimize;
use crate::sql::syntax::{self, Column as WrittenColumn, ColumnKind, CreateTable, Nullability, SqlType, TableOption};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion_common::{Column, DFSchema, TableReference};
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableSource};
use sqlparser::ast::{self, Ident};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A declared table.
#[derive(Debug)]
pub(in crate::sql) struct Table {
    /// What connectors see of it.
    pub(in crate::sql) shape: TableShape,
    pub(in crate::sql) position: Option<Position>,
    /// The options as written, in the order of their keys: secrets are still references.
    pub(in crate::sql) written_options: Vec<(String, String)>,
    options: BTreeMap<String, OptionValue>,
    /// What a query sees, in the order of the declaration.
    pub(in crate::sql) schema: SchemaRef,
    /// How each column of `schema` is made from the columns of `raw`.
    pub(in crate::sql) columns: Vec<Expr>,
    /// What a reader returns when it returns all: physical columns, then metadata.
    pub(in crate::sql) raw: Arc<DFSchema>,
    pub(in crate::sql) watermark: Option<DeclaredWatermark>,
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug)]
pub(in crate::sql) struct DeclaredWatermark {
    /// The column's place in the table's schema.
    pub(in crate::sql) column: usize,
    /// Over the columns of the table's schema: TIMESTAMP(3).
    pub(in crate::sql) expression: Expr,
}

/// A table where DataFusion plans.
pub(in crate::sql) struct BoundTable(pub(in crate::sql) Arc<Table>);

impl TableSource for BoundTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema.clone()
    }
}

/// A view, or the columns of a relation that is not there yet.
pub(in crate::sql) struct Relation {
    pub(in crate::sql) schema: SchemaRef,
    pub(in crate::sql) plan: Option<LogicalPlan>,
}

impl TableSource for Relation {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        self.plan.as_ref().map(Cow::Borrowed)
    }
}

type Result<T> = std::result::Result<T, Diagnostic>;

impl Table {
    /// Checks a declaration.
    pub(in crate::sql) fn declare(create: &CreateTable, catalog: &Catalog, secrets: SecretResolver) -> Result<Self> {
        check_names(&create.columns)?;
        let raw = RawColumns::read(create)?;
        let name = create.name.value.as_str();
        let shape = TableShape {
            name: name.to_owned(),
            schema: Arc::new(Schema::new(raw.physical.clone())),
            metadata: raw.metadata.iter().map(|(field, key)| (field.name().clone(), key.clone())).collect(),
            partitioned_by: places(&create.partitioned_by, &raw.physical, "PARTITIONED BY")?,
            primary_key: places(&create.primary_key, &raw.physical, "PRIMARY KEY")?,
        };
        let fields: Vec<FieldRef> =
            raw.physical.iter().cloned().chain(raw.metadata.iter().map(|(field, _)| field.clone())).collect();
        let raw_schema = Arc::new(Schema::new(fields));
        let computed = bind_columns(create, catalog, &raw_schema)?;
        let schema: SchemaRef = Arc::new(computed.schema().as_arrow().clone());
        let LogicalPlan::Projection(projection) = &computed else {
            return Err(
                Diagnostic::new(format!("table '{name}' has no columns")).at(syntax::name_position(&create.name))
            );
        };
        let raw = projection.input.schema().clone();
        let columns: Vec<Expr> = projection.expr.clone();
        let watermark = bind_watermark(create, catalog, &schema)?;
        let options = read_options(name, &create.options, secrets)?;
        let mut written_options: Vec<(String, String)> =
            create.options.iter().map(|option| (option.key.clone(), option.value.clone())).collect();
        written_options.sort();
        let position = syntax::name_position(&create.name);
        Ok(Self { shape, position, written_options, options, schema, columns, raw, watermark })
    }

    /// The options, to be read by a connector.
    pub(in crate::sql) fn options(&self) -> Options {
        Options::new(self.shape.name.clone(), self.position, self.options.clone())
    }
}

fn check_names(columns: &[WrittenColumn]) -> Result<()> {
    for (place, column) in columns.iter().enumerate() {
        if columns[..place].iter().any(|other| other.name.value == column.name.value) {
            let message = format!("there are two columns '{}'", column.name.value);
            return Err(Diagnostic::new(message)
                .at(syntax::name_position(&column.name))
                .hint("give one of them another name"));
        }
    }
    Ok(())
}

/// The columns that a reader returns.
struct RawColumns {
    physical: Vec<FieldRef>,
    metadata: Vec<(FieldRef, String)>,
}

impl RawColumns {
    fn read(create: &CreateTable) -> Result<Self> {
        let mut raw = Self { physical: Vec::new(), metadata: Vec::new() };
        for column in &create.columns {
            let name = &column.name.value;
            match &column.kind {
                ColumnKind::Physical { data_type, nullability, position } => {
                    let is_key = create.primary_key.iter().any(|key| key.value == *name);
                    let nullable = *nullability == Nullability::Nullable && !is_key;
                    raw.physical.push(Arc::new(Field::new(name, read_type(data_type, *position)?, nullable)));
                }
                ColumnKind::Metadata { data_type, key, position, .. } => {
                    let field = Arc::new(Field::new(name, read_type(data_type, *position)?, true));
                    raw.metadata.push((field, key.clone().unwrap_or_else(|| name.clone())));
                }
                ColumnKind::Computed(_) => {}
            }
        }
        Ok(raw)
    }
}

fn read_type(written: &SqlType, position: Option<Position>) -> Result<DataType> {
    let hint = "the types are listed in the documentation of SQL";
    arrow_type(written).map_err(|message| Diagnostic::new(message).at(position).hint(hint))
}

fn places(names: &[Ident], physical: &[FieldRef], clause: &str) -> Result<Vec<usize>> {
    let place = |name: &Ident| {
        physical.iter().position(|field| *field.name() == name.value).ok_or_else(|| {
            let known: Vec<String> = physical.iter().map(|field| field.name().clone()).collect();
            let unknown = errors::unknown_column(&name.value, &known);
            let message = format!("{clause}: there is no physical column '{}'", name.value);
            Diagnostic { message, ..unknown }.at(syntax::name_position(name))
        })
    };
    names.iter().map(place).collect()
}

/// A projection from what a reader returns to the table's columns.
fn bind_columns(create: &CreateTable, catalog: &Catalog, raw: &SchemaRef) -> Result<LogicalPlan> {
    let table = TableReference::bare(create.name.value.as_str());
    let source = Arc::new(Relation { schema: raw.clone(), plan: None });
    let fail = |error| errors::from_datafusion(&error, catalog);
    let scan =
        LogicalPlanBuilder::scan(table.clone(), source, None).and_then(LogicalPlanBuilder::build).map_err(fail)?;
    let mut columns = Vec::new();
    for column in &create.columns {
        let name = &column.name.value;
        columns.push(match &column.kind {
            ColumnKind::Computed(expr) => catalog.expression(expr, scan.schema())?.alias(name),
            _ => Expr::Column(Column::new(Some(table.clone()), name)),
        });
    }
    let projected =
        LogicalPlanBuilder::from(scan).project(columns).and_then(LogicalPlanBuilder::build).map_err(fail)?;
    let position = create.columns.iter().find_map(|column| match &column.kind {
        ColumnKind::Computed(expr) => syntax::position(expr),
        _ => None,
    });
    optimize::analyze(projected).map_err(|error| fail(error).at_if_unknown(position))
}

fn bind_watermark(create: &CreateTable, catalog: &Catalog, schema: &SchemaRef) -> Result<Option<DeclaredWatermark>> {
    let Some((name, written)) = &create.watermark else { return Ok(None) };
    let at = syntax::name_position(name);
    let Ok(column) = schema.index_of(&name.value) else {
        let known: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        return Err(errors::unknown_column(&name.value, &known).at(at));
    };
    let data_type = schema.field(column).data_type();
    if !matches!(data_type, DataType::Timestamp(TimeUnit::Millisecond, _)) {
        let message = format!(
            "a watermark needs a column of type TIMESTAMP(3) or TIMESTAMP_LTZ(3), but '{}' is {}",
            name.value,
            sql_name(data_type)
        );
        let hint = format!(
            "add a computed column, such as ts AS TO_TIMESTAMP_LTZ({}, 3), and put the watermark on it",
            name.value
        );
        return Err(Diagnostic::new(message).at(at).hint(hint));
    }
    let expression = bind_watermark_expression(create, catalog, schema, written)?;
    Ok(Some(DeclaredWatermark { column, expression }))
}

fn bind_watermark_expression(
    create: &CreateTable,
    catalog: &Catalog,
    schema: &SchemaRef,
    written: &ast::Expr,
) -> Result<Expr> {
    let source = Arc::new(Relation { schema: schema.clone(), plan: None });
    let fail = |error| catalog.locate(&error, written);
    let table = TableReference::bare(create.name.value.as_str());
    let scan = LogicalPlanBuilder::scan(table, source, None).and_then(LogicalPlanBuilder::build).map_err(fail)?;
    let expr = catalog.expression(written, scan.schema())?.alias("watermark");
    let plan = LogicalPlanBuilder::from(scan).project([expr]).and_then(LogicalPlanBuilder::build).map_err(fail)?;
    let plan = optimize::analyze(plan).map_err(fail)?;
    let LogicalPlan::Projection(projection) = &plan else {
        return Err(Diagnostic::new("a watermark is an expression").at(syntax::position(written)));
    };
    let data_type = plan.schema().field(0).data_type();
    if !matches!(data_type, DataType::Timestamp(..)) {
        let message = format!("a watermark is a timestamp, but this expression is {}", sql_name(data_type));
        let hint = "write the column minus an interval: ts - INTERVAL '5' SECOND";
        return Err(Diagnostic::new(message).at(syntax::position(written)).hint(hint));
    }
    let expr = projection.expr[0].clone().unalias();
    Ok(if *data_type == TIMESTAMP_3 { expr } else { datafusion_expr::cast(expr, TIMESTAMP_3) })
}

fn read_options(
    table: &str,
    written: &[TableOption],
    secrets: SecretResolver,
) -> Result<BTreeMap<String, OptionValue>> {
    let mut options = BTreeMap::new();
    for option in written {
        let value = resolve_secrets(&option.value, secrets).map_err(|message| {
            let message = format!("table '{table}', option '{}': {message}", option.key);
            Diagnostic::new(message).at(option.value_position).hint("a secret is written '${secret:name/key}'")
        })?;
        options.insert(option.key.clone(), OptionValue { value, position: option.position });
    }
    Ok(options)
}

/// Replaces each `${secret:name/key}`.
fn resolve_secrets(text: &str, secrets: SecretResolver) -> std::result::Result<String, String> {
    const OPEN: &str = "${secret:";
    let mut resolved = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(OPEN) {
        resolved.push_str(&rest[..start]);
        let reference = &rest[start + OPEN.len()..];
        let end = reference.find('}').ok_or("a secret's reference has no '}'")?;
        let (name, key) =
            reference[..end].split_once('/').ok_or_else(|| format!("'{}' names no key", &reference[..end]))?;
        resolved.push_str(&secrets(name, key)?);
        rest = &reference[end + 1..];
    }
    resolved.push_str(rest);
    Ok(resolved)
}
