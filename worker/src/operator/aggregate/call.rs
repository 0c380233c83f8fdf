//! An aggregate function as the planner hands it over: columns by place, types settled.

use arrow::datatypes::DataType;

/// The aggregate functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    /// `COUNT(*)`: rows.
    CountRows,
    /// `COUNT(x)`: rows whose argument is not null.
    Count,
    /// `SUM`: null over no values; integers wrap around, decimals beyond their precision become null, as in Flink.
    Sum,
    /// `AVG`: of integers an integer, rounded toward zero.
    Avg,
    /// `MIN`.
    Min,
    /// `MAX`.
    Max,
}

/// One call of an aggregate function in a `GROUP BY`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Call {
    /// The function.
    pub function: Function,
    /// The argument's column in the input; `None` only for [`Function::CountRows`].
    pub argument: Option<usize>,
    /// A boolean column: only rows for which it is true count.
    pub filter: Option<usize>,
    /// The argument's type.
    pub argument_type: Option<DataType>,
    /// The result's type, as Flink has it: `SUM(INT)` is `INT`, `SUM(DECIMAL(p, s))` is `DECIMAL(38, s)`.
    pub result_type: DataType,
    /// The result's column name.
    pub name: String,
}
