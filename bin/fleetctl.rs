//! fleetctl: see `fleetctl help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleetd::cli::main(std::env::args_os())
}
