//! The daemon's life: one per user, found by everybody, ended in order.

mod files;
mod lock;
mod reload;
mod squatter;
mod stop;
