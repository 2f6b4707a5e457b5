//! Whole nodes, as people and programs meet them.

mod config;
