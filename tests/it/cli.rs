//! fleetctl, as people and scripts meet it: every command, what it prints where,
//! and the exit status that scripts rely on.

mod bridge;
mod events;
mod lifetime;
mod opening;
mod person;
mod pipes;
mod publish;
mod refused;
mod run;
mod setup;
mod tasks;
mod terminal;
