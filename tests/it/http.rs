//! The front door: who is let in, and what is refused before anything is read.

mod door;
mod oddities;
mod routes;
mod strangers;

pub use routes::routes;
