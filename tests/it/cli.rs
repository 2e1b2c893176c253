//! fleetctl as programs see it: the bridge, and what it writes for MCP clients.

mod bridge;
mod pipe;
mod setup;
