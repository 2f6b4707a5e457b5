//! Whole nodes, as people and programs meet them.

mod config;
mod providers;
mod providers_catalog;
mod providers_continue;
mod providers_faults;
mod providers_traps;
