//! The daemon's life: one per user, found by everybody, ended in order.

mod clock;
mod files;
mod lock;
mod log;
mod others;
mod reload;
mod service;
mod squatter;
mod stop;
mod told;
