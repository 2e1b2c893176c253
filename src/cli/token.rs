//! `token`: the bearer token of programs that connect by TCP.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use clap::{Args, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Cx, Outcome, exit};
use crate::client::{ClientError, Daemon};

/// Manage the token that programs connecting by TCP have to show.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  fleetctl token rotate")]
pub struct Token {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a new token. Streams opened with the old one are closed.
    #[command(after_help = "Example:\n  fleetctl token rotate")]
    Rotate,
}

impl Token {
    pub async fn handle(self, cx: &Cx) -> Outcome {
        let TokenCommand::Rotate = self.command;
        // First find out whom to tell: a frozen daemon would go on with the old one.
        let pid = match cx.client.healthz().await {
            Ok(Daemon { pid }) => pid,
            Err(ClientError::NotRunning | ClientError::Impostor { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        write_new(&cx.client.paths().token())?;
        match pid {
            Some(pid) => {
                kill(Pid::from_raw(pid), Signal::SIGHUP)
                    .with_context(|| format!("cannot signal fleetd (pid {pid})"))?;
                cx.out
                    .print("the token is new; streams opened with the old one are being closed")?;
            }
            None => cx.out.print("the token is new; fleetd is not running")?,
        }
        cx.out.hint("clients that use `fleetctl mcp-headers` get it by themselves");
        Ok(exit::OK)
    }
}

/// Replaces the token by 32 fresh random bytes, in hex, in one step.
fn write_new(path: &Path) -> anyhow::Result<()> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).context("no random numbers")?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = path.parent().context("the token file has no folder")?;
    let cannot = || format!("cannot write the token file '{}'", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(cannot)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(cannot)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(0o600)).with_context(cannot)?;
    file.write_all(token.as_bytes()).with_context(cannot)?;
    file.as_file().sync_all().with_context(cannot)?;
    file.persist(path).with_context(cannot)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_new_private_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/token");
        write_new(&path).unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        write_new(&path).unwrap();
        let second = std::fs::read_to_string(&path).unwrap();
        assert_ne!(first, second);
        assert!(second.len() == 64 && second.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }
}
