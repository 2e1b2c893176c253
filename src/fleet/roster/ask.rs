//! Asking a member's `sh` something short: over the link, or here.
//!
//! The script goes in by standard input, so that neither a login shell of
//! another kind nor a list of processes ever sees it.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::RosterError;
use super::probe::MOST_ANSWER;
use crate::fleet::admit;
use crate::model::{MemberAuth, MemberName, Remote};
use crate::reach::{Auth, End, Limits, Link, ReachError, Target};

/// A script that has not ended by then is given up.
const DEADLINE: Duration = Duration::from_secs(10);

/// How the line begins that says how a script ended.
const LAST: &str = "fleetd-end:";

/// The target that a member's row means.
pub fn target(remote: &Remote, accept_new: bool) -> Target {
    Target {
        port: remote.port,
        user: remote.username.clone(),
        auth: match &remote.auth {
            MemberAuth::Default => Auth::Default,
            MemberAuth::Agent => Auth::Agent,
            MemberAuth::Key { path, .. } => Auth::KeyFile(path.clone()),
        },
        accept_new,
        ..Target::new(remote.host.clone())
    }
}

/// Waits until a link that was just made is up.
///
/// # Errors
/// [`RosterError::Offline`] with the reason of the first attempt that failed.
pub async fn until_up(link: &Link, member: &MemberName) -> Result<(), RosterError> {
    let mut state = link.state();
    let offline = |reason: String| RosterError::Offline { member: member.clone(), reason };
    let settled = state.wait_for(|state| state.is_up() || !state.reason.is_empty());
    match tokio::time::timeout(2 * DEADLINE, settled).await {
        Ok(Ok(state)) if state.is_up() => Ok(()),
        Ok(Ok(state)) => Err(offline(state.reason.clone())),
        Ok(Err(_)) => Err(offline(String::from("the link was closed"))),
        Err(_) => Err(offline(String::from("it did not answer in time"))),
    }
}

/// Runs `script` and returns what it wrote, if it ended with status 0 by its own
/// word: SSH's may be missing, which looks like 0 (see [`End::Code`]).
///
/// # Errors
/// [`RosterError::Reach`], or [`RosterError::Failed`] with what it complained of.
pub async fn sh(link: Option<&Link>, script: &str, what: &str) -> Result<Bytes, RosterError> {
    let script = &speaking(script);
    let (stdout, stderr, end) = match link {
        Some(link) => {
            let limits = Limits { deadline: DEADLINE, most_output: MOST_ANSWER };
            let script = Bytes::copy_from_slice(script.as_bytes());
            let answer = link.ask("exec sh", script, limits).await?;
            (answer.stdout, answer.stderr, answer.end)
        }
        None => here(script).await.map_err(|error| failed(what, &error.to_string()))?,
    };
    let (stdout, status) = last_word(stdout);
    match status.map_or(end, End::Code) {
        End::Code(0) if status.is_some() => Ok(stdout),
        End::Code(0) => {
            let host =
                link.map_or_else(|| String::from("local"), |link| link.target().host.clone());
            let reason = String::from("it did not say how the script ended");
            Err(ReachError::Lost { host, reason }.into())
        }
        End::Code(code) => {
            let said = plain(&stderr);
            let said = if said.is_empty() { format!("status {code}") } else { said };
            Err(failed(what, &said))
        }
        End::Signal(signal) => Err(failed(what, &format!("ended by signal {signal}"))),
    }
}

/// The script, with its status as the last line that it writes. In brackets `sh`
/// reads all of it first: one that was cut on its way does not begin.
fn speaking(script: &str) -> String {
    format!("(\n{script}\n)\nprintf '\\n{LAST}%s\\n' \"$?\"\n")
}

/// What was written before the last line, and the status that it holds.
fn last_word(stdout: Bytes) -> (Bytes, Option<i32>) {
    let text = String::from_utf8_lossy(&stdout);
    let line = text.trim_end_matches('\n').rsplit('\n').next().unwrap_or_default();
    let status = line.strip_prefix(LAST).and_then(|status| status.parse().ok());
    let tail = line.len() + "\n\n".len();
    match status {
        Some(_) => (stdout.slice(..stdout.len().saturating_sub(tail)), status),
        None => (stdout, None),
    }
}

async fn here(script: &str) -> std::io::Result<(Bytes, Bytes, End)> {
    let mut command = Command::new("sh");
    command
        .env_clear()
        .envs(admit::base_environment(std::env::vars_os()))
        .current_dir("/")
        .kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stdin = child.stdin.take();
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // It may well end without reading all of it.
            let _ = stdin.write_all(script.as_bytes()).await;
        }
    };
    let both = async { tokio::join!(child.wait_with_output(), feed).0 };
    let output = tokio::time::timeout(DEADLINE, both)
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    let end = output.status.code().map_or(End::Signal(String::from("unknown")), End::Code);
    Ok((output.stdout.into(), output.stderr.into(), end))
}

fn failed(what: &str, problem: &str) -> RosterError {
    RosterError::Failed { what: what.to_owned(), problem: problem.to_owned() }
}

/// Foreign words on one short line.
pub fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_script_says_itself_how_it_ended() {
        for (script, stdout, status) in [
            ("printf 'no end'", "no end", 0),
            ("echo a; exit 3", "a\n", 3),
            ("exit 0\necho never", "", 0),
            ("echo fleetd-end:7; false", "fleetd-end:7\n", 1),
        ] {
            let (said, _, _) = here(&speaking(script)).await.unwrap();
            assert_eq!(last_word(said), (Bytes::from(stdout), Some(status)), "{script}");
        }
        assert_eq!(last_word(Bytes::from("fleetd-end:")), (Bytes::from("fleetd-end:"), None));
        let whole = speaking("echo one > made");
        let folder = tempfile::tempdir().unwrap();
        for cut in 1..=whole.find("\n)").unwrap() + 1 {
            let at = format!("cd '{}'\n{}", folder.path().display(), &whole[..cut]);
            let _ = here(&at).await.unwrap();
            assert!(!folder.path().join("made").exists(), "cut at {cut} it began");
        }
    }
}
