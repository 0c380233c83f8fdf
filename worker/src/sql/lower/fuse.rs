//! Two steps that filter and project, one after the other, are one.
//!
//! Rows then go through one pass instead of two. A step that several read stays, and so does a computed column that would
//! be computed twice.

use crate::plan::left_to_right::and;
use crate::plan::{Calc, Node, NodeIndex, NodeKind};
use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_physical_expr::expressions::{Column, Literal};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

/// The nodes with neighbours made one, in the same order.
pub(super) fn fuse(mut nodes: Vec<Node>) -> Result<Vec<Node>> {
    let mut gone = vec![false; nodes.len()];
    for index in 0..nodes.len() {
        // Its input may have been fused with what is before that already.
        if let Some((fused, below)) = fused(&nodes, index)? {
            let inputs = nodes[below].inputs.clone();
            let node = &mut nodes[index];
            node.name = name_of(&fused).to_owned();
            node.inputs = inputs;
            node.kind = NodeKind::Calc(fused);
            gone[below] = true;
        }
    }
    Ok(without(nodes, &gone))
}

/// What a step that filters and projects is called.
pub(super) fn name_of(calc: &Calc) -> &'static str {
    match (&calc.filter, &calc.columns) {
        (Some(_), None) => "filter",
        (Some(_), Some(_)) => "filter and project",
        (None, _) => "project",
    }
}

fn fused(nodes: &[Node], index: NodeIndex) -> Result<Option<(Calc, NodeIndex)>> {
    let NodeKind::Calc(above) = &nodes[index].kind else { return Ok(None) };
    let below_index = nodes[index].inputs[0];
    let NodeKind::Calc(below) = &nodes[below_index].kind else { return Ok(None) };
    let readers = nodes.iter().flat_map(|node| &node.inputs).filter(|input| **input == below_index).count();
    if readers != 1 {
        return Ok(None);
    }
    Ok(compose(below, above)?.map(|calc| (calc, below_index)))
}

/// `above` over the input of `below`; `None` when something would be computed twice.
fn compose(below: &Calc, above: &Calc) -> Result<Option<Calc>> {
    let mut uses = vec![0_usize; below.schema.fields().len()];
    // Columns that are left alone are used as they are, once each.
    let kept = if above.columns.is_none() { 1 } else { 0 };
    uses.iter_mut().for_each(|count| *count = kept);
    for expression in above.filter.iter().chain(above.columns.iter().flatten()) {
        count(expression, &mut uses)?;
    }
    let computed = below.columns.iter().flatten().zip(&uses);
    if computed.into_iter().any(|(column, uses)| *uses > 1 && !is_cheap(column)) {
        return Ok(None);
    }
    let over = |expression: &Arc<dyn PhysicalExpr>| match &below.columns {
        None => Ok(Arc::clone(expression)),
        Some(columns) => replaced(expression, columns),
    };
    let upper = above.filter.as_ref().map(over).transpose()?;
    let filter = match (below.filter.clone(), upper) {
        (Some(lower), Some(upper)) => Some(and(lower, upper)),
        (lower, upper) => lower.or(upper),
    };
    let columns = match (&above.columns, &below.columns) {
        (Some(columns), _) => Some(columns.iter().map(over).collect::<Result<Vec<_>>>()?),
        (None, columns) => columns.clone(),
    };
    Ok(Some(Calc { filter, input: Arc::clone(&below.input), columns, schema: Arc::clone(&above.schema) }))
}

fn count(expression: &Arc<dyn PhysicalExpr>, uses: &mut [usize]) -> Result<()> {
    if let Some(column) = expression.downcast_ref::<Column>() {
        uses[column.index()] += 1;
    }
    expression.children().into_iter().try_for_each(|child| count(child, uses))
}

/// A column, a constant, or a field of a row: taking it twice costs nothing.
fn is_cheap(expression: &Arc<dyn PhysicalExpr>) -> bool {
    if let Some(call) = expression.downcast_ref::<ScalarFunctionExpr>() {
        return call.name() == "get_field" && call.args().iter().all(is_cheap);
    }
    expression.is::<Column>() || expression.is::<Literal>()
}

fn replaced(expression: &Arc<dyn PhysicalExpr>, columns: &[Arc<dyn PhysicalExpr>]) -> Result<Arc<dyn PhysicalExpr>> {
    // From the top, and not into what was put in: that counts the columns of another input.
    let replaced = Arc::clone(expression).transform_down(|expression| {
        let Some(column) = expression.downcast_ref::<Column>() else { return Ok(Transformed::no(expression)) };
        let below = Arc::clone(&columns[column.index()]);
        Ok(Transformed::new(below, true, datafusion_common::tree_node::TreeNodeRecursion::Jump))
    })?;
    Ok(replaced.data)
}

fn without(nodes: Vec<Node>, gone: &[bool]) -> Vec<Node> {
    let mut places = Vec::with_capacity(nodes.len());
    let mut next = 0;
    for gone in gone {
        places.push(next);
        next += usize::from(!gone);
    }
    let kept = nodes.into_iter().zip(gone).filter(|(_, gone)| !**gone).map(|(node, _)| node);
    let moved = kept.map(|mut node| {
        node.inputs.iter_mut().for_each(|input| *input = places[*input]);
        if let NodeKind::Source(source) = &mut node.kind {
            source.bad_records = source.bad_records.map(|sink| places[sink]);
        }
        node
    });
    moved.collect()
}
