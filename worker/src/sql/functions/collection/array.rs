//! Functions of the elements of arrays. NULL is an element like others, equal to NULL.

use super::super::arguments::Call;
use super::super::definition::Function;
use super::super::definition::Kind::{Any, Integer, Text};
use super::super::definition::Returns;
use super::super::text::TextColumn;
use super::super::typing::{common_type, is_text, sql_name};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{cast, concat, take};
use arrow::datatypes::{DataType, Field};
use arrow_row::{RowConverter, Rows, SortField};
use datafusion_common::{Result, plan_err};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// The functions of this family.
pub(in super::super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "array_contains",
        "ARRAY_CONTAINS(array, element)",
        "whether an element is in it, which may be NULL",
        &[Any, Any],
        Returns::By(|types, _| with_element(types).map(|_| DataType::Boolean)),
        |call| {
            let pool = Pool::with_element(call)?;
            let found =
                |row| pool.range(0, row).map(|mut range| range.any(|place| pool.same(place, pool.element(row))));
            Ok(Arc::new((0..call.rows).map(found).collect::<BooleanArray>()))
        },
    ),
    Function::new(
        "array_position",
        "ARRAY_POSITION(array, element)",
        "where an element is first, counted from 1; 0 if it is not there",
        &[Any, Any],
        Returns::By(|types, _| with_element(types).map(|_| DataType::Int32)),
        |call| {
            let pool = Pool::with_element(call)?;
            let position = |row| {
                let mut range = pool.range(0, row).filter(|_| !pool.is_null(pool.element(row)))?;
                let found = range.position(|place| pool.same(place, pool.element(row)));
                Some(found.map_or(0, |before| before as i32 + 1))
            };
            Ok(Arc::new((0..call.rows).map(position).collect::<Int32Array>()))
        },
    ),
    Function::new(
        "array_append",
        "ARRAY_APPEND(array, element)",
        "with an element more at its end",
        &[Any, Any],
        Returns::By(|types, _| with_element(types).map(list_of)),
        |call| {
            let pool = Pool::with_element(call)?;
            pool.lists(call, |row| Some(pool.range(0, row)?.chain([pool.element(row)]).collect()))
        },
    ),
    Function::new(
        "array_prepend",
        "ARRAY_PREPEND(array, element)",
        "with an element more at its beginning",
        &[Any, Any],
        Returns::By(|types, _| with_element(types).map(list_of)),
        |call| {
            let pool = Pool::with_element(call)?;
            pool.lists(call, |row| {
                pool.range(0, row).map(|range| [pool.element(row)].into_iter().chain(range).collect())
            })
        },
    ),
    Function::new(
        "array_remove",
        "ARRAY_REMOVE(array, element)",
        "without the elements that equal one",
        &[Any, Any],
        Returns::By(|types, _| with_element(types).map(list_of)),
        |call| {
            let pool = Pool::with_element(call)?;
            let stays = |place: &usize, row| !pool.same(*place, pool.element(row));
            pool.lists(call, |row| Some(pool.range(0, row)?.filter(|place| stays(place, row)).collect()))
        },
    ),
    Function::new(
        "array_distinct",
        "ARRAY_DISTINCT(array)",
        "each element once, in the order of their first places",
        &[Any],
        Returns::By(|types, _| of_lists(types).map(list_of)),
        |call| {
            let pool = Pool::of_lists(call, 1)?;
            pool.lists(call, |row| Some(pool.distinct(pool.range(0, row)?)))
        },
    ),
    Function::new(
        "array_concat",
        "ARRAY_CONCAT(array, …)",
        "the elements of all, one array after the other",
        &[Any],
        Returns::By(|types, _| of_lists(types).map(list_of)),
        |call| {
            let pool = Pool::of_lists(call, call.count())?;
            pool.lists(call, |row| Some(pool.ranges(row)?.flatten().collect()))
        },
    )
    .repeats(),
    Function::new(
        "array_union",
        "ARRAY_UNION(array, array)",
        "the elements of both, each once",
        &[Any, Any],
        Returns::By(|types, _| of_lists(types).map(list_of)),
        |call| {
            let pool = Pool::of_lists(call, 2)?;
            pool.lists(call, |row| Some(pool.distinct(pool.ranges(row)?.flatten())))
        },
    ),
    Function::new(
        "array_except",
        "ARRAY_EXCEPT(array, array)",
        "the elements of the first that are not in the second, each once",
        &[Any, Any],
        Returns::By(|types, _| of_lists(types).map(list_of)),
        |call| select(call, false),
    ),
    Function::new(
        "array_intersect",
        "ARRAY_INTERSECT(array, array)",
        "the elements that are in both, each once",
        &[Any, Any],
        Returns::By(|types, _| of_lists(types).map(list_of)),
        |call| select(call, true),
    ),
    Function::new(
        "array_reverse",
        "ARRAY_REVERSE(array)",
        "its elements from last to first",
        &[Any],
        Returns::By(|types, _| of_lists(types).map(list_of)),
        |call| {
            let pool = Pool::of_lists(call, 1)?;
            pool.lists(call, |row| Some(pool.range(0, row)?.rev().collect()))
        },
    ),
    Function::new(
        "array_slice",
        "ARRAY_SLICE(array, from [, to])",
        "its elements from one place to another, counted from 1, or from the end if negative; both are included",
        &[Any, Integer, Integer],
        Returns::By(|types, _| of_lists(&types[..1]).map(list_of)),
        slice,
    )
    .optional(1),
    Function::new(
        "array_max",
        "ARRAY_MAX(array)",
        "the greatest element; NULL if there is none",
        &[Any],
        Returns::By(|types, _| of_lists(types)),
        |call| extreme(call, |pool, elements| elements.max_by(|one, other| pool.compare(*one, *other))),
    ),
    Function::new(
        "array_min",
        "ARRAY_MIN(array)",
        "the least element; NULL if there is none",
        &[Any],
        Returns::By(|types, _| of_lists(types)),
        |call| extreme(call, |pool, elements| elements.min_by(|one, other| pool.compare(*one, *other))),
    ),
    Function::new(
        "array_sort",
        "ARRAY_SORT(array)",
        "its elements from least to greatest, NULLs first",
        &[Any],
        Returns::By(|types, _| of_lists(types).map(list_of)),
        |call| {
            let pool = Pool::of_lists(call, 1)?;
            pool.lists(call, |row| {
                let mut places: Vec<usize> = pool.range(0, row)?.collect();
                places.sort_by(|one, other| pool.compare(*one, *other));
                Some(places)
            })
        },
    ),
    Function::new(
        "array_join",
        "ARRAY_JOIN(array, separator [, replacement])",
        "its strings with a separator between; NULLs are left out, or replaced",
        &[Any, Text, Text],
        Returns::By(|types, _| match of_lists(&types[..1])? {
            item if is_text(&item) || item.is_null() => Ok(DataType::Utf8View),
            other => plan_err!("an ARRAY<STRING> is needed, not ARRAY<{}>", sql_name(&other)),
        }),
        join,
    )
    .optional(1),
    Function::new(
        "split",
        "SPLIT(text, separator)",
        "the parts between separators as an array; an empty separator parts all characters",
        &[Text, Text],
        Returns::By(|_, _| Ok(list_of(DataType::Utf8View))),
        split,
    ),
];

fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn item_of(data_type: &DataType) -> Result<&DataType> {
    match data_type {
        DataType::List(item) => Ok(item.data_type()),
        other => plan_err!("an ARRAY is needed, not {}", sql_name(other)),
    }
}

/// The type of elements that all of some types can be brought to.
fn common(types: &[&DataType]) -> Result<DataType> {
    let common =
        if types.iter().all(|data_type| data_type.is_null()) { Some(DataType::Null) } else { common_type(types) };
    let Some(common) = common else {
        let names: Vec<String> = types.iter().map(|data_type| sql_name(data_type)).collect();
        return plan_err!("{} cannot be elements of one array", names.join(" and "));
    };
    let fields = vec![SortField::new(common.clone())];
    if !RowConverter::supports_fields(&fields) {
        return plan_err!("elements of type {} cannot be compared", sql_name(&common));
    }
    Ok(common)
}

/// The type of the elements of an array and of one more.
fn with_element(types: &[DataType]) -> Result<DataType> {
    common(&[item_of(&types[0])?, &types[1]])
}

/// The type of the elements of arrays.
fn of_lists(types: &[DataType]) -> Result<DataType> {
    common(&types.iter().map(item_of).collect::<Result<Vec<_>>>()?)
}

/// The elements of all arguments, one after the other.
struct Pool {
    elements: ArrayRef,
    order: Rows,
    lists: Vec<ListArray>,
    /// Where the elements of each list begin, and then the single ones.
    starts: Vec<usize>,
}

impl Pool {
    /// An array and an element in each row.
    fn with_element(call: &Call<'_>) -> Result<Self> {
        let item = with_element(&[call.data_type(0), call.data_type(1)])?;
        Self::new(call, 1, &item, &[call.array(1)?])
    }

    /// The first `count` arguments are arrays.
    fn of_lists(call: &Call<'_>, count: usize) -> Result<Self> {
        let types: Vec<DataType> = (0..count).map(|index| call.data_type(index)).collect();
        Self::new(call, count, &of_lists(&types)?, &[])
    }

    fn new(call: &Call<'_>, count: usize, item: &DataType, single: &[ArrayRef]) -> Result<Self> {
        let lists = (0..count).map(|index| match call.array(index)?.as_list_opt::<i32>() {
            Some(list) => Ok(list.clone()),
            None => call.error(format!("{} is no ARRAY", sql_name(&call.data_type(index)))),
        });
        let lists = lists.collect::<Result<Vec<_>>>()?;
        let parts = lists.iter().map(ListArray::values).chain(single);
        let parts = parts.map(|part| Ok(cast(part, item)?)).collect::<Result<Vec<ArrayRef>>>()?;
        let start = |index: usize| parts[..index].iter().map(Array::len).sum();
        let starts = (0..parts.len()).map(start).collect();
        let elements = concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
        let converter = RowConverter::new(vec![SortField::new(item.clone())])?;
        let order = converter.convert_columns(&[Arc::clone(&elements)])?;
        Ok(Self { elements, order, lists, starts })
    }

    /// The elements of an argument in a row; `None` when it is null.
    fn range(&self, argument: usize, row: usize) -> Option<Range<usize>> {
        let list = &self.lists[argument];
        let place = |row: usize| self.starts[argument] + list.value_offsets()[row] as usize;
        list.is_valid(row).then(|| place(row)..place(row + 1))
    }

    /// The elements of all arguments in a row; `None` when one is null.
    fn ranges(&self, row: usize) -> Option<impl Iterator<Item = Range<usize>>> {
        let ranges: Option<Vec<_>> = (0..self.lists.len()).map(|argument| self.range(argument, row)).collect();
        ranges.map(Vec::into_iter)
    }

    /// The single element of a row.
    fn element(&self, row: usize) -> usize {
        self.starts[self.lists.len()] + row
    }

    fn is_null(&self, place: usize) -> bool {
        self.elements.is_null(place)
    }

    fn same(&self, one: usize, other: usize) -> bool {
        self.order.row(one) == self.order.row(other)
    }

    /// NULLs come first.
    fn compare(&self, one: usize, other: usize) -> std::cmp::Ordering {
        self.order.row(one).cmp(&self.order.row(other))
    }

    fn distinct(&self, places: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut seen = HashSet::new();
        places.filter(|place| seen.insert(self.order.row(*place))).collect()
    }

    /// An array in each row, out of the elements at the places that `pick` gives.
    fn lists(&self, call: &Call<'_>, pick: impl Fn(usize) -> Option<Vec<usize>>) -> Result<ArrayRef> {
        let DataType::List(item) = call.returns else { return call.error("the result is no ARRAY") };
        let (mut picks, mut lengths, mut valid) =
            (Vec::new(), Vec::with_capacity(call.rows), Vec::with_capacity(call.rows));
        for row in 0..call.rows {
            let places = pick(row);
            valid.push(places.is_some());
            let places = places.unwrap_or_default();
            lengths.push(places.len());
            picks.extend(places.into_iter().map(|place| place as u32));
        }
        let elements = take(&self.elements, &UInt32Array::from(picks), None)?;
        let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
        Ok(Arc::new(ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), elements, nulls)?))
    }
}

/// Elements of the first array that are, or are not, in the second.
fn select(call: &Call<'_>, wanted: bool) -> Result<ArrayRef> {
    let pool = Pool::of_lists(call, 2)?;
    pool.lists(call, |row| {
        let others: HashSet<_> = pool.range(1, row)?.map(|place| pool.order.row(place)).collect();
        let first = pool.range(0, row)?;
        Some(pool.distinct(first.filter(|place| others.contains(&pool.order.row(*place)) == wanted)))
    })
}

fn slice(call: &Call<'_>) -> Result<ArrayRef> {
    let pool = Pool::of_lists(call, 1)?;
    let from = call.longs(1)?;
    let to = if call.count() > 2 { Some(call.longs(2)?) } else { None };
    pool.lists(call, |row| {
        let range = pool.range(0, row)?;
        let length = range.len() as i64;
        // The first place is 1, as 0 is; those before it and behind the end are outside.
        let place = |place: i64| if place < 0 { length.saturating_add(place).saturating_add(1) } else { place };
        let from = match from.get(row)? {
            0 => 1,
            given => place(given),
        };
        let to = match &to {
            None => length,
            Some(to) => match to.get(row)? {
                0 => 1,
                given => place(given),
            },
        };
        let (from, to) = (from.max(1), to.min(length));
        let empty = from > to;
        Some(if empty { Vec::new() } else { (range.start + from as usize - 1..range.start + to as usize).collect() })
    })
}

fn extreme(
    call: &Call<'_>,
    choose: impl Fn(&Pool, &mut dyn Iterator<Item = usize>) -> Option<usize>,
) -> Result<ArrayRef> {
    let pool = Pool::of_lists(call, 1)?;
    let chosen = |row| {
        let mut elements = pool.range(0, row)?.filter(|place| !pool.is_null(*place));
        choose(&pool, &mut elements).map(|place| place as u32)
    };
    let picks: UInt32Array = (0..call.rows).map(chosen).collect();
    Ok(take(&pool.elements, &picks, None)?)
}

fn join(call: &Call<'_>) -> Result<ArrayRef> {
    let pool = Pool::of_lists(call, 1)?;
    let strings = cast(&pool.elements, &DataType::Utf8View)?;
    let strings = strings.as_string_view();
    let separators = call.texts(1)?;
    let replacements = if call.count() > 2 { Some(call.texts(2)?) } else { None };
    let mut column = TextColumn::new(call.rows);
    for row in 0..call.rows {
        let replacement = replacements.map(|texts| texts.get(row));
        let (Some(range), Some(separator)) = (pool.range(0, row), separators.get(row)) else {
            column.push_null();
            continue;
        };
        if replacement == Some(None) {
            column.push_null();
            continue;
        }
        let text =
            |place: usize| if strings.is_valid(place) { Some(strings.value(place)) } else { replacement.flatten() };
        column.write(|out| {
            for (number, part) in range.filter_map(text).enumerate() {
                if number > 0 {
                    out.push_str(separator);
                }
                out.push_str(part);
            }
        });
    }
    Ok(column.finish())
}

fn split(call: &Call<'_>) -> Result<ArrayRef> {
    let DataType::List(item) = call.returns else { return call.error("the result is no ARRAY") };
    let (texts, separators) = (call.texts(0)?, call.texts(1)?);
    let mut parts = TextColumn::new(call.rows);
    let (mut lengths, mut valid) = (Vec::with_capacity(call.rows), Vec::with_capacity(call.rows));
    for row in 0..call.rows {
        let before = parts.len();
        let found = texts.get(row).zip(separators.get(row));
        valid.push(found.is_some());
        match found {
            None => {}
            Some((text, "")) => text.split("").filter(|part| !part.is_empty()).for_each(|part| parts.push(Some(part))),
            Some((text, separator)) => text.split(separator).for_each(|part| parts.push(Some(part))),
        }
        lengths.push(parts.len() - before);
    }
    let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), parts.finish(), nulls)?))
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::check;

    #[test]
    fn elements_of_arrays_are_found_added_and_removed() {
        check(
            "ARRAY_CONTAINS(ARRAY[1, 2], 2) -> BOOLEAN true
             ARRAY_CONTAINS(ARRAY['a'], 'b') -> BOOLEAN false
             ARRAY_CONTAINS(ARRAY[1, 2], 2.0) -> BOOLEAN true
             ARRAY_CONTAINS(ARRAY[1], 'a') -> error INT and STRING cannot be elements of one array
             ARRAY_CONTAINS(1, 1) -> error an ARRAY is needed, not
             ARRAY_POSITION(ARRAY[3, 4, 4], 4) -> INT 2
             ARRAY_POSITION(ARRAY[3, 4], 5) -> INT 0
             ARRAY_APPEND(ARRAY[1], 2) -> ARRAY<INT> [1, 2]
             ARRAY_PREPEND(ARRAY['b'], 'a') -> ARRAY<STRING> [a, b]
             ARRAY_REMOVE(ARRAY[1, 2, 1], 1) -> ARRAY<INT> [2]
             ARRAY_DISTINCT(ARRAY[2, 1, 2]) -> ARRAY<INT> [2, 1]
             ARRAY_CONCAT(ARRAY[1], ARRAY[1, 2], ARRAY[3]) -> ARRAY<INT> [1, 1, 2, 3]
             ARRAY_UNION(ARRAY[3, 1], ARRAY[2, 1]) -> ARRAY<INT> [3, 1, 2]
             ARRAY_EXCEPT(ARRAY[3, 1, 3], ARRAY[1]) -> ARRAY<INT> [3]
             ARRAY_INTERSECT(ARRAY[3, 1, 3], ARRAY[3]) -> ARRAY<INT> [3]
             ARRAY_REVERSE(ARRAY[1, 2]) -> ARRAY<INT> [2, 1]
             ARRAY_MAX(ARRAY[1, 3, 2]) -> INT 3
             ARRAY_MIN(ARRAY['b', 'a']) -> STRING a
             ARRAY_SORT(ARRAY[3, -1, 2]) -> ARRAY<INT> [-1, 2, 3]",
        );
    }

    #[test]
    fn arrays_are_cut_joined_and_made_of_text() {
        check(
            "ARRAY_SLICE(ARRAY[1, 2, 3, 4], 2, 3) -> ARRAY<INT> [2, 3]
             ARRAY_SLICE(ARRAY[1, 2, 3], 0) -> ARRAY<INT> [1, 2, 3]
             ARRAY_SLICE(ARRAY[1, 2, 3], -2) -> ARRAY<INT> [2, 3]
             ARRAY_SLICE(ARRAY[1, 2, 3], -9, -2) -> ARRAY<INT> [1, 2]
             ARRAY_SLICE(ARRAY[1, 2, 3], 3, 2) -> ARRAY<INT> []
             ARRAY_SLICE(ARRAY[1, 2, 3], 5, 9) -> ARRAY<INT> []
             ARRAY_JOIN(ARRAY['a', 'b'], '-') -> STRING a-b
             ARRAY_JOIN(ARRAY[1], '-') -> error an ARRAY<STRING> is needed
             SPLIT('a,,b', ',') -> ARRAY<STRING> [a, , b]
             SPLIT('ab', '') -> ARRAY<STRING> [a, b]
             SPLIT('a', ';') -> ARRAY<STRING> [a]",
        );
    }
}
