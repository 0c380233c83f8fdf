//! What a user sees while a job runs: one line that is redrawn on a terminal, a line every ten seconds elsewhere.

use super::exit;
use crate::job::board::{Board, Totals};
use std::io::{IsTerminal, Write};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weir_protocol::EventTime;

/// Shows progress until it is dropped.
pub(super) struct Progress {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to show the job's progress on standard error; `quiet` shows nothing.
    #[must_use]
    pub(super) fn start(name: &str, board: Arc<Board>, quiet: bool) -> Self {
        if quiet {
            return Self { stop: None, thread: None };
        }
        let (stop, stopped) = mpsc::channel();
        let terminal = std::io::stderr().is_terminal();
        let mut view = View { name: name.to_owned(), board, terminal, last: Instant::now(), rows: (0, 0) };
        let every = if terminal { Duration::from_millis(500) } else { Duration::from_secs(10) };
        let thread = std::thread::spawn(move || {
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                view.notices();
                view.line();
            }
            view.notices();
            view.finish();
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct View {
    name: String,
    board: Arc<Board>,
    terminal: bool,
    last: Instant,
    rows: (u64, u64),
}

impl View {
    fn notices(&self) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        for notice in self.board.take_notices() {
            exit::line(&format!("{clear}{notice}"));
        }
    }

    fn line(&mut self) {
        let text = self.text();
        if self.terminal {
            // What is wider would leave a line behind at each look.
            let columns = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(0, |size| size.ws_col);
            eprint!("\r\x1b[K{}", cut(&text, columns.into()));
            // A terminal that is gone is no reason to stop.
            let _ = std::io::stderr().flush();
        } else {
            exit::line(&text);
        }
    }

    fn finish(&mut self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
        // A run that was refused has nothing to sum up.
        if self.board.generation().is_some() {
            let totals = self.board.totals();
            let (name, left_out) = (&self.name, left_out(&totals));
            exit::line(&format!("{name}: {} rows in, {} rows out{left_out}", totals.rows_in, totals.rows_out));
        }
    }

    fn text(&mut self) -> String {
        let totals = self.board.totals();
        let seconds = self.last.elapsed().as_secs_f64().max(0.001);
        self.last = Instant::now();
        let rate = |now: u64, before: u64| short((now.saturating_sub(before) as f64 / seconds) as u64);
        let (read, written) = (rate(totals.rows_in, self.rows.0), rate(totals.rows_out, self.rows.1));
        self.rows = (totals.rows_in, totals.rows_out);
        format!(
            "{}: {read} rows/s in, {written} rows/s out{}{}{}",
            self.name,
            self.watermark(),
            self.checkpoint(),
            left_out(&totals)
        )
    }

    fn watermark(&self) -> String {
        let tasks = self.board.tasks();
        let watermark = tasks.iter().filter(|task| task.ends.source).map(|task| task.watermark()).min();
        match watermark {
            Some(watermark) if watermark != EventTime::MIN && watermark != EventTime::MAX => {
                let time = chrono::DateTime::from_timestamp_millis(watermark.0);
                let shown = time.map_or_else(String::new, |time| time.format("%Y-%m-%d %H:%M:%S").to_string());
                let lag_ms = crate::dataflow::task::time_of_day_ms().saturating_sub(watermark.0);
                format!(", watermark {shown} ({})", lag(lag_ms))
            }
            _ => String::new(),
        }
    }

    fn checkpoint(&self) -> String {
        let Some((status, now)) = self.board.status() else { return String::new() };
        let checkpoint = status.last.map_or(String::new(), |last| {
            let age = span(now.ms_since(last.completed) / 1000 * 1000);
            format!(", checkpoint {} {age} ago, {}", last.checkpoint, size(last.sizes.total_bytes))
        });
        let restarts = if status.restarts > 0 { format!(", {} restarts", status.restarts) } else { String::new() };
        checkpoint + &restarts
    }
}

/// As much of a text as a line of a terminal holds, one place left free for its cursor; 0 columns are unknown.
fn cut(text: &str, columns: usize) -> String {
    if columns == 0 || text.chars().count() < columns {
        return text.to_owned();
    }
    text.chars().take(columns.saturating_sub(2)).chain(['…']).collect()
}

/// What did not count, as far as there is any.
fn left_out(totals: &Totals) -> String {
    let late = if totals.late_rows > 0 { format!(", {} late", totals.late_rows) } else { String::new() };
    let bad = match totals.bad_records {
        0 => String::new(),
        1 => ", 1 bad record left out".to_owned(),
        bad => format!(", {bad} bad records left out"),
    };
    late + &bad
}

/// How far event time is behind the clock, or ahead of it: generated and replayed rows may lie anywhere.
#[must_use]
fn lag(ms: i64) -> String {
    if ms < 0 { format!("{} ahead", span(ms.unsigned_abs())) } else { format!("{} behind", span(ms.unsigned_abs())) }
}

/// A time in its two largest units.
#[must_use]
fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 if ms % 1000 < 100 => format!("{seconds} s"),
        0..60 => format!("{seconds}.{} s", ms % 1000 / 100),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        86_400..31_536_000 => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
        _ => format!("{} y {} d", seconds / 31_536_000, seconds % 31_536_000 / 86_400),
    }
}

/// A number of at most four digits with its unit.
#[must_use]
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..10_000_000 => format!("{}k", number / 1000),
        _ => format!("{}M", number / 1_000_000),
    }
}

/// An amount of memory with its unit.
#[must_use]
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_said_in_units_that_people_read() {
        let table = [
            (0, "0 s behind"),
            (3_249, "3.2 s behind"),
            (59_000, "59 s behind"),
            (250_000, "4 min 10 s behind"),
            (18_180_000, "5 h 3 min behind"),
            (86_400_000, "1 d 0 h behind"),
            (1_051_200_000, "12 d 4 h behind"),
            (342_316_800_000, "10 y 312 d behind"),
            (-90_000, "1 min 30 s ahead"),
        ];
        for (ms, expected) in table {
            assert_eq!(lag(ms), expected, "{ms}");
        }
    }

    #[test]
    fn a_line_stays_within_its_terminal() {
        let table = [(0, "zwölf ×"), (80, "zwölf ×"), (8, "zwölf ×"), (7, "zwölf…"), (4, "zw…"), (2, "…"), (1, "…")];
        for (columns, expected) in table {
            assert_eq!(cut("zwölf ×", columns), expected, "{columns} columns");
        }
    }

    #[test]
    fn late_rows_and_bad_records_are_told_once_there_are_some() {
        let totals = |late_rows, bad_records| Totals { late_rows, bad_records, ..Totals::default() };
        assert_eq!(left_out(&totals(0, 0)), "");
        assert_eq!(left_out(&totals(3, 1)), ", 3 late, 1 bad record left out");
        assert_eq!(left_out(&totals(0, 12)), ", 12 bad records left out");
    }
}
