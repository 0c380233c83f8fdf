//! Aggregation in windows of event time.

mod blocks;
mod emission;
mod local_pane;
mod pane_aggregate;
mod pane_store;
mod panes;
mod progress;
mod times;

pub use local_pane::LocalPaneAggregate;
pub use pane_aggregate::PaneAggregate;

use super::group_aggregate::InputForm;
use super::layout::Layout;
use super::local::schema_of;
use crate::failure::Result;
use crate::operator::{Operator, OperatorContext};
use crate::plan;
use arrow::datatypes::SchemaRef;

/// The keyed operator of a window aggregate, whatever its windows are. `input_schema` is that of the rows, also when they
/// come as partials.
pub fn keyed(
    spec: &plan::WindowAggregate,
    input: InputForm,
    input_schema: &SchemaRef,
    output_schema: SchemaRef,
    context: &OperatorContext,
) -> Result<Box<dyn Operator>> {
    Ok(Box::new(PaneAggregate::new(spec, input, input_schema, output_schema, context)?))
}

/// The operator before the shuffle.
pub fn local(spec: &plan::WindowAggregate, input_schema: &SchemaRef, context: &OperatorContext) -> Result<Box<dyn Operator>> {
    Ok(Box::new(LocalPaneAggregate::new(spec, input_schema, context)?))
}

/// The columns that the operator before the shuffle emits: the keys, times, accumulators.
pub fn partial_schema(spec: &plan::WindowAggregate, input_schema: &SchemaRef) -> Result<SchemaRef> {
    Ok(schema_of(&Layout::windowed(input_schema, &spec.keys, &spec.calls, 0)?, local_pane::between()))
}
