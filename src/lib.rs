//! fleetd turns a fleet of machines and LLM agents into an event source.
//!
//! Whoever lists the modules below has read the architecture, lowest first.
//! Each module is the *face* of a component; its innards live in the folder of
//! the same name and are reached by nobody else. `ARCHITECTURE.md` has the map,
//! the table of who may import whom, and the invariants; `tests/it/tidy.rs`
//! holds the source to them.

pub mod bus;
pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod fleet;
pub mod http;
pub mod mcp;
pub mod model;
pub mod reach;
pub mod store;
pub mod wire;
