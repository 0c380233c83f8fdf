//! Pieces of pipelines over loopback.
