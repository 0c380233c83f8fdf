//! Replays what was in flight, before a restored task reads its inputs.
//!
//! The stretches of one file were in flight to one task. They come in stages: one stage for the inputs of the task, after
//! one for each replay that it had not ended itself. Within a stage event time is what the task had made of it, the
//! minimum over the stretches, each beginning where its input was; a stretch that has come to its end goes on holding
//! event time at its last watermark, as its input did. A later stage goes on from where the one before it has come.
//!
//! Rows that have changed their task, because the parallelism is another one, come with the files of all the tasks that
//! had them, and with all stretches of these, whether those have rows for the new task or not. Event time is the minimum
//! over the files. So no row meets a later watermark than it would have met.

use super::{Piece, Stretch};
use std::collections::VecDeque;
use weir_protocol::EventTime;
use weir_protocol::frontier::Frontier;

/// What a task has not replayed yet, and how far event time is.
pub struct Replay {
    lines: Vec<Line>,
    watermark: EventTime,
}

/// What was in flight to one task.
struct Line {
    /// Over the stretches of the first stage.
    frontier: Frontier,
    stages: VecDeque<Vec<Rest>>,
}

/// What is left of a stretch.
struct Rest {
    stretch: Stretch,
    /// The input of the chain's first step that its rows are for.
    input: usize,
    pieces: VecDeque<Piece>,
}

/// The next thing to do.
pub struct Next {
    /// First, event time advances to this.
    pub watermark: Option<EventTime>,
    /// The input of the chain's first step.
    pub input: usize,
    /// What it is.
    pub piece: Piece,
}

impl Replay {
    /// The replay of these files: of each its stretches, with the input of the chain's first step that each feeds. `None`
    /// when there is nothing to do.
    #[must_use]
    pub fn new(files: Vec<Vec<(Stretch, usize)>>) -> Option<Self> {
        let lines: Vec<Line> = files.into_iter().filter(|file| !file.is_empty()).map(Line::new).collect();
        let watermark = lines.iter().map(|line| line.frontier.watermark()).min()?;
        Some(Self { lines, watermark })
    }

    /// How far event time is.
    #[must_use]
    pub fn watermark(&self) -> EventTime {
        self.watermark
    }

    /// The next piece; `None` at the end. What holds event time back comes first, so that it goes on evenly.
    pub fn next_piece(&mut self) -> Option<Next> {
        let line =
            self.lines.iter_mut().filter(|line| !line.is_empty()).min_by_key(|line| line.frontier.watermark())?;
        let (input, piece) = line.next()?;
        let reached = self.lines.iter().map(|line| line.frontier.watermark()).min()?;
        let watermark = (reached > self.watermark).then_some(reached);
        self.watermark = self.watermark.max(reached);
        Some(Next { watermark, input, piece })
    }

    /// What is left, as the stretches of another snapshot, in stages from 0. A line that has fewer stages than others goes
    /// on with stretches without rows, for their watermarks.
    #[must_use]
    pub fn rest(&self) -> Vec<Stretch> {
        let stages = self.stages();
        self.lines.iter().flat_map(|line| line.rest(stages)).collect()
    }

    /// The number of stages that are left.
    #[must_use]
    pub fn stages(&self) -> u32 {
        self.lines.iter().map(|line| line.stages.len() as u32).max().unwrap_or(0)
    }
}

impl Line {
    fn new(mut stretches: Vec<(Stretch, usize)>) -> Self {
        stretches.sort_by_key(|(stretch, _)| stretch.stage);
        let by_stage = stretches.chunk_by(|(one, _), (other, _)| one.stage == other.stage);
        let rest = |(stretch, input): &(Stretch, usize)| {
            let pieces = stretch.pieces.iter().cloned().collect();
            Rest { stretch: Stretch { pieces: Vec::new(), ..stretch.clone() }, input: *input, pieces }
        };
        let stages: VecDeque<Vec<Rest>> = by_stage.map(|stage| stage.iter().map(rest).collect()).collect();
        let first = stages.front().map_or(&[][..], Vec::as_slice);
        Self { frontier: frontier(first, EventTime::MIN), stages }
    }

    fn is_empty(&self) -> bool {
        self.stages.iter().flatten().all(|rest| rest.pieces.is_empty())
    }

    fn next(&mut self) -> Option<(usize, Piece)> {
        while self.stages.len() > 1 && self.stages[0].iter().all(|rest| rest.pieces.is_empty()) {
            self.stages.pop_front();
            self.frontier = frontier(&self.stages[0], self.frontier.watermark());
        }
        let stage = self.stages.front_mut()?;
        let left = stage.iter().enumerate().filter(|(_, rest)| !rest.pieces.is_empty());
        let of_input = |place: &usize| self.frontier.of_input(*place).map(|(watermark, _)| watermark);
        let place = left.map(|(place, _)| place).min_by_key(of_input)?;
        let piece = stage[place].pieces.pop_front()?;
        // Idleness is not for others to know: the task has its inputs still to read.
        let _ = match &piece {
            Piece::Rows(_) | Piece::Arrived { .. } => self.frontier.active(place),
            Piece::Watermark(watermark) => self.frontier.update(place, *watermark),
            Piece::Idle => self.frontier.idle(place),
        };
        Some((stage[place].input, piece))
    }

    fn rest(&self, stages: u32) -> Vec<Stretch> {
        let mut left: Vec<Stretch> = Vec::new();
        for (stage, rests) in (0..).zip(&self.stages) {
            for (place, rest) in rests.iter().enumerate() {
                let mut stretch = Stretch { stage, ..rest.stretch.clone() };
                stretch.pieces = rest.pieces.iter().cloned().collect();
                if stage == 0 {
                    (stretch.watermark, stretch.is_idle) = of_input(&self.frontier, place);
                }
                left.push(stretch);
            }
        }
        let last = self.stages.len() as u32;
        let ends: Vec<Stretch> = left.iter().filter(|stretch| stretch.stage + 1 == last).map(Stretch::end).collect();
        for stage in last..stages {
            left.extend(ends.iter().map(|end| Stretch { stage, ..end.clone() }));
        }
        left
    }
}

/// Event time at the begin of a stage, after `reached`.
fn frontier(stage: &[Rest], reached: EventTime) -> Frontier {
    let mut frontier = Frontier::new(stage.len(), reached);
    for (place, rest) in stage.iter().enumerate() {
        if rest.stretch.watermark > EventTime::MIN {
            frontier.update(place, rest.stretch.watermark);
        }
        if rest.stretch.is_idle {
            frontier.idle(place);
        }
    }
    frontier
}

/// How far an input is: its watermark, which is the end of time once it has ended, and whether it is idle.
#[must_use]
pub fn of_input(frontier: &Frontier, input: usize) -> (EventTime, bool) {
    frontier.of_input(input).unwrap_or((EventTime::MAX, false))
}
