//! What the columns of each step are called: as a user wrote them, never as the planner did.

use super::expression;
use crate::operator::aggregate::call::{Call, Function};
use crate::plan::{Calc, Node, NodeIndex, NodeKind};
use arrow::datatypes::FieldRef;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use std::sync::Arc;

/// The names of all steps' columns.
pub(crate) struct Names(Vec<Vec<String>>);

impl Names {
    /// The names in a plan.
    pub(crate) fn of(nodes: &[Node]) -> Self {
        let mut names = Self(Vec::with_capacity(nodes.len()));
        for node in nodes {
            let columns = names.columns_of(node);
            names.0.push(columns);
        }
        names
    }

    /// The names of a step's output.
    pub(crate) fn output(&self, node: NodeIndex) -> &[String] {
        &self.0[node]
    }

    /// The names of a step's first input.
    pub(crate) fn input(&self, node: &Node) -> &[String] {
        node.inputs.first().map_or(&[], |input| self.output(*input))
    }

    fn columns_of(&self, node: &Node) -> Vec<String> {
        let own: Vec<String> = node.schema.fields().iter().map(|field| field.name().clone()).collect();
        let input = self.input(node);
        let keys = |keys: &[usize]| keys.iter().map(|key| input[*key].clone()).collect::<Vec<_>>();
        let calls = |calls: &[Call]| calls.iter().map(|one| call(one, input)).collect::<Vec<_>>();
        let mut columns = match &node.kind {
            NodeKind::Calc(calc) => of_calc(calc, input),
            NodeKind::WindowAssign(_) => input.to_vec(),
            NodeKind::WindowAggregate(aggregate) => [keys(&aggregate.keys), calls(&aggregate.calls)].concat(),
            NodeKind::GroupAggregate(aggregate) => [keys(&aggregate.keys), calls(&aggregate.calls)].concat(),
            NodeKind::Source(_) | NodeKind::Union | NodeKind::Sink(_) => Vec::new(),
        };
        // The rest is called by names that Flink gives or the user gave.
        columns.extend(own.into_iter().skip(columns.len()));
        columns
    }
}

fn of_calc(calc: &Calc, input: &[String]) -> Vec<String> {
    let Some(columns) = &calc.columns else { return input.to_vec() };
    let fields = calc.schema.fields();
    let name = |(column, field): (&Arc<dyn PhysicalExpr>, &FieldRef)| {
        match column.downcast_ref::<Column>() {
            // A column that keeps its name keeps what it stands for.
            Some(plain) if plain.name() == field.name() => input[plain.index()].clone(),
            _ if is_name(field.name()) => field.name().clone(),
            _ => expression::sql(column, input),
        }
    };
    columns.iter().zip(fields).map(name).collect()
}

/// Whether a user would call a column so: what the planner makes up spells expressions out.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$')
}

/// A call of an aggregate function.
fn call(call: &Call, input: &[String]) -> String {
    let name = match call.function {
        Function::CountRows | Function::Count => "COUNT",
        Function::Sum => "SUM",
        Function::Avg => "AVG",
        Function::Min => "MIN",
        Function::Max => "MAX",
    };
    let argument = call.argument.map_or("*", |argument| input[argument].as_str());
    let filter = call.filter.map_or(String::new(), |filter| format!(" FILTER (WHERE {})", input[filter]));
    format!("{name}({argument}){filter}")
}
