//! Aggregation in windows of event time.

mod assign;
mod blocks;
mod emission;
mod local_pane;
mod local_session;
mod pane_aggregate;
mod pane_store;
mod panes;
mod progress;
mod session_aggregate;
mod session_store;
mod timers;
mod times;

pub use assign::WindowAssign;
pub use local_pane::LocalPaneAggregate;
pub use local_session::LocalSessionAggregate;
pub use pane_aggregate::PaneAggregate;
pub use session_aggregate::SessionAggregate;

use super::group_aggregate::InputForm;
use super::layout::Layout;
use super::local::schema_of;
use crate::failure::Result;
use crate::operator::legend::Legend;
use crate::operator::window::Window;
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
    if let Window::Session { gap_ms } = spec.window {
        return Ok(Box::new(SessionAggregate::new(spec, gap_ms, (input, input_schema), output_schema, context)?));
    }
    Ok(Box::new(PaneAggregate::new(spec, input, input_schema, output_schema, context)?))
}

/// The tables of the state with their columns, for the check whether a changed query fits it: the windows themselves are
/// part of it.
pub fn state_schema(
    spec: &plan::WindowAggregate,
    input_schema: &SchemaRef,
    output_schema: SchemaRef,
    context: &OperatorContext,
) -> Result<serde_json::Value> {
    let tables = if let Window::Session { gap_ms } = spec.window {
        let input = (InputForm::Rows, input_schema);
        SessionAggregate::new(spec, gap_ms, input, output_schema, context)?.state_schema()
    } else {
        PaneAggregate::new(spec, InputForm::Rows, input_schema, output_schema, context)?.state_schema()
    };
    Ok(serde_json::json!({"window": format!("{:?}", spec.window), "tables": tables}))
}

/// What the columns of the state mean.
pub fn legend(
    spec: &plan::WindowAggregate,
    input_schema: &SchemaRef,
    output_schema: SchemaRef,
    context: &OperatorContext,
) -> Result<Legend> {
    let event_time = input_schema.field(spec.time).data_type();
    Ok(if let Window::Session { gap_ms } = spec.window {
        let input = (InputForm::Rows, input_schema);
        SessionAggregate::new(spec, gap_ms, input, output_schema, context)?.legend(event_time)
    } else {
        PaneAggregate::new(spec, InputForm::Rows, input_schema, output_schema, context)?.legend(event_time)
    })
}

/// The operator before the shuffle.
pub fn local(
    spec: &plan::WindowAggregate,
    input_schema: &SchemaRef,
    context: &OperatorContext,
) -> Result<Box<dyn Operator>> {
    if let Window::Session { gap_ms } = spec.window {
        return Ok(Box::new(LocalSessionAggregate::new(spec, gap_ms, input_schema, context)?));
    }
    Ok(Box::new(LocalPaneAggregate::new(spec, input_schema, context)?))
}

/// The columns that the operator before the shuffle emits: the keys, times, accumulators.
pub fn partial_schema(spec: &plan::WindowAggregate, input_schema: &SchemaRef) -> Result<SchemaRef> {
    let between = match spec.window {
        Window::Session { .. } => local_session::between(),
        Window::Tumble { .. } | Window::Hop { .. } | Window::Cumulate { .. } => local_pane::between(),
    };
    Ok(schema_of(&Layout::windowed(input_schema, &spec.keys, &spec.calls, 0)?, between))
}
