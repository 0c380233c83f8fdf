//! From syntax to bound logical plans: names resolved, types checked, windows recognised.

mod aggregates;
pub(super) mod attributes;
pub(super) mod catalog;
pub(super) mod insert;
pub(super) mod table;
mod type_check;
pub(super) mod types;
pub(super) mod windows;

pub(super) use catalog::Catalog;
pub(super) use insert::BoundInsert;
pub(super) use table::Table;
