//! What a job under test is like.

/// What a job is like.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Events that it reads.
    pub events: u64,
    /// How fast.
    pub pace: Pace,
    /// Where its state is.
    pub state: State,
    /// Between checkpoints, such as `200ms`.
    pub interval: &'static str,
    /// Whether barriers overtake from the first moment on.
    pub unaligned: bool,
    /// Workers that it begins with.
    pub workers: u32,
    /// Whether workers keep what they wrote to the store.
    pub copies: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// So many events in a second.
    Rate(u64),
    /// 400 events in a second, until it is told to hurry.
    Slow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Bucket,
    Directory,
}
