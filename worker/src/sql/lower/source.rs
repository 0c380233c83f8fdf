//! The source node of a table: what is read of it, what is computed at once, and its watermark.

use super::nodes::{Builder, Mistakes, is_identity, physical};
use super::operator_id;
use crate::diagnostic::Diagnostic;
use crate::plan::{Calc, Changelog, Node, NodeIndex, NodeKind, SinkNode, SourceNode, Watermark};
use crate::sql::bind::Table;
use crate::sql::errors;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion_common::{DFSchema, DataFusionError, ExprSchema, Result, TableReference};
use datafusion_expr::Expr;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{CastExpr, Column};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The columns of a table that anything reads.
#[derive(Debug, Default)]
pub(super) struct Columns(BTreeSet<usize>);

impl Columns {
    pub(super) fn add(&mut self, columns: &[usize]) {
        self.0.extend(columns);
    }
}

/// Where a source's output comes from.
struct Reading {
    projection: Vec<usize>,
    /// The columns of the table's schema in the node's output.
    columns: Vec<usize>,
    compute: Option<Calc>,
    output: Arc<Schema>,
}

impl Builder<'_> {
    /// The source node of a table.
    pub(super) fn source(&mut self, table: &Arc<Table>) -> Mistakes<NodeIndex> {
        let name = &table.shape.name;
        if let Some(node) = self.sources.get(name) {
            return Ok(*node);
        }
        let fail = |error: DataFusionError| vec![errors::from_datafusion(&error, self.catalog)];
        let options = table.options();
        let idle_timeout = match &table.watermark {
            Some(_) => options.duration("scan.watermark.idle-timeout").or(self.settings.idle_timeout),
            None => None,
        };
        let source = self.config.connectors.source(&options, &table.shape)?;
        let reading = self.reading(table).map_err(fail)?;
        let watermark = watermark(table, &reading).map_err(fail)?;
        let watermark = watermark.map(|(column, expression)| Arc::new(Watermark { column, expression, idle_timeout }));
        let bad_records = self.bad_records(table)?;
        let schema = reading.output.clone();
        let (projection, compute) = (reading.projection, reading.compute);
        let kind =
            SourceNode { table: table.shape.clone(), options, source, projection, compute, watermark, bad_records };
        self.nodes.push(Node {
            id: Some(operator_id::of_table("source", name)),
            name: format!("source {name}"),
            kind: NodeKind::Source(kind),
            inputs: Vec::new(),
            schema,
            changelog: Changelog::Append,
        });
        let node = self.nodes.len() - 1;
        self.sources.insert(name.clone(), node);
        Ok(node)
    }

    fn reading(&self, table: &Table) -> Result<Reading> {
        let mut wanted = self.columns.get(&table.shape.name).map(|columns| columns.0.clone()).unwrap_or_default();
        if let Some(watermark) = &table.watermark {
            wanted.insert(watermark.column);
            for column in watermark.expression.column_refs() {
                wanted.insert(table.schema.index_of(&column.name)?);
            }
        }
        if wanted.is_empty() {
            // A batch without columns would forget how many rows it has.
            wanted.insert(0);
        }
        let columns: Vec<usize> = wanted.into_iter().collect();
        let projection = projection(table, &columns)?;
        let raw = raw_schema(table, &projection)?;
        let output = Arc::new(table.schema.project(&columns)?);
        let exprs =
            columns.iter().map(|column| raw_expr(table, &table.columns[*column], &raw)).collect::<Result<Vec<_>>>()?;
        let input = Arc::clone(raw.inner());
        let calc = Calc { filter: None, input, columns: Some(exprs), schema: output.clone() };
        let compute = (!is_identity(&calc, raw.as_arrow())).then_some(calc);
        Ok(Reading { projection, columns, compute, output })
    }

    /// The sink that takes records of this table that cannot be decoded.
    fn bad_records(&mut self, table: &Table) -> Mistakes<Option<NodeIndex>> {
        let options = table.options();
        let Some(option) = options.entries().get("bad-records.table") else { return Ok(None) };
        let fail = |message: String, hint: &str| vec![Diagnostic::new(message).at(option.position).hint(hint)];
        let name = &option.value;
        let Some(target) = self.catalog.table(name).cloned() else {
            return Err(vec![errors::unknown_table(name, self.catalog).at(option.position)]);
        };
        let schema = crate::connector::bad_records_schema();
        if target.shape.schema != schema {
            let message = format!("table '{name}' cannot take bad records");
            return Err(fail(message, "declare it with the columns raw STRING, reason STRING"));
        }
        let id = operator_id::of_table("sink", name);
        if let Some(known) = self.nodes.iter().position(|node| node.id.as_ref() == Some(&id)) {
            if self.nodes[known].inputs.is_empty() {
                return Ok(Some(known));
            }
            let message = format!("table '{name}' takes bad records and the rows of a query at once");
            return Err(fail(message, "use another table for one of them"));
        }
        let options = target.options();
        let sink = self.config.connectors.sink(&options, &target.shape)?;
        let name = format!("sink {name}");
        let kind = NodeKind::Sink(SinkNode { table: target.shape.clone(), options, sink });
        self.nodes.push(Node { id: Some(id), name, kind, inputs: Vec::new(), schema, changelog: Changelog::Append });
        Ok(Some(self.nodes.len() - 1))
    }
}

/// The physical columns that these columns of the table are made of.
fn projection(table: &Table, columns: &[usize]) -> Result<Vec<usize>> {
    let physical = table.shape.schema.fields().len();
    let mut read = BTreeSet::new();
    for column in columns {
        for reference in table.columns[*column].column_refs() {
            read.insert(table.raw.index_of_column(reference)?);
        }
    }
    let mut projection: Vec<usize> = read.into_iter().filter(|column| *column < physical).collect();
    if projection.is_empty() && table.shape.metadata.is_empty() && physical > 0 {
        projection.push(0);
    }
    Ok(projection)
}

/// What a reader returns: the projected physical columns, then all metadata.
fn raw_schema(table: &Table, projection: &[usize]) -> Result<DFSchema> {
    let physical = table.shape.schema.fields().len();
    let metadata = physical..table.raw.fields().len();
    let field = |place: usize| -> (Option<TableReference>, FieldRef) {
        let (qualifier, field) = table.raw.qualified_field(place);
        (qualifier.cloned(), field.clone())
    };
    let fields = projection.iter().copied().chain(metadata).map(field).collect();
    DFSchema::new_with_metadata(fields, Default::default())
}

/// A column of the table over what a reader returns. A connector gives metadata in types of its own.
fn raw_expr(table: &Table, expr: &Expr, raw: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    let expr = expr.clone().unalias();
    let bound = physical(&expr, raw)?;
    let Expr::Column(column) = &expr else { return Ok(bound) };
    let is_metadata = table.shape.metadata.iter().any(|(name, _)| *name == column.name);
    let data_type: DataType = raw.field_from_column(column)?.data_type().clone();
    Ok(if is_metadata { Arc::new(CastExpr::new(bound, data_type, None)) } else { bound })
}

fn watermark(table: &Table, reading: &Reading) -> Result<Option<(usize, Arc<dyn PhysicalExpr>)>> {
    let Some(watermark) = &table.watermark else { return Ok(None) };
    let schema = DFSchema::try_from_qualified_schema(table.shape.name.as_str(), &reading.output)?;
    let place = reading.columns.iter().position(|column| *column == watermark.column);
    let place = place.expect("a source keeps the column of its watermark");
    let expression = physical(&watermark.expression, &schema)?;
    let simple = expression.downcast_ref::<Column>();
    debug_assert!(
        simple.is_none_or(|column| column.index() < reading.columns.len()),
        "the watermark is over the output"
    );
    Ok(Some((place, expression)))
}
