//! The watermark of a task that reads several inputs.
//!
//! The watermark is the minimum over the active inputs. An idle input does not hold it; an input that has ended never
//! will. Whatever happens, the watermark that was told never goes back: an input that returns with an older one holds
//! the output where it is until it has caught up, so that none of its rows is late for want of patience.
//!
//! When no input is active any more but one is merely idle, nothing is left to wait for: the output moves on to the
//! highest watermark of any input and the task is idle itself. That is what Flink's `StatusWatermarkValve` does, and it
//! makes the outcome independent of the order in which inputs fall idle. The end of all inputs alone yields
//! [`EventTime::MAX`]: one that has ended says nothing about the rows of one that is idle.

use crate::ids::EventTime;

/// The watermarks of all inputs, and the one that was told last.
///
/// Inputs are numbered from 0; every method panics on a number that the frontier does not have. What an ended input
/// still says is ignored.
#[derive(Debug, Clone)]
pub struct Frontier {
    inputs: Vec<Input>,
    output: EventTime,
    activity: Activity,
}

/// What the task must tell its operators and its receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Nothing,
    /// A new watermark, above all earlier ones. It ends idleness too.
    Advanced(EventTime),
    /// The task was idle and no longer is; its watermark is the old one. Receivers learn it by that watermark, sent
    /// once more: they must wait for this task again, even if it has no row for them yet.
    Resumed(EventTime),
    /// The task is idle: first the new watermark, if there is one, then idleness.
    Idle {
        /// A new watermark, above all earlier ones.
        advanced: Option<EventTime>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activity {
    Active,
    Idle,
    Ended,
}

#[derive(Debug, Clone, Copy)]
struct Input {
    /// The last one before the end: an end is an activity, not a watermark.
    watermark: EventTime,
    activity: Activity,
}

impl Frontier {
    /// `inputs` active inputs without a watermark. No watermark up to `reached` is ever told: [`EventTime::MIN`], or
    /// the one that a restored task had told before.
    #[must_use]
    pub fn new(inputs: usize, reached: EventTime) -> Self {
        let input = Input { watermark: EventTime::MIN, activity: Activity::Active };
        Self { inputs: vec![input; inputs], output: reached, activity: Activity::Active }
    }

    /// The watermark that was told last.
    #[must_use]
    pub fn watermark(&self) -> EventTime {
        self.output
    }

    /// True when no input is active and not all have ended.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.activity == Activity::Idle
    }

    /// How far the input is: its watermark, or the one that was told if that is ahead, and whether it is idle. `None`
    /// once it has ended.
    #[must_use]
    pub fn of_input(&self, input: usize) -> Option<(EventTime, bool)> {
        let Input { watermark, activity } = self.inputs[input];
        (activity != Activity::Ended).then_some((watermark.max(self.output), activity == Activity::Idle))
    }

    /// A watermark arrived. It makes the input active; [`EventTime::MAX`] is its end; one that goes back is taken for
    /// the one before.
    pub fn update(&mut self, input: usize, watermark: EventTime) -> Change {
        if watermark == EventTime::MAX {
            return self.end(input);
        }
        let Input { watermark: before, activity } = self.inputs[input];
        if activity == Activity::Ended {
            return Change::Nothing;
        }
        self.inputs[input] = Input { watermark: before.max(watermark), activity: Activity::Active };
        // An active input ahead of the output is not the one that holds it.
        if activity == Activity::Active && before > self.output {
            return Change::Nothing;
        }
        self.settle()
    }

    /// The input has nothing to say for a while.
    pub fn idle(&mut self, input: usize) -> Change {
        self.turn(input, Activity::Idle)
    }

    /// The input delivered something other than a watermark, such as rows. Costs nothing for an active input.
    pub fn active(&mut self, input: usize) -> Change {
        self.turn(input, Activity::Active)
    }

    /// The input has ended. After the last one the watermark is [`EventTime::MAX`].
    pub fn end(&mut self, input: usize) -> Change {
        self.turn(input, Activity::Ended)
    }

    fn turn(&mut self, input: usize, activity: Activity) -> Change {
        let before = self.inputs[input].activity;
        if before == activity || before == Activity::Ended {
            return Change::Nothing;
        }
        self.inputs[input].activity = activity;
        self.settle()
    }

    fn settle(&mut self) -> Change {
        let (watermark, activity) = self.weigh();
        let before = std::mem::replace(&mut self.activity, activity);
        let advanced = (watermark > self.output).then_some(watermark);
        self.output = self.output.max(watermark);
        match (advanced, activity) {
            (advanced, Activity::Idle) if before != Activity::Idle => Change::Idle { advanced },
            (Some(watermark), _) => Change::Advanced(watermark),
            (None, Activity::Active) if before == Activity::Idle => Change::Resumed(self.output),
            (None, _) => Change::Nothing,
        }
    }

    /// What the inputs say by themselves, whatever was told before.
    fn weigh(&self) -> (EventTime, Activity) {
        let (mut lowest, mut highest, mut idle) = (None, EventTime::MIN, false);
        for input in &self.inputs {
            highest = highest.max(input.watermark);
            match input.activity {
                Activity::Active => {
                    let low = lowest.unwrap_or(input.watermark);
                    lowest = Some(low.min(input.watermark));
                }
                Activity::Idle => idle = true,
                Activity::Ended => {}
            }
        }
        match lowest {
            Some(lowest) => (lowest, Activity::Active),
            None if idle => (highest, Activity::Idle),
            None => (EventTime::MAX, Activity::Ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Change::{Advanced, Nothing, Resumed};
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Update(usize, i64),
        Idle(usize),
        Active(usize),
        End(usize),
    }
    use Event::{Active, End, Idle, Update};

    const MAX: i64 = i64::MAX;

    fn apply(frontier: &mut Frontier, event: Event) -> Change {
        match event {
            Update(input, watermark) => frontier.update(input, EventTime(watermark)),
            Idle(input) => frontier.idle(input),
            Active(input) => frontier.active(input),
            End(input) => frontier.end(input),
        }
    }

    fn check(name: &str, reached: i64, steps: &[(Event, Change)]) {
        let mut frontier = Frontier::new(2, EventTime(reached));
        for (number, (event, expected)) in steps.iter().enumerate() {
            assert_eq!(apply(&mut frontier, *event), *expected, "{name}: step {number}, {event:?}");
        }
    }

    fn advanced(watermark: i64) -> Change {
        Advanced(EventTime(watermark))
    }

    fn resumed(watermark: i64) -> Change {
        Resumed(EventTime(watermark))
    }

    fn idle(advanced: Option<i64>) -> Change {
        Change::Idle { advanced: advanced.map(EventTime) }
    }

    #[test]
    fn the_output_follows_the_slowest_active_input() {
        let none = i64::MIN;
        check("minimum", none, &[(Update(0, 5), Nothing), (Update(1, 3), advanced(3)), (Update(1, 9), advanced(5))]);
        check(
            "an input goes back",
            none,
            &[(Update(0, 5), Nothing), (Update(1, 7), advanced(5)), (Update(0, 1), Nothing)],
        );
        check(
            "idle does not hold",
            none,
            &[(Update(0, 5), Nothing), (Idle(1), advanced(5)), (Update(0, 6), advanced(6))],
        );
        check("idle twice", none, &[(Idle(1), Nothing), (Idle(1), Nothing), (Update(0, 6), advanced(6))]);
        check(
            "a returning input holds, and never pulls back",
            none,
            &[
                (Update(1, 3), Nothing),
                (Idle(1), Nothing),
                (Update(0, 8), advanced(8)),
                (Active(1), Nothing),
                (Update(0, 20), Nothing),
                (Update(1, 6), Nothing),
                (Update(1, 12), advanced(12)),
            ],
        );
        check(
            "all idle tells the highest, then idleness",
            none,
            &[(Update(0, 4), Nothing), (Update(1, 9), advanced(4)), (Idle(1), Nothing), (Idle(0), idle(Some(9)))],
        );
        check(
            "activity without a new watermark is told by the old one",
            none,
            &[
                (Update(0, 4), Nothing),
                (Idle(1), advanced(4)),
                (Idle(0), idle(None)),
                (Active(1), resumed(4)),
                (Active(1), Nothing),
            ],
        );
        check(
            "idle from the beginning",
            none,
            &[(Idle(0), Nothing), (Idle(1), idle(None)), (Update(0, 2), advanced(2))],
        );
        check(
            "restored",
            10,
            &[
                (Update(0, 8), Nothing),
                (Update(1, 9), Nothing),
                (Update(0, 12), Nothing),
                (Update(1, 11), advanced(11)),
            ],
        );
    }

    #[test]
    fn only_the_end_of_all_inputs_is_the_end_of_time() {
        let none = i64::MIN;
        check(
            "both end",
            none,
            &[(Update(0, 5), Nothing), (End(1), advanced(5)), (End(0), advanced(MAX)), (End(0), Nothing)],
        );
        check(
            "the last watermark is the end",
            none,
            &[(Update(0, MAX), Nothing), (Update(1, 5), advanced(5)), (Update(1, MAX), advanced(MAX))],
        );
        check(
            "an idle input keeps time open",
            none,
            &[
                (Update(0, 7), Nothing),
                (Idle(1), advanced(7)),
                (Update(0, MAX), idle(None)),
                (Update(1, 8), advanced(8)),
                (End(1), advanced(MAX)),
            ],
        );
        check(
            "idle after the other's end",
            none,
            &[(Update(0, 7), Nothing), (End(0), Nothing), (Idle(1), idle(Some(7)))],
        );
        check("an idle input ends last", none, &[(End(0), Nothing), (Idle(1), idle(None)), (End(1), advanced(MAX))]);
        check(
            "nothing counts after an end",
            none,
            &[(End(0), Nothing), (Update(0, 9), Nothing), (Idle(0), Nothing), (Update(1, 3), advanced(3))],
        );
    }

    fn events(inputs: usize) -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0..inputs, 0_i64..100).prop_map(|(input, watermark)| Update(input, watermark)),
            2 => (0..inputs).prop_map(Idle),
            2 => (0..inputs).prop_map(Active),
            1 => (0..inputs).prop_map(End),
        ]
    }

    /// The definition, evaluated from the whole history at each step.
    struct Model {
        reached: EventTime,
        history: Vec<Event>,
    }

    impl Model {
        fn own(&self, input: usize) -> Vec<Event> {
            let mut own = Vec::new();
            for &event in &self.history {
                match event {
                    Update(at, _) | Idle(at) | Active(at) | End(at) if at == input => own.push(event),
                    _ => continue,
                }
                if matches!(event, End(_)) {
                    break;
                }
            }
            own
        }

        /// The output after the whole history, whether it is idle, and whether it has ended.
        fn state(&self, inputs: usize) -> (EventTime, bool, bool) {
            let own: Vec<_> = (0..inputs).map(|input| self.own(input)).collect();
            let watermark = |events: &Vec<Event>| {
                let updates =
                    events.iter().filter_map(|event| if let Update(_, at) = event { Some(*at) } else { None });
                updates.max().map_or(EventTime::MIN, EventTime)
            };
            let is_active = |events: &&Vec<Event>| !matches!(events.last(), Some(Idle(_) | End(_)));
            let is_ended = |events: &Vec<Event>| matches!(events.last(), Some(End(_)));
            let ended = own.iter().all(is_ended);
            match own.iter().filter(is_active).map(watermark).min() {
                Some(lowest) => (lowest, false, false),
                None if ended => (EventTime::MAX, false, true),
                None => (own.iter().map(watermark).max().unwrap_or(EventTime::MIN), true, false),
            }
        }
    }

    proptest! {
        #[test]
        fn every_history_agrees_with_the_definition(
            (inputs, history) in (1_usize..5).prop_flat_map(|inputs| {
                (Just(inputs), prop::collection::vec(events(inputs), 0..40))
            }),
            reached in prop_oneof![Just(i64::MIN), 0_i64..100],
        ) {
            let mut frontier = Frontier::new(inputs, EventTime(reached));
            let mut model = Model { reached: EventTime(reached), history: Vec::new() };
            let mut was_idle = false;
            for event in history {
                let change = apply(&mut frontier, event);
                model.history.push(event);
                let (watermark, is_idle, ended) = model.state(inputs);
                let advanced = (watermark > model.reached).then_some(watermark);
                model.reached = model.reached.max(watermark);
                let expected = match advanced {
                    advanced if is_idle && !was_idle => Change::Idle { advanced },
                    Some(watermark) => Advanced(watermark),
                    None if was_idle && !is_idle && !ended => Resumed(model.reached),
                    None => Nothing,
                };
                prop_assert_eq!(change, expected, "{:?}", &model.history);
                prop_assert_eq!(frontier.watermark(), model.reached);
                prop_assert_eq!(frontier.is_idle(), is_idle);
                was_idle = is_idle;
            }
        }
    }
}
