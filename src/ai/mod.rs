//! The AI role: claims work, runs models, writes the logs. Knows the backend traits, never a gateway.

pub mod context;
pub mod provider;
