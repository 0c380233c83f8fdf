//! A plan in the words of SQL: what people read of it, in pages, messages and metrics.

mod expression;
mod names;

pub(crate) use expression::{sql, text};
pub(crate) use names::{Names, is_name};

use super::{Node, NodeIndex, NodeKind};
use crate::operator::window::Window;
use std::time::Duration;

/// What a stateful step, or one that assigns windows, is called; `None` for others, which have names of their own.
pub(crate) fn title(names: &Names, index: NodeIndex, node: &Node) -> Option<String> {
    let by = |keys: usize| match &names.output(index)[..keys] {
        [] => "aggregate".to_owned(),
        keys => format!("group by {}", keys.join(", ")),
    };
    Some(match &node.kind {
        NodeKind::GroupAggregate(aggregate) => by(aggregate.keys.len()),
        NodeKind::WindowAggregate(aggregate) => {
            format!("{} in {}", by(aggregate.keys.len()), windows(aggregate.window))
        }
        NodeKind::WindowAssign(assign) => format!("assign {}", windows(assign.window)),
        _ => return None,
    })
}

/// Windows in words.
fn windows(window: Window) -> String {
    let shifted = |offset_ms: i64| match offset_ms {
        0 => String::new(),
        offset_ms => format!(", offset {}", time(offset_ms)),
    };
    match window {
        Window::Tumble { size_ms, offset_ms } => format!("TUMBLE windows of {}{}", time(size_ms), shifted(offset_ms)),
        Window::Hop { slide_ms, size_ms, offset_ms } => {
            format!("HOP windows of {} every {}{}", time(size_ms), time(slide_ms), shifted(offset_ms))
        }
        Window::Cumulate { step_ms, size_ms, offset_ms } => {
            format!("CUMULATE windows up to {} by {}{}", time(size_ms), time(step_ms), shifted(offset_ms))
        }
        Window::Session { gap_ms } => format!("SESSION windows with a gap of {}", time(gap_ms)),
    }
}

fn time(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let unit = units.into_iter().find(|(unit, _)| ms != 0 && ms % unit == 0);
    unit.map_or_else(|| format!("{ms} ms"), |(unit, name)| format!("{} {name}", ms / unit))
}

/// A length of time in the largest unit that divides it.
pub(crate) fn duration(length: Duration) -> String {
    time(i64::try_from(length.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_read_as_sql() {
        let table = [
            (Window::Tumble { size_ms: 10_000, offset_ms: 2_000 }, "TUMBLE windows of 10 s, offset 2 s"),
            (Window::Hop { slide_ms: 1_500, size_ms: 3_600_000, offset_ms: 0 }, "HOP windows of 1 h every 1500 ms"),
            (
                Window::Cumulate { step_ms: 60_000, size_ms: 86_400_000, offset_ms: 0 },
                "CUMULATE windows up to 1 d by 1 min",
            ),
            (Window::Session { gap_ms: 10_000 }, "SESSION windows with a gap of 10 s"),
        ];
        for (window, expected) in table {
            assert_eq!(windows(window), expected);
        }
    }
}
