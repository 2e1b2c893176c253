//! fleetctl, as people and scripts meet it.

mod terminal;
