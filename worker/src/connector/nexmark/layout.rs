//! Which columns and fields of events a table declares: any of them, in any order, under their names and types.

use super::super::TableShape;
use super::super::options::Options;
use crate::diagnostic::{Diagnostic, nearest};
use arrow::array::{ArrayRef, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use std::sync::Arc;

const BIGINT: (&str, DataType) = ("BIGINT", DataType::Int64);
const STRING: (&str, DataType) = ("VARCHAR", DataType::Utf8View);
const TIME: (&str, DataType) = ("TIMESTAMP(3)", DataType::Timestamp(TimeUnit::Millisecond, None));

type KnownField = (&'static str, (&'static str, DataType));

/// The columns of event types, in the order of their codes, with their fields in the order in which events make them.
const EVENT_COLUMNS: [(&str, &[KnownField]); 3] = [
    (
        "person",
        &[
            ("id", BIGINT),
            ("name", STRING),
            ("emailAddress", STRING),
            ("creditCard", STRING),
            ("city", STRING),
            ("state", STRING),
            ("dateTime", TIME),
            ("extra", STRING),
        ],
    ),
    (
        "auction",
        &[
            ("id", BIGINT),
            ("itemName", STRING),
            ("description", STRING),
            ("initialBid", BIGINT),
            ("reserve", BIGINT),
            ("dateTime", TIME),
            ("expires", TIME),
            ("seller", BIGINT),
            ("category", BIGINT),
            ("extra", STRING),
        ],
    ),
    (
        "bid",
        &[
            ("auction", BIGINT),
            ("bidder", BIGINT),
            ("price", BIGINT),
            ("channel", STRING),
            ("url", STRING),
            ("dateTime", TIME),
            ("extra", STRING),
        ],
    ),
];

const TYPE_COLUMN: &str = "event_type";

/// The declared columns, each with where its values come from.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) schema: SchemaRef,
    pub(super) columns: Vec<Column>,
}

/// Where a column's values come from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// The code of the event's type.
    EventType,
    /// The event itself, null for events of other types.
    Event {
        /// The code of the type it is for.
        event_type: usize,
        /// The declared fields, by place among those of the event.
        places: Vec<usize>,
        fields: Fields,
    },
}

impl Layout {
    /// Checks the columns of a table; mistakes are noted with its options, and the answer then is `None`.
    pub(super) fn of(options: &Options, shape: &TableShape) -> Option<Self> {
        let columns: Vec<Option<Column>> =
            shape.schema.fields().iter().map(|field| Column::of(options, shape, field)).collect();
        for (name, _) in &shape.metadata {
            options.mistake(Diagnostic::new(format!(
                "table '{}': nexmark has no metadata for column '{name}'",
                shape.name
            )));
        }
        Some(Self { schema: Arc::clone(&shape.schema), columns: columns.into_iter().collect::<Option<_>>()? })
    }
}

impl Column {
    fn of(options: &Options, shape: &TableShape, field: &Field) -> Option<Self> {
        let mistake = |message: String, hint: Option<String>| {
            let diagnostic = Diagnostic::new(format!("table '{}': {message}", shape.name));
            options.mistake(Diagnostic { hint, ..diagnostic });
        };
        let name = field.name().as_str();
        if name == TYPE_COLUMN {
            let sound = *field.data_type() == DataType::Int32;
            if !sound {
                mistake(format!("column '{TYPE_COLUMN}' of nexmark is an INT"), None);
            }
            return sound.then_some(Self::EventType);
        }
        let Some(event_type) = EVENT_COLUMNS.iter().position(|(known, _)| *known == name) else {
            let names = EVENT_COLUMNS.iter().map(|(known, _)| *known).chain([TYPE_COLUMN]);
            let hint = nearest(name, names).map(|known| format!("did you mean '{known}'?"));
            let hint = hint.unwrap_or_else(|| "nexmark has event_type, person, auction and bid".to_owned());
            mistake(format!("nexmark has no column '{name}'"), Some(hint));
            return None;
        };
        let DataType::Struct(fields) = field.data_type() else {
            mistake(format!("column '{name}' of nexmark is a ROW<{}>", declared(event_type)), None);
            return None;
        };
        if !field.is_nullable() {
            let hint = "leave NOT NULL out".to_owned();
            mistake(format!("column '{name}' of nexmark is NULL for events of the other types"), Some(hint));
        }
        let places = fields.iter().map(|field| {
            let found = field_place(event_type, field);
            found.map_err(|(message, hint)| mistake(format!("column '{name}' of nexmark {message}"), hint)).ok()
        });
        let places: Vec<Option<usize>> = places.collect();
        let places = places.into_iter().collect::<Option<_>>()?;
        Some(Self::Event { event_type, places, fields: fields.clone() })
    }
}

/// The place of a declared field among those of an event, or what is wrong with it and a hint.
fn field_place(event_type: usize, field: &Field) -> Result<usize, (String, Option<String>)> {
    let known = EVENT_COLUMNS[event_type].1;
    let name = field.name();
    let Some(place) = known.iter().position(|(known, _)| known == name) else {
        let hint = nearest(name, known.iter().map(|(known, _)| *known)).map(|known| format!("did you mean '{known}'?"));
        let hint = hint.unwrap_or_else(|| format!("its fields are {}", declared(event_type)));
        return Err((format!("has no field '{name}'"), Some(hint)));
    };
    let (sql, data_type) = &known[place].1;
    if field.data_type() == data_type { Ok(place) } else { Err((format!("has its field '{name}' as {sql}"), None)) }
}

fn declared(event_type: usize) -> String {
    let fields: Vec<String> =
        EVENT_COLUMNS[event_type].1.iter().map(|(name, (sql, _))| format!("{name} {sql}")).collect();
    fields.join(", ")
}

/// The column of the declared `fields` of an event, out of all its fields.
pub(super) fn assemble(
    fields: &Fields,
    places: &[usize],
    made: &[ArrayRef],
    nulls: &NullBuffer,
) -> Result<ArrayRef, ArrowError> {
    let children: Vec<ArrayRef> = places.iter().map(|place| Arc::clone(&made[*place])).collect();
    let rows = StructArray::try_new_with_length(fields.clone(), children, Some(nulls.clone()), nulls.len())?;
    Ok(Arc::new(rows))
}
