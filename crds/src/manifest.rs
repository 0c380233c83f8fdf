//! YAML text as a tree in which every key and value knows its line and column.
//!
//! This is the only file that knows the YAML library. Its budgets bound time and memory for any input; a tree holds at
//! most [`MAX_NODES`] nodes and is at most [`MAX_DEPTH`] deep. Strings and numbers are told apart as kubectl does it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_yaml::{MessageFormatter, Spanned, UserMessageFormatter};

use crate::Position;
use crate::validate::{Mistake, excerpt};

/// Longest text that is looked at, in bytes; etcd takes no larger object.
pub(crate) const MAX_TEXT: usize = 1_572_864;
const MAX_NODES: usize = 50_000;
const MAX_DEPTH: usize = 32;

/// A value and where it was written. Values that were not read from text have no position.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) content: Content,
    pub(crate) at: Option<Position>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A field of a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Option<Position>,
    pub(crate) value: Node,
}

impl Node {
    /// The one document of `text`; empty documents do not count.
    pub(crate) fn read(text: &str) -> Result<Self, Mistake> {
        if text.len() > MAX_TEXT {
            let message = format!("the manifest has {} bytes, more than the {MAX_TEXT} that fit", text.len());
            return Err(Mistake::of_file(message, None).hint("put the SQL into a ConfigMap and name it in sqlFrom"));
        }
        let documents: Vec<Self> =
            serde_yaml::from_multiple_with_options(text, options()).map_err(|error| syntax_mistake(&error, text))?;
        let mut documents = documents.into_iter();
        let Some(first) = documents.next() else {
            return Err(Mistake::of_file("the manifest is empty".into(), None)
                .hint("write a StreamJob: apiVersion, kind, metadata.name and spec.pipeline.sql"));
        };
        match documents.next() {
            None => Ok(first),
            Some(second) => Err(Mistake::of_file("a second YAML document begins here".into(), second.at)
                .hint("put each StreamJob into a file of its own")),
        }
    }

    /// The value of a field; none if it is absent, null, or this is no map.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.entry(name).map(|entry| &entry.value).filter(|value| value.content != Content::Null)
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        let Content::Map(entries) = &self.content else {
            return None;
        };
        entries.iter().find(|entry| entry.key == name)
    }

    /// The value at a path of field names with dots between.
    pub(crate) fn at_path(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, name| node.field(name))
    }

    /// Where the field at this path is written, or else the innermost field around it that is.
    pub(crate) fn position_of(&self, path: &str) -> Option<Position> {
        let mut node = self;
        let mut at = self.at;
        for name in path.split('.') {
            let Some(entry) = node.entry(name) else { break };
            at = entry.at.or(entry.value.at);
            node = &entry.value;
        }
        at
    }

    /// The same value without positions.
    pub(crate) fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => items.iter().map(Self::to_json).collect(),
            Content::Map(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect(),
        }
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(value) => Content::Bool(value),
            Value::Number(number) => Content::Number(number),
            Value::String(text) => Content::Text(text),
            Value::Array(items) => Content::List(items.into_iter().map(Self::from).collect()),
            Value::Object(map) => Content::Map(
                map.into_iter().map(|(key, value)| Entry { key, at: None, value: Self::from(value) }).collect(),
            ),
        };
        Self { content, at: None }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { content: spanned.value, at: position(spanned.referenced) })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Content, E> {
        Number::from_f64(value).map(Content::Number).ok_or_else(|| E::custom("the number is not finite"))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Content, E> {
        Err(E::custom(format_args!("the number {value} is too large")))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Content, E> {
        Err(E::custom(format_args!("the number {value} is too large")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Content, E> {
        Ok(Content::Text(value))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<Content, E> {
        Err(E::custom("binary values have no place in a manifest"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            if entries.len() > MAX_NODES {
                return Err(A::Error::custom("the map has too many fields"));
            }
            let at = position(key.referenced);
            entries.push(Entry { key: key.value, at, value: map.next_value()? });
        }
        Ok(Content::Map(entries))
    }
}

fn position(location: serde_yaml::Location) -> Option<Position> {
    let line = u32::try_from(location.line()).ok().filter(|line| *line > 0)?;
    Some(Position { line, column: u32::try_from(location.column()).unwrap_or(u32::MAX) })
}

/// Budgets far above any manifest, and low enough that no input costs more than a moment.
fn options() -> serde_yaml::Options {
    serde_yaml::options! {
        with_snippet: false,
        budget: serde_yaml::budget! {
            max_events: 4 * MAX_NODES,
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: 64,
            max_anchors: 256,
            max_aliases: 1_024,
            max_recorded_anchor_events: MAX_NODES,
            max_recorded_anchor_bytes: MAX_TEXT,
            max_total_scalar_bytes: 2 * MAX_TEXT,
            max_merge_keys: 1_024,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: 16,
        },
    }
}

fn syntax_mistake(error: &serde_yaml::Error, text: &str) -> Mistake {
    let error = error.without_snippet();
    let at = error.location().and_then(position).unwrap_or(Position { line: 1, column: 1 });
    if let serde_yaml::Error::DuplicateMappingKey { key: Some(key), .. } = error {
        let message = format!("the field {} is written twice in one map", excerpt(key));
        return Mistake::of_file(message, Some(at)).hint("keep one of them");
    }
    let message: String = UserMessageFormatter.format_message(error).chars().filter(|c| !c.is_control()).collect();
    let line = text.lines().nth(at.line as usize - 1).unwrap_or_default();
    let hint = if line.trim_start_matches(' ').starts_with('\t') || message.contains("found a tab") {
        "indent with spaces, YAML takes no tabs"
    } else if message.contains("flow") || message.contains("bracket") {
        "close every { and [, and quote text in which they stand for themselves"
    } else {
        "indent the fields of a map alike, and quote text in which ': ' or ' #' stands"
    };
    Mistake::of_file(format!("the YAML cannot be read: {message}"), Some(at)).hint(hint)
}

/// Where the first line of a text begins in `source`, if all its lines are written there as they are: in a literal
/// block (`|`), or plain or quoted on one line without escapes.
pub(crate) fn text_position(source: &str, value: &Node) -> Option<Position> {
    let (Content::Text(text), Some(at)) = (&value.content, value.at) else {
        return None;
    };
    // The parser points at the first character of a block that is no line break.
    let blank = u32::try_from(text.chars().take_while(|c| *c == '\n').count()).ok()?;
    let first = Position { line: at.line.checked_sub(blank)?, column: at.column };
    let from_column = |line: &'_ str| line.char_indices().nth(at.column as usize - 1).map_or(line.len(), |(at, _)| at);
    let mut written = source.lines().skip(first.line.checked_sub(1)? as usize);
    let mut lines = text.lines();
    if let (Some(only), None) = (lines.next(), lines.next()) {
        let line = written.next()?;
        let line = &line[from_column(line)..];
        let unquoted = line.strip_prefix(['"', '\'']);
        let column = at.column + u32::from(unquoted.is_some());
        return unquoted.unwrap_or(line).starts_with(only).then_some(Position { column, ..first });
    }
    let as_written =
        text.lines().all(|expected| written.next().is_some_and(|line| &line[from_column(line)..] == expected));
    as_written.then_some(first)
}
