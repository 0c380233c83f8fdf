//! What expressions read of a batch: columns, and fields of the rows in them.
//!
//! An event that is a row in one column has many fields of which a query reads a few. Filtering rows, or evaluating a part
//! of an expression for some of them, copies all that lies in the batch: so the batch is narrowed first to the fields that
//! are read, which copies nothing.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_physical_expr::expressions::{Column, Literal};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::sync::Arc;

type Expression = Arc<dyn PhysicalExpr>;

/// The columns and fields that expressions read, each once.
pub(super) struct Leaves {
    input: SchemaRef,
    expressions: Vec<Expression>,
}

/// Narrows batches.
pub(super) struct Narrowing {
    expressions: Vec<Expression>,
    schema: SchemaRef,
}

impl Leaves {
    /// None yet, of batches with the columns `input`.
    pub(super) fn of(input: SchemaRef) -> Self {
        Self { input, expressions: Vec::new() }
    }

    /// The same expression over the narrowed batch, which gets what it reads.
    pub(super) fn gather(&mut self, expression: &Expression) -> Result<Expression> {
        let changed = Arc::clone(expression).transform_down(|node| {
            if !is_leaf(&node) {
                return Ok(Transformed::no(node));
            }
            let known = self.expressions.iter().position(|leaf| leaf.as_ref() == node.as_ref());
            let place = known.unwrap_or_else(|| {
                self.expressions.push(Arc::clone(&node));
                self.expressions.len() - 1
            });
            let column = Arc::new(Column::new(&node.to_string(), place)) as Expression;
            Ok(Transformed::new(column, true, TreeNodeRecursion::Jump))
        });
        changed.map(|changed| changed.data)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.expressions.len()
    }

    /// The narrowing to all that has been gathered.
    pub(super) fn narrowing(self) -> Result<Narrowing> {
        let field = |leaf: &Expression| Ok(Field::new(leaf.to_string(), leaf.data_type(&self.input)?, true));
        let fields = self.expressions.iter().map(field).collect::<Result<Vec<_>>>()?;
        Ok(Narrowing { expressions: self.expressions, schema: Arc::new(Schema::new(fields)) })
    }
}

/// True for a column, and for a field of a row in one.
fn is_leaf(expression: &Expression) -> bool {
    if expression.is::<Column>() {
        return true;
    }
    let Some(call) = expression.downcast_ref::<ScalarFunctionExpr>() else { return false };
    let Some((row, names)) = call.args().split_first() else { return false };
    call.fun().name() == "get_field" && names.iter().all(|name| name.is::<Literal>()) && is_leaf(row)
}

impl Narrowing {
    /// What is read of a batch.
    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let rows = batch.num_rows();
        let columns = self.expressions.iter().map(|leaf| leaf.evaluate(batch)?.into_array(rows));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }
}
