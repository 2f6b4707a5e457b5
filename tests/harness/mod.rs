//! What scenarios and conformance runs stand on: whole nodes, strict clients, real servers as processes, and a world of
//! the cluster on them.

pub(crate) mod client;
pub(crate) mod node;
pub(crate) mod rest;
pub(crate) mod servers;
pub(crate) mod upstream;
