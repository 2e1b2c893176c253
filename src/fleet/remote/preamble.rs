//! What a member has to know of a run, as lines of `sh` on standard input.

use super::script::quoted;
use crate::fleet::plan::Plan;
use crate::fleet::{CommandSpec, FleetError, Program};

/// Names that a shell keeps for itself: an assignment ends it, or is ignored.
const TAKEN: &[&str] = &[
    "BASHOPTS",
    "BASH_VERSINFO",
    "EUID",
    "GID",
    "EGID",
    "IFS",
    "LINENO",
    "OPTIND",
    "PPID",
    "SHELLOPTS",
    "UID",
];

/// The mark in the environment by which a stop finds processes that left.
const MARK: &str = "FLEETD_RUN";

/// Where the makers of models' programs put them. A shell that is neither a
/// login's nor a person's has read no file that says so.
const PEOPLES: &str = "export PATH=\"$HOME/.local/bin:/usr/local/bin:/opt/homebrew/bin:$PATH\"\n";

/// Refuses what no shell could pass on.
///
/// # Errors
/// [`FleetError::Invalid`].
pub fn check(spec: &CommandSpec) -> Result<(), FleetError> {
    let plain = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    match spec.env.keys().find(|name| !plain(name) || TAKEN.contains(&name.as_str())) {
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            let problem = format!("has the name '{name}', which the member's shell cannot set");
            Err(FleetError::Invalid { argument: "env", problem })
        }
        None => Ok(()),
    }
}

/// The preamble of a run, up to and with the dot that ends it. The lines of
/// values come indented, so no value can hold that dot.
/// `people`: programs that people install for themselves are found as well.
pub fn preamble(plan: &Plan, run: &str, people: bool) -> Vec<u8> {
    let mut text = format!("f={}\nc() {{\n", quoted(&plan.folder));
    if people {
        text.push_str(PEOPLES);
    }
    for (name, value) in plan.env.iter().chain([(&MARK.to_owned(), &run.to_owned())]) {
        text.push_str(&format!("export {name}={}\n", quoted(value)));
    }
    let words = match &plan.program {
        Program::Shell(line) => vec!["/bin/sh", "-c", line],
        Program::Argv(argv) => argv.iter().map(String::as_str).collect(),
    };
    text.push_str("e \"$1\" \"$2\"");
    for word in words {
        text.push(' ');
        text.push_str(&quoted(word));
    }
    text.push_str("\n}");
    let mut lines = String::with_capacity(text.len() + 64);
    for line in text.split('\n') {
        lines.push(' ');
        lines.push_str(line);
        lines.push('\n');
    }
    lines.push_str(".\n");
    lines.into_bytes()
}
