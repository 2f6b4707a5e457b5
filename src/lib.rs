//! chatnode: people keep reading an AI answer, token by token, whatever dies underneath.
//!
//! The map:
//! - [`model`] and [`log`] are the nouns: ids, messages, and the append-only log of one answer. No IO.
//! - [`event`] is what programs outside hear of what happens.
//! - [`protocol`] is the wire contract with browsers and programs.
//! - [`backend`] is what we need from storage and from other nodes: a few traits, an embedded and a cluster world.
//! - [`gateway`] serves people, [`ai`] runs models; they meet only through the backend.
//! - [`status`] shows a terminal what a gateway tells about all of them; [`bench`] measures them from outside, by the [`stamp`]s
//!   that the demonstration model puts into its tokens.
//! - [`user`] keeps accounts from a terminal; [`password`] hashes what people log in with.
//! - [`serve`] takes connections: TLS, deadlines, limits; [`unwanted`] bounds what is read for politeness; [`probes`] says how a node
//!   stands.
//! - [`outgoing`] asks servers that operators named: an issuer, a collector, a gateway.
//! - [`node`] puts one process together from [`config`]; [`drain`] takes it apart in good order.

pub mod ai;
pub mod backend;
pub mod bench;
pub mod config;
pub mod drain;
pub mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod gateway;
pub mod log;
pub mod model;
pub mod node;
pub mod outgoing;
pub mod password;
pub mod probes;
pub mod protocol;
pub mod serve;
pub mod stamp;
pub mod status;
pub mod telemetry;
pub mod tokens;
pub mod unwanted;
pub mod user;
