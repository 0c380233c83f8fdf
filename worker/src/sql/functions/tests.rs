//! What functions, operators and casts give, through the whole path from SQL text to values.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::definition::{Function, Kind};
use super::planner::literal;
use super::typing::sql_name;
use super::{CastRule, LENGTH_KEY, PADDED_KEY, expr_planners, message, rewrite_syntax, scalar_functions};
use crate::sql::syntax::FlinkDialect;
use arrow::array::{
    Array, ArrayRef, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, RecordBatchOptions,
    StringViewArray, TimestampMicrosecondArray, TimestampMillisecondArray, new_null_array,
};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, DFSchema, Result, ScalarValue, TableReference, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::logical_plan::LogicalTableSource;
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, WindowUDF,
};
use datafusion_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};
use datafusion_optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion_optimizer::simplify_expressions::SimplifyExpressions;
use datafusion_optimizer::{Analyzer, Optimizer, OptimizerContext};
use datafusion_physical_expr::create_physical_expr;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use sqlparser::ast;
use sqlparser::parser::Parser;
use std::collections::HashMap;
use std::sync::Arc;

/// Knows functions and no tables.
struct Functions {
    functions: HashMap<String, Arc<ScalarUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: datafusion_common::config::ConfigOptions,
}

impl Functions {
    fn new() -> Self {
        let mut functions = HashMap::new();
        for udf in scalar_functions() {
            for name in std::iter::once(udf.name().to_owned()).chain(udf.aliases().iter().cloned()) {
                assert!(functions.insert(name.clone(), Arc::clone(&udf)).is_none(), "{name} is there twice");
            }
        }
        Self { functions, planners: expr_planners(), options: Default::default() }
    }
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("no table {name}")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(Types))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.get(name).map(super::for_call)
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &datafusion_common::config::ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        vec![]
    }

    fn udaf_names(&self) -> Vec<String> {
        vec![]
    }

    fn udwf_names(&self) -> Vec<String> {
        vec![]
    }
}

/// VARCHAR(n) and CHAR(n) with their lengths; the rest is as DataFusion has it.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql: &ast::DataType) -> Result<Option<FieldRef>> {
        let (length, padded) = match sql {
            ast::DataType::Varchar(Some(ast::CharacterLength::IntegerLength { length, .. })) => (*length, false),
            ast::DataType::Char(Some(ast::CharacterLength::IntegerLength { length, .. })) => (*length, true),
            ast::DataType::Bytes(_) => return Ok(Some(Arc::new(Field::new("", DataType::BinaryView, true)))),
            _ => return Ok(None),
        };
        let mut metadata = HashMap::from([(LENGTH_KEY.to_owned(), length.to_string())]);
        if padded {
            metadata.insert(PADDED_KEY.to_owned(), String::new());
        }
        Ok(Some(Arc::new(Field::new("", DataType::Utf8View, true).with_metadata(metadata))))
    }
}

fn parse(sql: &str, context: &Functions) -> Result<Expr> {
    let mut ast = Parser::new(&FlinkDialect).try_with_sql(sql)?.parse_expr()?;
    rewrite_syntax(&mut ast);
    let options = ParserOptions::new().with_parse_float_as_decimal(true);
    SqlToRel::new_with_options(context, options).sql_to_expr(ast, &DFSchema::empty(), &mut PlannerContext::new())
}

/// Functions whose constants decide about types or units.
const WITH_CONSTANTS: &[&str] = &[
    "floor_to",
    "ceil_to",
    "extract",
    "timestampadd",
    "timestampdiff",
    "round",
    "truncate",
    "plus_interval",
    "sha2",
    "json_object",
    "json_array",
];

/// Puts columns in the place of constants: three rows, of which the second is null.
fn with_columns(expr: Expr) -> (Expr, Vec<Field>, Vec<ArrayRef>) {
    let (mut fields, mut columns) = (vec![], vec![]);
    let expr = expr
        .transform_down(|expr| {
            Ok(match expr {
                Expr::ScalarFunction(call) if WITH_CONSTANTS.contains(&call.name()) => {
                    Transformed::new(Expr::ScalarFunction(call), false, TreeNodeRecursion::Jump)
                }
                Expr::Literal(value, _)
                    if !value.is_null() && !matches!(value, ScalarValue::IntervalMonthDayNano(_)) =>
                {
                    let name = format!("c{}", fields.len());
                    let Expr::Literal(value, _) = literal(Expr::Literal(value, None)) else { panic!("it stays one") };
                    let one = value.to_array().unwrap();
                    let null = new_null_array(one.data_type(), 1);
                    fields.push(Field::new(&name, one.data_type().clone(), true));
                    columns.push(concat(&[&one, &null, &one]).unwrap());
                    Transformed::yes(Expr::Column(Column::new(Some("t"), name)))
                }
                other => Transformed::no(other),
            })
        })
        .unwrap()
        .data;
    (expr, fields, columns)
}

/// The type and text of an expression's values.
fn evaluate(
    expr: Expr,
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
    rows: usize,
    simplify: bool,
) -> Result<(String, Vec<String>)> {
    let schema = Arc::new(Schema::new(fields));
    let source = Arc::new(LogicalTableSource::new(Arc::clone(&schema)));
    let plan = LogicalPlanBuilder::scan("t", source, None)?.project([expr])?.build()?;
    let rules: Vec<Arc<dyn datafusion_optimizer::AnalyzerRule + Send + Sync>> =
        vec![Arc::new(CastRule::BeforeCoercion), Arc::new(TypeCoercion::new()), Arc::new(CastRule::AfterCoercion)];
    let plan = Analyzer::with_rules(rules).execute_and_check(plan, &Default::default(), |_, _| {})?;
    let plan = if simplify {
        let context = OptimizerContext::new().without_query_execution_start_time();
        Optimizer::with_rules(vec![Arc::new(SimplifyExpressions::new())]).optimize(plan, &context, |_, _| {})?
    } else {
        plan
    };
    let LogicalPlan::Projection(projection) = &plan else { panic!("a projection stays one") };
    let physical = create_physical_expr(
        &projection.expr[0],
        projection.input.schema(),
        &ExecutionProps::new(),
        &datafusion_expr::physical_planning_context::PhysicalPlanningContext::default(),
    )?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
    let array = physical.evaluate(&batch)?.into_array(rows)?;
    assert_eq!(array.data_type(), projection.schema.field(0).data_type(), "the values have the type of the plan");
    array.to_data().validate_full()?;
    let timestamps = Some("%Y-%m-%d %H:%M:%S%.f");
    let options =
        FormatOptions::new().with_null("NULL").with_timestamp_format(timestamps).with_timestamp_tz_format(timestamps);
    let formatter = ArrayFormatter::try_new(&array, &options)?;
    Ok((sql_name(array.data_type()), (0..rows).map(|row| formatter.value(row).to_string()).collect()))
}

/// What an expression of constants gives: its type and value, or an error's text.
fn outcome(context: &Functions, sql: &str, columns: bool, simplify: bool) -> String {
    let run = || {
        let expr = parse(sql, context)?;
        let (expr, fields, arrays) = if columns { with_columns(expr) } else { (expr, vec![], vec![]) };
        evaluate(expr, fields, arrays, if columns { 3 } else { 1 }, simplify)
    };
    match run() {
        Ok((data_type, values)) => {
            assert_eq!(values.first(), values.last(), "{sql}: equal rows give equal values");
            format!("{data_type} {}", values[0])
        }
        Err(error) => format!("error {}", message(&error)),
    }
}

/// Each line: an expression, ` -> `, its type and value or `error` and a part of the message. Evaluated with constants
/// and with columns, as planned and as simplified.
pub(super) fn check(lines: &str) {
    let context = Functions::new();
    let mut wrong = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (sql, expected) = line.rsplit_once(" -> ").unwrap();
        for (columns, simplify) in [(false, false), (true, false), (false, true), (true, true)] {
            let found = outcome(&context, sql.trim(), columns, simplify);
            let fits = match expected.trim().strip_prefix("error ") {
                Some(part) => found.starts_with("error ") && found.contains(part),
                None => found.trim_end() == expected.trim(),
            };
            if !fits {
                wrong.push_str(&format!(
                    "\n{sql}\n   expected {expected}\n   found    {found} (columns: {columns}, simplified: {simplify})"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_user_guide_lists_every_function() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/functions.md");
    let wanted = super::documentation();
    if std::env::var_os("WEIR_UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).unwrap();
        std::fs::write(path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == wanted, "docs/functions.md is out of date: run this test with WEIR_UPDATE_DOCS=1 and commit it");
}

/// Values that functions meet: the ends of ranges, and text in the forms of everything that functions read.
fn extremes(kind: Kind, choice: usize) -> ArrayRef {
    let texts = [
        "",
        "a",
        "ß€𝄞",
        "%",
        "_",
        "\\\\",
        "[",
        "(a|b)*",
        "\\\\Q",
        "'",
        "''",
        "yyyy-MM-dd",
        "SSSSSSSSS",
        "QDky",
        "E'x",
        "$",
        "$.a[0]",
        "$[",
        "lax $.*",
        "{\"a\":[1]}",
        "2020-02-30",
        "9999-12-31 23:59:59.999999999",
        "-1",
        "1e999999999",
        "1e-999999999",
        "99999999999999999999999999999999999999",
        "GMT+99:99",
        "UTC",
        "http://u@h:1/p?q=1#r",
        "DAY",
        "MILLENNIUM",
        "WEEK",
        "=",
        "Zg==",
        "00000000000000000000",
        ".",
        "+",
        "NaN",
    ];
    let numbers = [i64::MIN, i64::MIN + 1, -(1 << 31), -1, 0, 1, 2, 3, 224, 1 << 31, i64::MAX];
    let text = |at: usize| Some(texts[at % texts.len()]);
    let number = |at: usize| Some(numbers[at % numbers.len()]);
    let rows = 12;
    let picks = || (0..rows).map(|row| (row * 7 + choice) * (1 + choice % 5));
    match (kind, choice % 4) {
        (Kind::Text, _) | (Kind::Moment | Kind::Temporal | Kind::TextOrNumber, 0) => {
            Arc::new(picks().map(text).chain([None]).collect::<StringViewArray>())
        }
        (Kind::Double, _) | (Kind::Number, 0) => {
            let doubles = [f64::NAN, f64::INFINITY, f64::MIN, -0.0, 1.5, f64::MIN_POSITIVE, f64::MAX];
            Arc::new(picks().map(|at| Some(doubles[at % doubles.len()])).chain([None]).collect::<Float64Array>())
        }
        (Kind::Number, 1) => {
            let decimals = picks().map(|at| number(at).map(|number| i128::from(number) * 10_000_000_000)).chain([None]);
            Arc::new(decimals.collect::<Decimal128Array>().with_precision_and_scale(38, 19).unwrap())
        }
        (Kind::Moment | Kind::Temporal, 1) => {
            Arc::new(picks().map(number).chain([None]).collect::<TimestampMillisecondArray>())
        }
        (Kind::Moment | Kind::Temporal, 2) => {
            Arc::new(picks().map(number).chain([None]).collect::<TimestampMicrosecondArray>())
        }
        (Kind::Moment | Kind::Temporal, _) => {
            Arc::new(picks().map(|at| number(at).map(|number| number as i32)).chain([None]).collect::<Date32Array>())
        }
        _ => Arc::new(picks().map(number).chain([None]).collect::<Int64Array>()),
    }
}

fn call(function: &'static Function, args: Vec<ArrayRef>, choice: usize) -> Result<ArrayRef> {
    let fields: Vec<FieldRef> =
        args.iter().map(|arg| Arc::new(Field::new("x", arg.data_type().clone(), true))).collect();
    let udf = function.udf();
    let unit = ScalarValue::Utf8View(Some("HOUR".to_owned()));
    let scalar_arguments: Vec<Option<&ScalarValue>> =
        (0..args.len()).map(|place| (place == 0).then_some(&unit)).collect();
    let return_field =
        udf.return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &scalar_arguments })?;
    let number_rows = args.first().map_or(1, Array::len);
    let mut args: Vec<ColumnarValue> = args.into_iter().map(ColumnarValue::Array).collect();
    if WITH_CONSTANTS.contains(&function.name) && function.kinds()[0] == Kind::Text {
        let units = [
            "MILLENNIUM",
            "CENTURY",
            "YEAR",
            "QUARTER",
            "MONTH",
            "WEEK",
            "DAY",
            "HOUR",
            "MILLISECOND",
            "DOY",
            "ISOYEAR",
        ];
        args[0] = ColumnarValue::Scalar(ScalarValue::Utf8View(Some(units[choice % units.len()].to_owned())));
    }
    let args =
        ScalarFunctionArgs { args, arg_fields: fields, number_rows, return_field, config_options: Default::default() };
    udf.invoke_with_args(args)?.into_array(number_rows)
}

#[test]
fn no_value_makes_a_function_panic() {
    for function in super::FAMILIES.iter().flat_map(|family| family.functions) {
        for choice in 0..200 {
            let kinds = function.kinds().iter().enumerate();
            let args: Vec<ArrayRef> =
                kinds.map(|(place, kind)| extremes(*kind, choice * (place + 1) + place)).collect();
            if let Ok(result) = call(function, args, choice) {
                result.to_data().validate_full().unwrap();
            }
        }
    }
}

#[test]
fn no_text_makes_a_cast_panic() {
    let context = Functions::new();
    let types =
        ["BOOLEAN", "TINYINT", "BIGINT", "DOUBLE", "DECIMAL(38, 18)", "DATE", "TIME", "TIMESTAMP(3)", "TIMESTAMP(6)"];
    for data_type in types {
        let expr = parse(&format!("CAST(TRY_CAST('x' AS {data_type}) AS STRING)"), &context).unwrap();
        for choice in 0..100 {
            let column = extremes(Kind::Text, choice);
            let field = Field::new("c", DataType::Utf8View, true);
            let read = |node: Expr| match node {
                Expr::Literal(ScalarValue::Utf8(_), _) => {
                    Ok(Transformed::yes(Expr::Column(Column::new(Some("t"), "c"))))
                }
                other => Ok(Transformed::no(other)),
            };
            let expr = expr.clone().transform_up(read).unwrap().data;
            let rows = column.len();
            evaluate(expr, vec![field], vec![column], rows, false).unwrap();
        }
    }
}
