//! The HTTP client of all upstreams.

#[derive(Clone, Debug, Default)]
pub struct Http {}
