//! What scenarios and conformance runs stand on: real servers as processes, and a world of the cluster on them.

pub(crate) mod servers;
pub(crate) mod upstream;
