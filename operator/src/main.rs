//! The controller's binary.

use std::process::ExitCode;

/// Gives memory back to the system, and fragments little over weeks.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    weir_operator::cli::main()
}
