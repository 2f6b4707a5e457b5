//! What scenarios and conformance runs stand on: whole nodes, strict clients, real servers as processes, and a world of
//! the cluster on them.

pub(crate) mod client;
pub(crate) mod collector;
pub(crate) mod issuer;
pub(crate) mod node;
pub(crate) mod odd;
pub(crate) mod people;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod provider;
pub(crate) mod requests;
pub(crate) mod rest;
pub(crate) mod schema;
pub(crate) mod servers;
pub(crate) mod tls;
pub(crate) mod upstream;

/// The value of a series in what `/metrics` says; without labels in the name, the sum over all of them. 0 where there is none.
pub(crate) fn figure(metrics: &str, series: &str) -> f64 {
    let labelled = format!("{series}{{");
    let lines = metrics.lines().filter_map(|line| line.rsplit_once(' '));
    lines
        .filter(|(name, _)| *name == series || name.starts_with(&labelled))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}
