//! The streaming plan: what the SQL front end hands to the engine.
//!
//! A plan is a list of nodes in topological order. Expressions are bound to the columns of their node's input by place.
//! Aggregates and windows refer to columns only: the front end puts a [`Calc`] below them that computes keys, arguments
//! and filters, and one above that arranges the result. How the plan is cut into tasks is not its business.

pub(crate) mod choice;
pub(crate) mod left_to_right;
pub(crate) mod words;

use crate::connector::options::Options;
use crate::connector::{Sink, Source, TableShape};
use crate::operator::aggregate::call::Call;
use crate::operator::window::Window;
use arrow::datatypes::SchemaRef;
use datafusion_physical_expr::PhysicalExpr;
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::OperatorId;

/// A job's dataflow.
pub struct Plan {
    /// Inputs come before the nodes that read them.
    pub nodes: Vec<Node>,
    /// Equal for equal SQL planned by equal builds.
    pub fingerprint: u64,
    /// Remarks for the user that do not stop the job.
    pub warnings: Vec<String>,
}

/// The place of a node in [`Plan::nodes`].
pub type NodeIndex = usize;

/// One step of the dataflow.
pub struct Node {
    /// The stable id: of the operator's state for stateful ones, of positions for sources, of committables for sinks.
    /// Absent for nodes without any.
    pub id: Option<OperatorId>,
    /// For people: `source bids`, `group by auction`.
    pub name: String,
    /// What it does.
    pub kind: NodeKind,
    /// The nodes that it reads.
    pub inputs: Vec<NodeIndex>,
    /// The columns of its output.
    pub schema: SchemaRef,
    /// Whether its output only grows.
    pub changelog: Changelog,
}

/// What kinds of rows a node emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Changelog {
    /// `+I` only.
    Append,
    /// All kinds; an update is a `-U` and a `+U`.
    Retract,
}

/// The kinds of steps.
pub enum NodeKind {
    /// Reads a table.
    Source(SourceNode),
    /// Filters and projects.
    Calc(Calc),
    /// Appends `window_start`, `window_end` and `window_time` to each row, once per window it falls in. Not for sessions.
    WindowAssign(WindowAssign),
    /// Aggregates by key and window; emits a group when the watermark passes its window.
    WindowAggregate(WindowAggregate),
    /// Aggregates by key; emits changes of the result.
    GroupAggregate(GroupAggregate),
    /// All rows of all inputs.
    Union,
    /// Writes a table.
    Sink(SinkNode),
}

/// Reads a table: physical columns, then the computed ones, then the watermark.
pub struct SourceNode {
    /// The table.
    pub table: TableShape,
    /// Its options, checked.
    pub options: Options,
    /// The connector.
    pub source: Arc<dyn Source>,
    /// The physical columns that anything needs, ascending.
    pub projection: Vec<usize>,
    /// From the projected physical columns (then metadata columns) to the node's schema.
    pub compute: Option<Calc>,
    /// Event time, when the table declares it.
    pub watermark: Option<Arc<Watermark>>,
    /// The sink node that takes bad records, when the table's options say so.
    pub bad_records: Option<NodeIndex>,
}

/// The declaration `WATERMARK FOR column AS expression`.
pub struct Watermark {
    /// The event-time column in the source node's output.
    pub column: usize,
    /// Milliseconds of event time, or null, from the node's output.
    pub expression: Arc<dyn PhysicalExpr>,
    /// A split without rows for this long does not hold event time back.
    pub idle_timeout: Option<Duration>,
}

/// Filters rows, then computes columns.
#[derive(Clone)]
pub struct Calc {
    /// Keeps rows for which it is true.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// The columns of the input, which the expressions read.
    pub input: SchemaRef,
    /// The output's columns; `None` keeps the input's.
    pub columns: Option<Vec<Arc<dyn PhysicalExpr>>>,
    /// The output's names and types.
    pub schema: SchemaRef,
}

/// A window table function whose rows are used as they are.
pub struct WindowAssign {
    /// The windows; never a session.
    pub window: Window,
    /// The event-time column.
    pub time: usize,
}

/// `GROUP BY keys, window_start, window_end`.
///
/// The output's columns: keys, results of `calls`, then `window_start`, `window_end`, `window_time`.
pub struct WindowAggregate {
    /// The windows.
    pub window: Window,
    /// The event-time column of the input: `Timestamp(Millisecond)`.
    pub time: usize,
    /// The key columns of the input.
    pub keys: Vec<usize>,
    /// The aggregates.
    pub calls: Vec<Call>,
}

/// `GROUP BY keys` without a window. The output's columns: keys, then results of `calls`. Without keys there is one
/// group, which exists from the start as in batch SQL only once a row has come.
pub struct GroupAggregate {
    /// The key columns of the input.
    pub keys: Vec<usize>,
    /// The aggregates.
    pub calls: Vec<Call>,
    /// A group that no row touched for this long is forgotten.
    pub state_ttl: Option<Duration>,
}

/// Writes a table.
pub struct SinkNode {
    /// The table.
    pub table: TableShape,
    /// Its options, checked.
    pub options: Options,
    /// The connector.
    pub sink: Arc<dyn Sink>,
}
