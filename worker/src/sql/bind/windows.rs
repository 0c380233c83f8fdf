//! The window functions of `FROM`: `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND))` and its like.

use super::attributes::{attributes, is_updating};
use super::types::{TIMESTAMP_3, sql_name};
use crate::diagnostic::{Diagnostic, Position, nearest};
use crate::operator::window::Window;
use crate::sql::errors;
use crate::sql::syntax::{self, group_windows::GROUPED_SESSION};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::{
    DFSchema, DFSchemaRef, DataFusionError, ExprSchema, Result, ScalarValue, TableReference, plan_err,
};
use datafusion_expr::logical_plan::{Extension, UserDefinedLogicalNodeCore};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{Expr, LogicalPlan};
use sqlparser::ast::{self, Function, FunctionArg, FunctionArgExpr, FunctionArguments, TableFactor};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The columns that a window function adds.
pub(in crate::sql) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// A table whose rows are in windows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::sql) struct WindowTable {
    pub(in crate::sql) input: LogicalPlan,
    pub(in crate::sql) window: Window,
    /// The event-time column of `input`.
    pub(in crate::sql) time: Expr,
    pub(in crate::sql) sessions: Sessions,
    schema: DFSchemaRef,
    pub(in crate::sql) place: Place,
}

/// What the sessions of a session window are kept apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::sql) enum Sessions {
    /// The columns of `PARTITION BY`.
    By(Vec<Expr>),
    /// The keys of the aggregation above: an old group window.
    ByGroup,
}

/// A place in the script; nothing that makes two plans differ.
#[derive(Debug, Clone, Copy)]
pub(in crate::sql) struct Place(pub(in crate::sql) Option<Position>);

impl PartialEq for Place {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Place {}

impl Hash for Place {
    fn hash<H: Hasher>(&self, _state: &mut H) {}
}

impl PartialOrd for WindowTable {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.input.partial_cmp(&other.input)
    }
}

impl WindowTable {
    fn new(input: LogicalPlan, window: Window, time: Expr, sessions: Sessions, place: Place) -> Result<Self> {
        let Expr::Column(column) = &time else { return plan_err!("a window needs a time column") };
        let time_type = input.schema().field_from_column(column)?.data_type().clone();
        let mut fields: Vec<(Option<TableReference>, FieldRef)> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
        let types = [TIMESTAMP_3, TIMESTAMP_3, time_type];
        let added = WINDOW_COLUMNS
            .iter()
            .zip(types)
            .map(|(name, data_type)| (None, Arc::new(Field::new(*name, data_type, false))));
        fields.extend(added);
        let schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(Self { input, window, time, sessions, schema, place })
    }
}

impl UserDefinedLogicalNodeCore for WindowTable {
    fn name(&self) -> &str {
        "WindowTable"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        let keys = match &self.sessions {
            Sessions::By(keys) => keys.as_slice(),
            Sessions::ByGroup => &[],
        };
        std::iter::once(&self.time).chain(keys).cloned().collect()
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        WINDOW_COLUMNS.map(str::to_owned).into()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "WindowTable: {:?} over {}", self.window, self.time)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let (true, Some(input)) = (!exprs.is_empty(), inputs.pop()) else {
            return plan_err!("a window has an input and a time");
        };
        let time = exprs.remove(0);
        let sessions = match self.sessions {
            Sessions::By(_) => Sessions::By(exprs),
            Sessions::ByGroup => Sessions::ByGroup,
        };
        Self::new(input, self.window, time, sessions, self.place)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let input = self.input.schema();
        let mut needed: Vec<usize> =
            output_columns.iter().copied().filter(|column| *column < input.fields().len()).collect();
        for expr in self.expressions() {
            for column in expr.column_refs() {
                needed.push(input.maybe_index_of_column(column)?);
            }
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// Plans window functions.
#[derive(Debug)]
pub(super) struct WindowPlanner;

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let TableFactor::TableFunction { expr, alias } = relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let plan = plan_window(&expr, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

fn refuse(message: impl Into<String>, position: Option<Position>, hint: impl Into<String>) -> DataFusionError {
    errors::to_datafusion(Diagnostic::new(message).at(position).hint(hint))
}

fn plan_window(expr: &ast::Expr, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let ast::Expr::Function(function) = expr else {
        return Err(refuse("TABLE(…) needs a window function", syntax::position(expr), form_of("TUMBLE")));
    };
    let call = Call::read(function)?;
    let input = plan_input(call.table, context)?;
    let schema = input.schema().clone();
    let time = context.sql_to_expr(call.time.clone(), &schema)?;
    check_time(&input, &time, call.time)?;
    if is_updating(&input) {
        let message = "a window cannot be made over rows that change later (the result of a GROUP BY without a window)";
        return Err(refuse(
            message,
            call.position,
            "group by a window in the inner query, or aggregate without a window here",
        ));
    }
    let sessions = match (call.kind, call.keys) {
        (Kind::GroupedSession, _) => Sessions::ByGroup,
        (_, keys) => {
            Sessions::By(keys.iter().map(|key| context.sql_to_expr(key.clone(), &schema)).collect::<Result<_>>()?)
        }
    };
    let mut sizes = Vec::new();
    for interval in &call.intervals {
        sizes.push(milliseconds(interval, context)?);
    }
    let window = call.window(&sizes)?;
    let node = WindowTable::new(input, window, time, sessions, Place(call.position))?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn plan_input(table: &ast::Expr, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let factor = match table {
        ast::Expr::Subquery(query) => {
            TableFactor::Derived { lateral: false, subquery: query.clone(), alias: None, sample: None }
        }
        ast::Expr::CompoundIdentifier(name) => table_factor(name.clone()),
        ast::Expr::Identifier(name) => table_factor(vec![name.clone()]),
        other => {
            return Err(refuse("a window function needs a table", syntax::position(other), "write TABLE and its name"));
        }
    };
    context.plan(factor)
}

fn table_factor(name: Vec<ast::Ident>) -> TableFactor {
    TableFactor::Table {
        name: ast::ObjectName::from(name),
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

/// A window function needs the event time of a stream.
fn check_time(input: &LogicalPlan, time: &Expr, written: &ast::Expr) -> Result<()> {
    let at = syntax::position(written);
    let hint = "declare it in CREATE TABLE: WATERMARK FOR ts AS ts - INTERVAL '5' SECOND";
    let Expr::Column(column) = time else {
        return Err(refuse(
            "DESCRIPTOR needs the name of a column",
            at,
            "compute the column in the table or in a view",
        ));
    };
    let place = input.schema().index_of_column(column)?;
    let data_type = input.schema().field(place).data_type();
    if !matches!(data_type, DataType::Timestamp(TimeUnit::Millisecond, _)) {
        let message = format!(
            "a window needs a time column of type TIMESTAMP(3), but '{}' is {}",
            column.name,
            sql_name(data_type)
        );
        return Err(refuse(message, at, hint));
    }
    let attributes = attributes(input);
    if attributes[place].is_event_time() {
        return Ok(());
    }
    let others = attributes.iter().zip(input.schema().fields()).filter(|(attribute, _)| attribute.is_event_time());
    let others: Vec<&str> = others.map(|(_, field)| field.name().as_str()).collect();
    if others.is_empty() {
        return Err(refuse(format!("a window needs event time, but '{}' has no watermark", column.name), at, hint));
    }
    let message = format!("a window needs event time, but '{}' is a plain column", column.name);
    Err(refuse(message, at, format!("event time here is {}", others.join(", "))))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tumble,
    Hop,
    Cumulate,
    Session,
    GroupedSession,
}

const KINDS: [(&str, Kind); 5] = [
    ("TUMBLE", Kind::Tumble),
    ("HOP", Kind::Hop),
    ("CUMULATE", Kind::Cumulate),
    ("SESSION", Kind::Session),
    (GROUPED_SESSION, Kind::GroupedSession),
];

/// How a window function is written.
fn form_of(name: &str) -> String {
    let arguments = match name {
        "HOP" => "slide, size [, offset]",
        "CUMULATE" => "step, size [, offset]",
        "SESSION" => "gap",
        _ => "size [, offset]",
    };
    let partition = if name == "SESSION" { " [PARTITION BY k]" } else { "" };
    format!("write TABLE({name}(TABLE t{partition}, DESCRIPTOR(ts), {arguments}))")
}

/// A window function's call.
struct Call<'a> {
    kind: Kind,
    name: String,
    position: Option<Position>,
    table: &'a ast::Expr,
    keys: &'a [ast::Expr],
    time: &'a ast::Expr,
    /// In the order of the function's parameters; an offset is last.
    intervals: Vec<&'a ast::Expr>,
}

impl<'a> Call<'a> {
    fn read(function: &'a Function) -> Result<Self> {
        let position = syntax::position(&function.name);
        let name = function.name.to_string().to_uppercase();
        let Some((_, kind)) = KINDS.into_iter().find(|(known, _)| *known == name) else {
            let known = KINDS[..4].iter().map(|(known, _)| *known);
            let hint = nearest(&name, known).map_or_else(
                || "the window functions are TUMBLE, HOP, CUMULATE and SESSION".to_owned(),
                |near| format!("did you mean '{near}'?"),
            );
            return Err(refuse(format!("there is no table function '{}'", function.name), position, hint));
        };
        let FunctionArguments::List(list) = &function.args else {
            return Err(refuse(format!("{name} needs arguments"), position, form_of(&name)));
        };
        let mut arguments = Arguments::default();
        for argument in &list.args {
            arguments
                .add(argument, kind)
                .map_err(|message| refuse(format!("{name}: {message}"), syntax::position(argument), form_of(&name)))?;
        }
        let (Some(table), Some(time)) = (arguments.table, arguments.time) else {
            return Err(refuse(format!("{name} needs a table and a DESCRIPTOR"), position, form_of(&name)));
        };
        if !arguments.keys.is_empty() && kind != Kind::Session {
            return Err(refuse(format!("{name} takes no PARTITION BY"), position, form_of(&name)));
        }
        arguments.intervals.sort_by_key(|(place, _)| *place);
        let intervals = arguments.intervals.into_iter().map(|(_, interval)| interval).collect();
        Ok(Self { kind, name, position, table, keys: arguments.keys, time, intervals })
    }

    fn window(&self, sizes: &[i64]) -> Result<Window> {
        let fail = |message: String| refuse(format!("{}: {message}", self.name), self.position, form_of(&self.name));
        let lengths = match self.kind {
            Kind::Tumble | Kind::Session | Kind::GroupedSession => 1,
            Kind::Hop | Kind::Cumulate => 2,
        };
        if sizes.len() < lengths {
            return Err(fail(format!("{lengths} intervals expected, {} found", sizes.len())));
        }
        let has_offset = !matches!(self.kind, Kind::Session | Kind::GroupedSession);
        if sizes.len() > lengths + usize::from(has_offset) {
            return Err(fail(format!("too many intervals: {} found", sizes.len())));
        }
        if sizes[..lengths].iter().any(|size| *size <= 0) {
            return Err(fail("an interval is not positive".to_owned()));
        }
        let offset_ms = sizes.get(lengths).copied().unwrap_or(0);
        if lengths == 2 && (sizes[1] < sizes[0] || sizes[1] % sizes[0] != 0) {
            let part = if self.kind == Kind::Hop { "slide" } else { "step" };
            return Err(fail(format!("the size is to be a multiple of the {part}")));
        }
        Ok(match self.kind {
            Kind::Tumble => Window::Tumble { size_ms: sizes[0], offset_ms },
            Kind::Hop => Window::Hop { slide_ms: sizes[0], size_ms: sizes[1], offset_ms },
            Kind::Cumulate => Window::Cumulate { step_ms: sizes[0], size_ms: sizes[1], offset_ms },
            Kind::Session | Kind::GroupedSession => Window::Session { gap_ms: sizes[0] },
        })
    }
}

#[derive(Default)]
struct Arguments<'a> {
    table: Option<&'a ast::Expr>,
    keys: &'a [ast::Expr],
    time: Option<&'a ast::Expr>,
    intervals: Vec<(usize, &'a ast::Expr)>,
}

impl<'a> Arguments<'a> {
    fn add(&mut self, argument: &'a FunctionArg, kind: Kind) -> std::result::Result<(), String> {
        let (name, expr) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => (None, expr),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                (Some(name.value.to_uppercase()), expr)
            }
            _ => return Err("this argument has no meaning".to_owned()),
        };
        let expected: Option<usize> = match name.as_deref() {
            None => None,
            Some("DATA" | "TIMECOL") => Some(0),
            Some(name) => Some(place_of(name, kind)?),
        };
        match expr {
            ast::Expr::CompoundIdentifier(_) | ast::Expr::Identifier(_) | ast::Expr::Subquery(_)
                if self.table.is_none() =>
            {
                self.table = Some(expr);
            }
            ast::Expr::Tuple(parts) if self.table.is_none() => {
                let [table, ast::Expr::Tuple(keys)] = parts.as_slice() else {
                    return Err("a table expected".to_owned());
                };
                self.table = Some(table);
                self.keys = keys;
            }
            ast::Expr::Function(function) if function.name.to_string().eq_ignore_ascii_case("DESCRIPTOR") => {
                self.time = Some(descriptor_column(function)?);
            }
            interval => self.intervals.push((expected.unwrap_or(self.intervals.len()), interval)),
        }
        Ok(())
    }
}

/// The place of a named interval among the intervals.
fn place_of(name: &str, kind: Kind) -> std::result::Result<usize, String> {
    let names: &[&str] = match kind {
        Kind::Tumble => &["SIZE", "OFFSET"],
        Kind::Hop => &["SLIDE", "SIZE", "OFFSET"],
        Kind::Cumulate => &["STEP", "SIZE", "OFFSET"],
        Kind::Session | Kind::GroupedSession => &["GAP"],
    };
    names.iter().position(|known| *known == name).ok_or_else(|| format!("there is no parameter {name}"))
}

fn descriptor_column(function: &Function) -> std::result::Result<&ast::Expr, String> {
    let FunctionArguments::List(list) = &function.args else { return Err("DESCRIPTOR needs a column".to_owned()) };
    match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] => Ok(column),
        _ => Err("DESCRIPTOR needs one column".to_owned()),
    }
}

/// A constant interval.
fn milliseconds(interval: &ast::Expr, context: &mut dyn RelationPlannerContext) -> Result<i64> {
    let at = syntax::position(interval);
    let hint = "write an interval of days or shorter units: INTERVAL '10' SECOND";
    let expr = context.sql_to_expr(interval.clone(), &DFSchema::empty())?;
    let (negative, literal) = match &expr {
        Expr::Negative(inner) => (true, inner.as_ref()),
        other => (false, other),
    };
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _) = literal else {
        return Err(refuse("a constant interval expected", at, hint));
    };
    if value.months != 0 || value.nanoseconds % 1_000_000 != 0 {
        return Err(refuse("a window's interval has no months and no parts of milliseconds", at, hint));
    }
    let milliseconds = i64::from(value.days) * 86_400_000 + value.nanoseconds / 1_000_000;
    Ok(if negative { -milliseconds } else { milliseconds })
}
