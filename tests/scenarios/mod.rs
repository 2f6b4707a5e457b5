//! Whole nodes, as people and programs meet them.

mod badinput;
mod bench;
mod cluster_differential;
mod cluster_memory;
mod cluster_nats;
mod cluster_redis;
mod cluster_tls;
mod cluster_topology;
mod cluster_writer;
mod config;
mod documents;
mod events;
mod examples;
mod golden;
mod metrics;
mod process;
mod providers;
mod providers_catalog;
mod providers_continue;
mod providers_faults;
mod providers_traps;
mod rest;
mod resume;
mod socket;
mod takeover;
mod topology;
