//! Weir's controller: it reconciles StreamJobs into worker pods.
