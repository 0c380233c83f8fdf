//! The plain evaluation: all rows of a group in a list, results computed from it.

use super::Row;
use crate::operator::aggregate::call::{Call, Function};

/// The results of all calls over the rows of one group, as text.
pub(in super::super) fn results(calls: &[Call], rows: &[Row]) -> Vec<String> {
    calls.iter().map(|call| result(call, rows)).collect()
}

/// A key column of a row, as text.
pub(in super::super) fn key(row: &Row, keys: &[usize]) -> Vec<String> {
    keys.iter().map(|column| cell(row, *column).map_or("NULL".into(), |cell| cell.show())).collect()
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Cell {
    Integer(i64),
    Float(f64),
    Decimal(i128),
    Text(String),
    Flag(bool),
    Time(i64),
}

impl Cell {
    fn show(&self) -> String {
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => show_float(*value),
            Self::Decimal(value) => show_decimal(*value, 2),
            Self::Text(text) => text.clone(),
            Self::Flag(flag) => flag.to_string(),
            Self::Time(ms) => show_time(*ms),
        }
    }
}

pub(in super::super) fn show_time(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap().naive_utc();
    let format = if ms.rem_euclid(1000) == 0 { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S%.3f" };
    time.format(format).to_string()
}

fn show_float(value: f64) -> String {
    let text = value.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

fn show_decimal(value: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, part) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{part}", if value < 0 { "-" } else { "" })
}

fn cell(row: &Row, column: usize) -> Option<Cell> {
    match column {
        0 => row.key.map(Cell::Integer),
        1 => row.name.clone().map(Cell::Text),
        2 => Some(Cell::Time(row.ts)),
        3 => row.big.map(Cell::Integer),
        4 => row.small.map(|value| Cell::Integer(value.into())),
        5 => row.float.map(Cell::Float),
        6 => row.decimal.map(Cell::Decimal),
        7 => row.text.clone().map(Cell::Text),
        _ => row.flag.map(Cell::Flag),
    }
}

fn result(call: &Call, rows: &[Row]) -> String {
    let counted: Vec<&Row> = rows.iter().filter(|row| call.filter.is_none() || row.flag == Some(true)).collect();
    let Some(argument) = call.argument else { return counted.len().to_string() };
    let cells: Vec<Cell> = counted.iter().filter_map(|row| cell(row, argument)).collect();
    let order = |left: &&Cell, right: &&Cell| left.partial_cmp(right).unwrap();
    let null = || "NULL".to_owned();
    match call.function {
        Function::CountRows | Function::Count => cells.len().to_string(),
        Function::Min => cells.iter().min_by(order).map_or_else(null, Cell::show),
        Function::Max => cells.iter().max_by(order).map_or_else(null, Cell::show),
        Function::Sum if cells.is_empty() => null(),
        Function::Avg if cells.is_empty() => null(),
        Function::Sum => match sum(&cells) {
            Cell::Integer(sum) if argument == 4 => (sum as i32).to_string(),
            sum => sum.show(),
        },
        Function::Avg => average(&sum(&cells), cells.len()),
    }
}

fn sum(cells: &[Cell]) -> Cell {
    let mut cells = cells.iter().cloned();
    let first = cells.next().unwrap();
    cells.fold(first, |sum, cell| match (sum, cell) {
        (Cell::Integer(sum), Cell::Integer(value)) => Cell::Integer(sum.wrapping_add(value)),
        (Cell::Float(sum), Cell::Float(value)) => Cell::Float(sum + value),
        (Cell::Decimal(sum), Cell::Decimal(value)) => Cell::Decimal(sum + value),
        (sum, cell) => panic!("{sum:?} and {cell:?} have no sum"),
    })
}

fn average(sum: &Cell, count: usize) -> String {
    match sum {
        Cell::Integer(sum) => (sum / count as i64).to_string(),
        Cell::Float(sum) => show_float(sum / count as f64),
        Cell::Decimal(sum) => {
            let (scaled, count) = (sum * 10_000, count as i128);
            let rounded = (scaled.abs() * 2 + count) / (count * 2) * scaled.signum();
            show_decimal(rounded, 6)
        }
        other => panic!("{other:?} has no average"),
    }
}
