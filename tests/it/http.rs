//! The front door: who is let in, and what is refused before anything is read.

mod crowd;
mod door;
mod half_open;
mod oddities;
mod projects;
mod rebinding;
mod routes;
mod stalled;
mod strangers;

pub use routes::routes;
