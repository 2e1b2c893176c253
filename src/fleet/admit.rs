//! From what a caller states to what a supervisor needs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::plan::{Plan, StdinKind};
use super::stall::{self, Watch};
use super::{CommandSpec, FleetError, Program, Stdin};
use crate::config;
use crate::model::{Member, MemberPlace};

/// What every command gets from the daemon's own environment. Not in it:
/// `SSH_AUTH_SOCK`, which belongs to the login that started the daemon and dies
/// with it; a caller who wants its agent used sends it. `DISPLAY` likewise.
const PASSED_ON: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
];

/// Characters of a command that its row shows people.
const SHOWN: usize = 4096;

/// Refuses what could not be run by anybody.
///
/// # Errors
/// [`FleetError::Invalid`].
pub fn check(spec: &CommandSpec) -> Result<(), FleetError> {
    check_program("command", &spec.program)?;
    if let Some(program) = &spec.restart {
        check_program("restart_command", program)?;
    }
    let bad_name = |name: &String| name.is_empty() || name.contains(['=', '\0']);
    if spec.env.iter().any(|(name, value)| bad_name(name) || value.contains('\0')) {
        return invalid("env", "has a name or value that no environment can hold");
    }
    if spec.run_from.as_ref().is_some_and(|folder| folder.is_empty() || folder.contains('\0')) {
        return invalid("run_from", "is not a path");
    }
    if [spec.inactivity, spec.total].contains(&Some(Duration::ZERO)) {
        return invalid("timeout_s", "has to be at least 1; leave it out for no limit");
    }
    Ok(())
}

fn check_program(argument: &'static str, program: &Program) -> Result<(), FleetError> {
    let (empty, words) = match program {
        Program::Shell(line) => (line.trim().is_empty(), std::slice::from_ref(line)),
        Program::Argv(argv) => (argv.first().is_none_or(String::is_empty), argv.as_slice()),
    };
    if empty {
        return invalid(argument, "is empty");
    }
    if words.iter().any(|word| word.contains('\0')) {
        return invalid(argument, "holds a NUL, which no command can");
    }
    Ok(())
}

fn invalid<T>(argument: &'static str, problem: &str) -> Result<T, FleetError> {
    Err(FleetError::Invalid { argument, problem: problem.to_owned() })
}

/// The plan of a task's first run, on `member`.
pub fn plan(
    spec: &CommandSpec,
    member: &Member,
    tasks: &config::Tasks,
    umask: u32,
    order: u64,
) -> Plan {
    let (env, folder) = match member.place {
        MemberPlace::Local => {
            let mut env = base_environment(std::env::vars_os());
            env.extend(spec.env.clone());
            let home = env.get("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
            let from = spec.run_from.as_deref().unwrap_or(&member.work_folder);
            (env, folder(Some(from), &home))
        }
        // The login there makes the environment, and knows its home.
        MemberPlace::Remote(_) => {
            let folder = spec.run_from.as_deref().unwrap_or(&member.work_folder);
            (spec.env.clone(), folder.to_owned())
        }
    };
    let stall = watch(spec, member, tasks, &env);
    Plan {
        order,
        member: member.id,
        program: spec.program.clone(),
        folder,
        env,
        stdin: match &spec.stdin {
            Stdin::Closed => StdinKind::Closed,
            Stdin::Bytes(_) => StdinKind::Bytes,
            Stdin::Open => StdinKind::Open,
        },
        inactivity_ms: spec.inactivity.map(bounded),
        total_ms: spec.total.map(bounded),
        max_output: tasks.max_output_mib.saturating_mul(1024 * 1024),
        grace_ms: tasks.stop_grace_s.saturating_mul(1000),
        umask,
        retries: spec.retries,
        restart: spec.restart.clone(),
        stall,
    }
}

/// Milliseconds, a century at most: sums of instants and limits stay far from overflow.
fn bounded(limit: Duration) -> u64 {
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    millis.min(100 * 365 * 24 * 60 * 60 * 1000)
}

/// When the run counts as stalled, and by what. A member's transcripts are not
/// looked for here: this machine's home is not its home.
fn watch(
    spec: &CommandSpec,
    member: &Member,
    tasks: &config::Tasks,
    env: &BTreeMap<String, String>,
) -> Option<Watch> {
    let after = spec.stall_after.unwrap_or(Duration::from_secs(tasks.stall_after_s));
    let home = env.get("HOME").map_or_else(|| Path::new("/"), Path::new);
    let transcript = match &member.place {
        MemberPlace::Remote(_) => None,
        // The environment may have moved what its program's row says.
        MemberPlace::Local => {
            let config = env.get("CLAUDE_CONFIG_DIR").map(String::as_str);
            let stated = || spec.transcript.as_ref().map(|pattern| stall::at_home(pattern, home));
            stall::of_program(&spec.program, home, config).or_else(stated)
        }
    };
    let stop = tasks.stall_action == config::StallAction::Stop;
    (after > Duration::ZERO).then(|| Watch { after_ms: bounded(after), stop, transcript })
}

/// The plan of the run after a failed one.
pub fn next_plan(plan: &Plan) -> Plan {
    let program = plan.restart.clone().unwrap_or_else(|| plan.program.clone());
    Plan { program, retries: plan.retries.saturating_sub(1), ..plan.clone() }
}

pub fn base_environment(
    ours: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> BTreeMap<String, String> {
    ours.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| PASSED_ON.contains(&name.as_str()) || name.starts_with("LC_"))
        .collect()
}

/// Absolute: relative paths and `~/` begin at the home folder.
fn folder(run_from: Option<&str>, home: &Path) -> String {
    let path = match run_from {
        None | Some("~") => home.to_owned(),
        Some(text) => home.join(text.strip_prefix("~/").unwrap_or(text)),
    };
    path.display().to_string()
}

/// The command as people read it: a line one could paste into a shell.
pub fn shown(program: &Program) -> String {
    let line = match program {
        Program::Shell(line) => line.clone(),
        Program::Argv(argv) => argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    };
    line.chars().take(SHOWN).collect()
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_variables_are_passed_on() {
        let ours = ["PATH", "LC_ALL", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "NOTIFY_SOCKET"];
        let passed = base_environment(ours.into_iter().map(|name| (name.into(), "x".into())));
        assert_eq!(passed.into_keys().collect::<Vec<_>>(), ["LC_ALL", "PATH"]);
    }

    #[test]
    fn folders_begin_at_home() {
        let home = Path::new("/home/me");
        let cases = [
            (None, "/home/me"),
            (Some("~"), "/home/me"),
            (Some("~/src"), "/home/me/src"),
            (Some("src"), "/home/me/src"),
            (Some("/tmp"), "/tmp"),
        ];
        for (from, folder_) in cases {
            assert_eq!(folder(from, home), folder_);
        }
    }

    #[test]
    fn a_shown_command_can_be_pasted() {
        let argv = ["printf", "%s", "it's", "", "a b"].map(String::from).to_vec();
        assert_eq!(shown(&Program::Argv(argv)), r"printf %s 'it'\''s' '' 'a b'");
    }
}
