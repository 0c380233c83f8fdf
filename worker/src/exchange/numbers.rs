//! What the exchange shows of itself.

use super::{Exchange, Traffic};
use crate::numbers::{Family, Numbers};

impl Numbers for Exchange {
    fn families(&self) -> Vec<Family> {
        let traffic = self.traffic();
        let family = |name, help, number: fn(&Traffic) -> f64| {
            let samples = traffic.iter().map(|(worker, traffic)| (vec![("peer", worker.to_string())], number(traffic)));
            Family::counter(name, help).with_all(samples)
        };
        vec![
            family("weir_exchange_sent_bytes_total", "Bytes sent to another worker, before encryption.", |traffic| {
                traffic.bytes_out.get() as f64
            }),
            family("weir_exchange_sent_batches_total", "Batches sent to another worker.", |traffic| {
                traffic.batches_out.get() as f64
            }),
            family("weir_exchange_received_bytes_total", "Bytes received from another worker.", |traffic| {
                traffic.bytes_in.get() as f64
            }),
            family("weir_exchange_received_batches_total", "Batches received from another worker.", |traffic| {
                traffic.batches_in.get() as f64
            }),
            family(
                "weir_exchange_credit_wait_seconds_total",
                "Seconds that tasks waited until another worker had room for what they send.",
                |traffic| traffic.credit_wait_ns.get() as f64 / 1e9,
            ),
        ]
    }
}
