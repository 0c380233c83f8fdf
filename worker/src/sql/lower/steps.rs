//! Cuts a bound plan at its stateful operators.
//!
//! Each [`Step`] is one stateful operator with the stateless plan that computes its input; a sink has such a plan too.
//! In these plans the output of a step is a table scan, so that DataFusion's optimizer sees stateless work alone. Equal
//! bound sub-plans become one step, whoever reads them.

use super::operator_id::{Identity, OperatorIds};
use super::optimize::optimize;
use super::window_input::{self, WindowedInput};
use crate::diagnostic::Diagnostic;
use crate::operator::aggregate::call::{Call, Function};
use crate::operator::key_hash::is_key_type;
use crate::operator::window::Window;
use crate::sql::bind::attributes::{Attribute, group_attributes, window_of};
use crate::sql::bind::types::{TIMESTAMP_3, sql_name};
use crate::sql::bind::windows::WINDOW_COLUMNS;
use crate::sql::errors;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_common::{Column, DFSchemaRef, Result, ScalarValue, TableReference, plan_err};
use datafusion_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion_expr::{
    Aggregate, Distinct, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection, TableSource, cast,
};
use std::collections::HashMap;
use std::sync::Arc;
use weir_protocol::OperatorId;

/// A stateful operator and its input.
pub(super) struct Step {
    pub(super) id: OperatorId,
    /// Optimised; its columns are what `keys`, `calls` and `window` count.
    pub(super) input: LogicalPlan,
    pub(super) keys: Vec<usize>,
    pub(super) calls: Vec<Call>,
    /// The window and the place of its time column.
    pub(super) window: Option<(Window, usize)>,
    pub(super) schema: SchemaRef,
}

/// The output of a step, where DataFusion plans.
pub(super) struct StepOutput {
    pub(super) step: usize,
    schema: SchemaRef,
}

impl TableSource for StepOutput {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

/// The steps of a script so far.
#[derive(Default)]
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    ids: OperatorIds,
    known: HashMap<LogicalPlan, usize>,
}

impl Steps {
    /// The optimised stateless plan above the last steps of `plan`, whose rows go to `sink`.
    pub(super) fn cut(&mut self, plan: &LogicalPlan, sink: &str) -> Result<LogicalPlan> {
        let cut = self.replace(plan, sink)?;
        optimize(cut)
    }

    /// The plan with scans of steps in the place of its stateful operators.
    fn replace(&mut self, plan: &LogicalPlan, sink: &str) -> Result<LogicalPlan> {
        match plan {
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate, plan, sink),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let keys = input.schema().columns().into_iter().map(Expr::Column).collect();
                let aggregate = Aggregate::try_new(input.clone(), keys, Vec::new())?;
                self.aggregate(&aggregate, plan, sink)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                // A projection, as projections can be merged.
                let input = self.replace(&alias.input, sink)?;
                let columns = input.schema().columns();
                let renamed = columns.into_iter().zip(alias.schema.iter()).map(|(column, (qualifier, field))| {
                    Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
                });
                Ok(LogicalPlan::Projection(Projection::try_new(renamed.collect(), Arc::new(input))?))
            }
            LogicalPlan::TableScan(_) => Ok(plan.clone()),
            LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::Union(_) | LogicalPlan::Extension(_) => {
                let inputs =
                    plan.inputs().into_iter().map(|input| self.replace(input, sink)).collect::<Result<Vec<_>>>()?;
                plan.with_new_exprs(plan.expressions(), inputs)
            }
            other => plan_err!("{} is not available in this version", other.display()),
        }
    }

    fn aggregate(&mut self, aggregate: &Aggregate, whole: &LogicalPlan, sink: &str) -> Result<LogicalPlan> {
        let groups = group_attributes(aggregate);
        let windowed = match window_of(&groups) {
            Some(_) if matches!(whole, LogicalPlan::Distinct(_)) => None,
            Some(window) => Some(window_input::choose(aggregate, &groups, window)?),
            None => None,
        };
        let step = match self.known.get(whole) {
            Some(step) => *step,
            None => {
                let step = self.build(aggregate, windowed.as_ref(), sink)?;
                self.steps.push(step);
                self.known.insert(whole.clone(), self.steps.len() - 1);
                self.steps.len() - 1
            }
        };
        self.output(step, windowed.as_ref(), &aggregate.schema)
    }

    fn build(&mut self, aggregate: &Aggregate, windowed: Option<&WindowedInput>, sink: &str) -> Result<Step> {
        let keys = windowed.map_or(aggregate.group_expr.as_slice(), |windowed| windowed.keys.as_slice());
        let identity = Identity {
            kind: if windowed.is_some() { "window-aggregate" } else { "group-aggregate" },
            keys,
            calls: &aggregate.aggr_expr,
            window: windowed.map(|windowed| windowed.window),
            input: &aggregate.input,
            sink,
        };
        let id = self.ids.stateful(&identity);
        let plan = windowed.map_or(aggregate.input.as_ref(), |windowed| &windowed.plan);
        let input = self.replace(plan, sink)?;
        let mut columns = InputColumns { schema: input.schema().clone(), exprs: Vec::new() };
        let key_places = keys.iter().map(|key| columns.place_of_key(key)).collect::<Result<Vec<_>>>()?;
        let offset = aggregate.group_expr.len();
        let names = &aggregate.schema.fields()[offset..];
        let calls = aggregate.aggr_expr.iter().zip(names).map(|(expr, field)| columns.call(expr, field));
        let calls = calls.collect::<Result<Vec<_>>>()?;
        let window = windowed.map(|windowed| (windowed.window, columns.place(windowed.time.clone())));
        columns.not_empty();
        let schema = step_schema(keys, &calls, window.is_some(), &columns.schema)?;
        let projected = LogicalPlan::Projection(Projection::try_new(columns.named(), Arc::new(input))?);
        Ok(Step { id, input: optimize(projected)?, keys: key_places, calls, window, schema })
    }

    /// The columns of a step under the names that the aggregation gave them.
    fn output(&self, step: usize, windowed: Option<&WindowedInput>, schema: &DFSchemaRef) -> Result<LogicalPlan> {
        let output = self.steps[step].schema.clone();
        let name = TableReference::bare(format!("$step{step}"));
        let source = StepOutput { step, schema: output.clone() };
        let scan = LogicalPlanBuilder::scan(name.clone(), Arc::new(source), None)?.build()?;
        let column = |place: usize| Expr::Column(Column::new(Some(name.clone()), output.field(place).name()));
        let call_offset = schema.fields().len() - self.steps[step].calls.len();
        let columns = schema.iter().enumerate().map(|(place, (qualifier, field))| {
            let value = match windowed {
                _ if place >= call_offset => column(self.steps[step].keys.len() + place - call_offset),
                None => column(place),
                Some(windowed) => {
                    let source = windowed.output_place(place, output.fields().len());
                    let value = column(source);
                    let same = output.field(source).data_type() == field.data_type();
                    if same { value } else { cast(value, field.data_type().clone()) }
                }
            };
            value.alias_qualified(qualifier.cloned(), field.name())
        });
        LogicalPlanBuilder::from(scan).project(columns.collect::<Vec<_>>())?.build()
    }
}

/// The columns below a stateful operator, each once.
struct InputColumns {
    schema: DFSchemaRef,
    exprs: Vec<Expr>,
}

impl InputColumns {
    fn place(&mut self, expr: Expr) -> usize {
        let expr = expr.unalias();
        self.exprs.iter().position(|known| *known == expr).unwrap_or_else(|| {
            self.exprs.push(expr);
            self.exprs.len() - 1
        })
    }

    fn place_of_key(&mut self, expr: &Expr) -> Result<usize> {
        let data_type = expr.get_type(&self.schema)?;
        if !is_key_type(&data_type) {
            let message = format!("rows cannot be grouped by a value of type {}", sql_name(&data_type));
            let diagnostic = Diagnostic::new(message).at(errors::position_of(expr)).hint("group by its parts");
            return Err(errors::to_datafusion(diagnostic));
        }
        Ok(self.place(expr.clone()))
    }

    fn call(&mut self, expr: &Expr, field: &FieldRef) -> Result<Call> {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = expr.clone().unalias_nested().data else {
            return plan_err!("{expr} is no call of an aggregate function");
        };
        let AggregateFunctionParams { args, filter, distinct: false, .. } = params else {
            return plan_err!("DISTINCT in aggregate functions is not available in this version");
        };
        let [argument] = args.as_slice() else { return plan_err!("{} takes one argument", func.name()) };
        let counts_rows =
            matches!(argument, Expr::Literal(value, _) if *value != ScalarValue::Null && !value.is_null());
        let function = match func.name() {
            "count" if counts_rows => Function::CountRows,
            "count" => Function::Count,
            "sum" => Function::Sum,
            "avg" => Function::Avg,
            "min" => Function::Min,
            "max" => Function::Max,
            other => return plan_err!("the aggregate function {other} is not available in this version"),
        };
        let takes = function != Function::CountRows;
        let argument_type = takes.then(|| argument.get_type(&self.schema)).transpose()?;
        let argument = takes.then(|| self.place(argument.clone()));
        let filter = filter.map(|filter| self.place(*filter));
        let (result_type, name) = (field.data_type().clone(), field.name().clone());
        Ok(Call { function, argument, filter, argument_type, result_type, name })
    }

    /// A batch without columns would forget how many rows it has.
    fn not_empty(&mut self) {
        if self.exprs.is_empty() {
            self.exprs.push(Expr::Literal(ScalarValue::Boolean(Some(true)), None));
        }
    }

    fn named(&self) -> Vec<Expr> {
        let mut names = Names::default();
        let named = |expr: &Expr| {
            let name = match expr {
                Expr::Column(column) => column.name.clone(),
                other => other.schema_name().to_string(),
            };
            expr.clone().alias(names.free(&name))
        };
        self.exprs.iter().map(named).collect()
    }
}

/// Keeps names apart.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn free(&mut self, name: &str) -> String {
        let mut free = name.to_owned();
        let mut number = 1;
        while self.0.contains(&free) {
            number += 1;
            free = format!("{name}_{number}");
        }
        self.0.push(free.clone());
        free
    }
}

fn step_schema(keys: &[Expr], calls: &[Call], windowed: bool, input: &DFSchemaRef) -> Result<SchemaRef> {
    let mut names = Names::default();
    let mut fields = Vec::new();
    for key in keys {
        let (_, field) = key.to_field(input)?;
        fields.push(Field::new(names.free(field.name()), field.data_type().clone(), field.is_nullable()));
    }
    for call in calls {
        let counts = matches!(call.function, Function::Count | Function::CountRows);
        fields.push(Field::new(names.free(&call.name), call.result_type.clone(), !counts));
    }
    if windowed {
        fields.extend(WINDOW_COLUMNS.map(|name| Field::new(names.free(name), TIMESTAMP_3, false)));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The place among a window's columns that an attribute stands for.
pub(super) fn window_column(attribute: Attribute) -> Option<usize> {
    match attribute {
        Attribute::WindowStart(_) => Some(0),
        Attribute::WindowEnd(_) => Some(1),
        Attribute::WindowTime(_) => Some(2),
        _ => None,
    }
}

/// TIMESTAMP(3) of a time column.
pub(super) fn as_timestamp(time: Expr, data_type: &DataType) -> Expr {
    if *data_type == TIMESTAMP_3 { time } else { cast(time, TIMESTAMP_3) }
}
