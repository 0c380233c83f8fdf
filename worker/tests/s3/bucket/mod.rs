//! A real S3 server, and a proxy that makes it fail: for every test that needs a bucket.

#![allow(dead_code, reason = "not every test uses everything")]

pub(crate) mod gateway;
pub(crate) mod held;
pub(crate) mod proxy;
