//! The sink `blackhole`: takes every row and forgets it. For measuring what comes before it.

use super::options::Options;
use super::{Prepared, Sink, SinkWriter, WriterContext};
use crate::batch::Batch;
use crate::diagnostic::Diagnostic;
use crate::failure::Result;
use std::sync::Arc;
use weir_protocol::CheckpointId;

/// Reads the options of a table: it has none.
pub(super) fn sink(options: &Options) -> Result<Arc<dyn Sink>, Vec<Diagnostic>> {
    options.finish()?;
    Ok(Arc::new(Blackhole))
}

struct Blackhole;

impl Sink for Blackhole {
    fn takes_changelog(&self) -> bool {
        true
    }

    fn writer(&self, _: WriterContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(Self))
    }
}

impl SinkWriter for Blackhole {
    fn write(&mut self, _: &Batch) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, _: CheckpointId, _last: bool) -> Result<Prepared> {
        Ok(Prepared::default())
    }
}
