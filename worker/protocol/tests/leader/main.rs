//! Named histories of leaders, driven by hand over a store that does what the test says.

mod assignments;
mod crashes;
mod elsewhere;
mod fencing;
mod forks;
mod rig;
mod running;
