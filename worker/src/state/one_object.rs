//! A store with one object in memory, for tests.

use crate::checkpoint::store::{Put, Store};
use crate::failure::{Failure, Result};
use std::ops::Range;

/// One object in memory.
pub(in crate::state) struct OneObject(pub(in crate::state) Vec<u8>);

impl Store for OneObject {
    fn put_if_absent(&self, _key: &str, _body: &[u8]) -> Put {
        Put::Exists
    }

    fn get(&self, _key: &str) -> Result<Option<Vec<u8>>> {
        Ok(Some(self.0.clone()))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let part = self.0.get(range.start as usize..range.end as usize);
        part.map(<[u8]>::to_vec).ok_or_else(|| Failure::corrupt(format!("{key} has no such bytes")))
    }

    fn list(&self, _prefix: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn delete(&self, _keys: &[String]) -> Result<()> {
        Ok(())
    }
}
