//! The AI role: claims work, runs models, writes the logs. Knows the backend traits, never a gateway.

pub mod batch;
pub mod context;
mod count;
mod pace;
mod patience;
mod prompt;
pub mod provider;
mod run;
pub mod worker;
mod writer;
