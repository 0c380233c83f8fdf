//! Pieces of logical plans as nodes of the streaming plan.

use super::fuse;
use super::operator_id;
use super::source::Columns;
use super::steps::{Step, StepOutput, as_timestamp};
use super::{Settings, SinkInput};
use crate::diagnostic::Diagnostic;
use crate::operator::window::Window;
use crate::plan::left_to_right::left_to_right;
use crate::plan::{
    Calc, Changelog, GroupAggregate, Node, NodeIndex, NodeKind, SinkNode, WindowAggregate, WindowAssign,
};
use crate::sql::bind::table::BoundTable;
use crate::sql::bind::types::TIMESTAMP_3;
use crate::sql::bind::windows::{WINDOW_COLUMNS, WindowTable};
use crate::sql::bind::{Catalog, Table};
use crate::sql::{PlanConfig, errors};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::{Column, DFSchema, ExprSchema, Result, TableReference, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, LogicalPlan, cast};
use datafusion_physical_expr::expressions::Column as PhysicalColumn;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Builds nodes; equal ones once.
pub(super) struct Builder<'a> {
    pub(super) nodes: Vec<Node>,
    pub(super) catalog: &'a Catalog,
    pub(super) settings: Settings,
    pub(super) config: &'a PlanConfig<'a>,
    /// What is read of each table.
    pub(super) columns: BTreeMap<String, Columns>,
    pub(super) sources: BTreeMap<String, NodeIndex>,
    steps: &'a [Step],
    step_nodes: Vec<Option<NodeIndex>>,
}

/// A node and its columns under the names that expressions above it use.
struct Relation {
    node: NodeIndex,
    schema: DFSchema,
}

pub(super) type Mistakes<T> = std::result::Result<T, Vec<Diagnostic>>;

impl<'a> Builder<'a> {
    pub(super) fn new(catalog: &'a Catalog, settings: Settings, config: &'a PlanConfig<'a>, steps: &'a [Step]) -> Self {
        let step_nodes = vec![None; steps.len()];
        let (columns, sources) = (BTreeMap::new(), BTreeMap::new());
        Self { nodes: Vec::new(), catalog, settings, config, columns, sources, steps, step_nodes }
    }

    /// Notes which columns of which tables the plans read.
    pub(super) fn find_columns<'p>(&mut self, sinks: impl Iterator<Item = &'p LogicalPlan>) {
        let steps = self.steps;
        sinks.for_each(|plan| self.note_columns(plan));
        steps.iter().for_each(|step| self.note_columns(&step.input));
    }

    fn note_columns(&mut self, plan: &LogicalPlan) {
        if let LogicalPlan::TableScan(scan) = plan
            && let Some(BoundTable(table)) = scan.source.downcast_ref::<BoundTable>()
        {
            let all: Vec<usize> = (0..table.schema.fields().len()).collect();
            let read = scan.projection.as_ref().unwrap_or(&all);
            self.columns.entry(table.shape.name.clone()).or_default().add(read);
        }
        for input in plan.inputs() {
            self.note_columns(input);
        }
    }

    /// The sink of a table, fed by all insertions into it.
    pub(super) fn sink(&mut self, table: &Arc<Table>, inputs: &[SinkInput]) -> Mistakes<()> {
        let options = table.options();
        let sink = self.config.connectors.sink(&options, &table.shape)?;
        if !sink.takes_changelog()
            && let Some(updating) = inputs.iter().find(|input| input.insert.updating)
        {
            let name = &table.shape.name;
            let message = format!("table '{name}' takes new rows only, but the rows of this query change later");
            let hint = "group by a window as well, or insert into a table that takes changes (connector 'print', or format 'json')";
            return Err(vec![Diagnostic::new(message).at(updating.insert.position).hint(hint)]);
        }
        let mut nodes = Vec::new();
        for input in inputs {
            let place = input.insert.position;
            let node = self.exact(&input.plan).map_err(|error| self.mistakes(&error, place))?;
            nodes.push(self.with_schema(node, &table.shape.schema));
        }
        let node = match nodes.as_slice() {
            [node] => *node,
            _ => self.union(nodes, table.shape.schema.clone()),
        };
        let changelog = self.nodes[node].changelog;
        let name = &table.shape.name;
        self.nodes.push(Node {
            id: Some(operator_id::of_table("sink", name)),
            name: format!("sink {name}"),
            kind: NodeKind::Sink(SinkNode { table: table.shape.clone(), options, sink }),
            inputs: vec![node],
            schema: table.shape.schema.clone(),
            changelog,
        });
        Ok(())
    }

    fn mistakes(
        &self,
        error: &datafusion_common::DataFusionError,
        place: Option<crate::diagnostic::Position>,
    ) -> Vec<Diagnostic> {
        use errors::Located;
        if let Some(Mistaken(found)) = errors::external::<Mistaken>(error) {
            return found.clone();
        }
        vec![errors::from_datafusion(error, self.catalog).at_if_unknown(place)]
    }

    /// The node itself if it has just this schema, else one that renames its columns.
    fn with_schema(&mut self, node: NodeIndex, schema: &SchemaRef) -> NodeIndex {
        if self.nodes[node].schema.as_ref() == schema.as_ref() {
            return node;
        }
        // Nothing reads the last node yet: it can have the other names itself.
        let is_last = node + 1 == self.nodes.len();
        if let Some(Node { kind: NodeKind::Calc(calc), schema: own, .. }) = self.nodes.get_mut(node).filter(|_| is_last)
        {
            calc.schema = schema.clone();
            *own = schema.clone();
            return node;
        }
        let column = |(place, field): (usize, &Arc<Field>)| -> Arc<dyn PhysicalExpr> {
            Arc::new(PhysicalColumn::new(field.name(), place))
        };
        let columns = self.nodes[node].schema.fields().iter().enumerate().map(column).collect();
        let input = Arc::clone(&self.nodes[node].schema);
        self.calc(node, Calc { filter: None, input, columns: Some(columns), schema: schema.clone() })
    }

    /// The node whose output has just the plan's columns.
    fn exact(&mut self, plan: &LogicalPlan) -> Result<NodeIndex> {
        let relation = self.relation(plan)?;
        if relation.schema.fields().len() == plan.schema().fields().len() {
            return Ok(relation.node);
        }
        let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        self.project(&relation, None, &columns, plan.schema().inner())
    }

    fn relation(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                let node = match scan.source.downcast_ref::<StepOutput>() {
                    Some(output) => self.step(output.step)?,
                    None => self.scan(&scan.source)?,
                };
                let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &self.nodes[node].schema)?;
                Ok(Relation { node, schema })
            }
            LogicalPlan::Projection(projection) => {
                let (input, filter) = match projection.input.as_ref() {
                    LogicalPlan::Filter(filter) => (filter.input.as_ref(), Some(&filter.predicate)),
                    input => (input, None),
                };
                let input = self.relation(input)?;
                let node = self.project(&input, filter, &projection.expr, projection.schema.inner())?;
                Ok(Relation { node, schema: projection.schema.as_ref().clone() })
            }
            LogicalPlan::Filter(filter) => {
                let Relation { node, schema } = self.relation(&filter.input)?;
                let predicate = physical(&filter.predicate, &schema)?;
                let (input, schema_after) = (self.nodes[node].schema.clone(), self.nodes[node].schema.clone());
                let calc = Calc { filter: Some(predicate), input, columns: None, schema: schema_after };
                Ok(Relation { node: self.calc(node, calc), schema })
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let input = self.relation(&alias.input)?;
                Ok(Relation { node: input.node, schema: input.schema.replace_qualifier(alias.alias.clone()) })
            }
            LogicalPlan::Union(union) => {
                let schema = union.schema.inner().clone();
                let mut inputs = Vec::new();
                for input in &union.inputs {
                    let node = self.exact(input)?;
                    inputs.push(self.with_schema(node, &schema));
                }
                Ok(Relation { node: self.union(inputs, schema), schema: union.schema.as_ref().clone() })
            }
            LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<WindowTable>() {
                Some(window) => self.window_assign(window),
                None => plan_err!("{} is not available in this version", extension.node.name()),
            },
            other => plan_err!("{} is not available in this version", other.display()),
        }
    }

    fn scan(&mut self, source: &Arc<dyn datafusion_expr::TableSource>) -> Result<NodeIndex> {
        let Some(BoundTable(table)) = source.downcast_ref::<BoundTable>() else {
            return plan_err!("a query reads tables and views");
        };
        self.source(table)
            .map_err(|mistakes| datafusion_common::DataFusionError::External(Box::new(Mistaken(mistakes))))
    }

    fn project(
        &mut self,
        input: &Relation,
        filter: Option<&Expr>,
        columns: &[Expr],
        schema: &SchemaRef,
    ) -> Result<NodeIndex> {
        let filter = filter.map(|predicate| physical(predicate, &input.schema)).transpose()?;
        let columns = columns.iter().map(|expr| physical(expr, &input.schema)).collect::<Result<Vec<_>>>()?;
        let calc = Calc {
            filter,
            input: Arc::clone(&self.nodes[input.node].schema),
            columns: Some(columns),
            schema: schema.clone(),
        };
        Ok(self.calc(input.node, calc))
    }

    fn calc(&mut self, input: NodeIndex, calc: Calc) -> NodeIndex {
        let schema = calc.schema.clone();
        if is_identity(&calc, &self.nodes[input].schema) {
            return input;
        }
        let equal = |node: &Node| {
            node.inputs == [input]
                && matches!(&node.kind, NodeKind::Calc(known) if known.filter == calc.filter && known.columns == calc.columns)
                && node.schema == schema
        };
        if let Some(known) = self.nodes.iter().position(equal) {
            return known;
        }
        let changelog = self.nodes[input].changelog;
        let (id, name) = (None, fuse::name_of(&calc).to_owned());
        self.push(Node { id, name, kind: NodeKind::Calc(calc), inputs: vec![input], schema, changelog })
    }

    fn push(&mut self, node: Node) -> NodeIndex {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    fn union(&mut self, inputs: Vec<NodeIndex>, schema: SchemaRef) -> NodeIndex {
        let known =
            |node: &Node| matches!(node.kind, NodeKind::Union) && node.inputs == inputs && node.schema == schema;
        if let Some(known) = self.nodes.iter().position(known) {
            return known;
        }
        let changes = inputs.iter().any(|input| self.nodes[*input].changelog == Changelog::Retract);
        let changelog = if changes { Changelog::Retract } else { Changelog::Append };
        self.push(Node { id: None, name: "union".to_owned(), kind: NodeKind::Union, inputs, schema, changelog })
    }

    fn window_assign(&mut self, table: &WindowTable) -> Result<Relation> {
        if let Window::Session { .. } = table.window {
            let message =
                "SESSION without GROUP BY on its window_start and window_end is not available in this version";
            let diagnostic = Diagnostic::new(message).at(table.place.0);
            return Err(errors::to_datafusion(
                diagnostic.hint("aggregate the sessions, or use another window function"),
            ));
        }
        let mut input = self.relation(&table.input)?;
        let time_type = match &table.time {
            Expr::Column(column) => input.schema.field_from_column(column)?.data_type().clone(),
            other => return plan_err!("a window needs a time column, not {other}"),
        };
        let plain = input.schema.clone();
        let mut time = table.time.clone();
        if time_type != TIMESTAMP_3 {
            let fields = plain.columns().into_iter().map(Expr::Column);
            let columns: Vec<Expr> = fields.chain([as_timestamp(time, &time_type).alias("$time")]).collect();
            let schema = extend(&plain, &[("$time", TIMESTAMP_3)])?;
            let node = self.project(&input, None, &columns, schema.inner())?;
            input = Relation { node, schema };
            time = Expr::Column(Column::new_unqualified("$time"));
        }
        let Expr::Column(column) = &time else { return plan_err!("a window needs a time column") };
        let place = input.schema.index_of_column(column)?;
        let schema = extend(&input.schema, &WINDOW_COLUMNS.map(|name| (name, TIMESTAMP_3)))?;
        let node = self.assign(input.node, WindowAssign { window: table.window, time: place }, schema.inner().clone());
        let relation = Relation { node, schema };
        if time_type == TIMESTAMP_3 {
            return Ok(relation);
        }
        let window_time = Expr::Column(Column::new_unqualified("window_time"));
        let mut columns: Vec<Expr> = plain.columns().into_iter().map(Expr::Column).collect();
        columns.extend(["window_start", "window_end"].map(|name| Expr::Column(Column::new_unqualified(name))));
        columns.push(cast(window_time, time_type.clone()));
        let added = [("window_start", TIMESTAMP_3), ("window_end", TIMESTAMP_3), ("window_time", time_type)];
        let schema = extend(&plain, &added)?;
        Ok(Relation { node: self.project(&relation, None, &columns, schema.inner())?, schema })
    }

    fn assign(&mut self, input: NodeIndex, assign: WindowAssign, schema: SchemaRef) -> NodeIndex {
        let equal = |node: &Node| {
            let same = |known: &WindowAssign| known.window == assign.window && known.time == assign.time;
            node.inputs == [input] && matches!(&node.kind, NodeKind::WindowAssign(known) if same(known))
        };
        if let Some(known) = self.nodes.iter().position(equal) {
            return known;
        }
        let kind = NodeKind::WindowAssign(assign);
        self.push(Node {
            id: None,
            name: String::new(),
            kind,
            inputs: vec![input],
            schema,
            changelog: Changelog::Append,
        })
    }

    fn step(&mut self, index: usize) -> Result<NodeIndex> {
        if let Some(node) = self.step_nodes[index] {
            return Ok(node);
        }
        let step = &self.steps[index];
        let input = self.exact(&step.input)?;
        let grown = self.nodes[input].changelog == Changelog::Append;
        let (keys, calls) = (step.keys.clone(), step.calls.clone());
        let (kind, appends) = match step.window {
            Some((window, time)) => (NodeKind::WindowAggregate(WindowAggregate { window, time, keys, calls }), true),
            None => {
                let appends = calls.is_empty() && grown;
                let state_ttl = self.settings.state_ttl;
                (NodeKind::GroupAggregate(GroupAggregate { keys, calls, state_ttl }), appends)
            }
        };
        let changelog = if appends { Changelog::Append } else { Changelog::Retract };
        let (id, schema) = (Some(step.id.clone()), step.schema.clone());
        let node = self.push(Node { id, name: String::new(), kind, inputs: vec![input], schema, changelog });
        self.step_nodes[index] = Some(node);
        Ok(node)
    }
}

/// Mistakes in a table's options, on their way through the planner's errors.
#[derive(Debug, thiserror::Error)]
#[error("the options of a table have mistakes")]
pub(super) struct Mistaken(pub(super) Vec<Diagnostic>);

/// An expression over the columns of `schema`.
pub(super) fn physical(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    let plain = create_physical_expr(expr, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
    left_to_right(plain)
}

/// True for a projection to the very columns of its input.
pub(super) fn is_identity(calc: &Calc, input: &Schema) -> bool {
    let is_column = |(place, expr): (usize, &Arc<dyn PhysicalExpr>)| {
        let column = expr.downcast_ref::<PhysicalColumn>();
        column.is_some_and(|column| column.index() == place)
    };
    calc.filter.is_none()
        && calc.columns.as_ref().is_none_or(|columns| columns.iter().enumerate().all(is_column))
        && calc.schema.as_ref() == input
}

fn extend(schema: &DFSchema, added: &[(&str, arrow::datatypes::DataType)]) -> Result<DFSchema> {
    let mut fields: Vec<(Option<TableReference>, Arc<Field>)> =
        schema.iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
    // Only a window's own columns are never null.
    let field = |name: &str, data_type| Arc::new(Field::new(name, data_type, !WINDOW_COLUMNS.contains(&name)));
    fields.extend(added.iter().map(|(name, data_type)| (None, field(name, data_type.clone()))));
    DFSchema::new_with_metadata(fields, Default::default())
}
