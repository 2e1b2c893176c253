//! Placeholder until the daemon lands: supervises runs only.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(flag), Some(dir)) if flag == "--supervise" => fleetd::fleet::supervise(dir.as_ref()),
        _ => ExitCode::from(2),
    }
}
