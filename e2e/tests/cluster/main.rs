//! What Weir does on a real cluster, as its users do it: with helm, with kubectl, and with what lies in the bucket.
//!
//! The cluster is the one of `KUBECONFIG`; `e2e/run` makes one and runs these. Without `WEIR_E2E` every scenario is
//! passed over and says so. The output of a job is compared with that of the same job on a quiet run on this machine,
//! so none may be lost and none repeated, whatever was done to it.
//!
//! | variable | |
//! |---|---|
//! | `WEIR_E2E` | any value: run the scenarios |
//! | `WEIR_E2E_WORKER_IMAGE`, `WEIR_E2E_OPERATOR_IMAGE`, `WEIR_E2E_S3_IMAGE` | what runs in the cluster |
//! | `WEIR_E2E_NEXT_IMAGE` | the worker's image under another name |
//! | `WEIR_E2E_WEIR` | the program `weir` for quiet runs |
//! | `WEIR_E2E_LOGS` | the folder for what is kept of a failure; by default `target/e2e` |

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "whoever watches wants to see what happens")]

mod cluster;
mod failures;
mod figures;
mod install;
mod job;
mod life;
mod namespace;
mod network;
mod obstacles;
mod output;
mod pods;
mod refusals;
mod rescale;
mod store;
mod upgrade;
mod watch;
