//! `completions`: what a shell needs to finish our words.

use clap::Args;
use clap_complete::Shell;

use super::{Cx, Outcome, exit};

/// Print a script that teaches a shell to complete fleetctl's words.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  fleetctl completions bash > ~/.local/share/bash-completion/completions/fleetctl"
)]
pub struct Completions {
    shell: Shell,
}

impl Completions {
    pub fn handle(self, cx: &Cx, mut command: clap::Command) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "fleetctl", &mut script);
        cx.out.print(&String::from_utf8_lossy(&script))?;
        Ok(exit::OK)
    }
}
