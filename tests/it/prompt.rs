//! Prompts with the real programs of the models' makers, against a model stub on
//! loopback.

mod cli;
mod ends;
mod proof;
mod providers;
mod queue;
mod remote;
mod restart;
mod rig;
