//! Starting the command.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::stat::{Mode, umask};
use process_wrap::std::{CommandWrap, ProcessSession};

use super::super::Program;
use super::super::plan::{Plan, StdinKind};
use super::super::rundir::RunDir;

/// A command that has begun, and our ends of its pipes.
pub struct Running {
    pub pid: u32,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// Only if its input comes piece by piece.
    pub stdin: Option<OwnedFd>,
}

/// Starts what `plan` says, as the leader of a session of its own.
///
/// # Errors
/// Says for people why it could not be started.
pub fn start(dir: &RunDir, plan: &Plan) -> Result<Running, String> {
    let folder = Path::new(&plan.folder);
    if !folder.is_dir() {
        return Err(format!("there is no folder '{}' to run in", plan.folder));
    }
    let mut command = match &plan.program {
        Program::Shell(line) => {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(line);
            shell
        }
        Program::Argv(argv) => {
            let (program, arguments) = argv.split_first().ok_or("there is no program to run")?;
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
    };
    let input = match plan.stdin {
        StdinKind::Closed => Stdio::null(),
        // The file itself: nothing to pump, and the command sees its end.
        StdinKind::Bytes => File::open(dir.file("stdin"))
            .map_err(|error| format!("cannot open its input: {error}"))?
            .into(),
        StdinKind::Open => Stdio::piped(),
    };
    command
        .env_clear()
        .envs(&plan.env)
        .current_dir(folder)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut command = CommandWrap::from(command);
    command.wrap(ProcessSession);
    // Ours keeps secrets in; the command's files are its owner's business.
    let ours = umask(Mode::from_bits_truncate(plan.umask as nix::libc::mode_t));
    let spawned = command.spawn();
    umask(ours);
    let mut child = spawned.map_err(|error| explain(plan, &error))?;
    let (Some(stdout), Some(stderr)) = (child.stdout().take(), child.stderr().take()) else {
        return Err(String::from("its streams could not be opened"));
    };
    let stdin = child.stdin().take().map(OwnedFd::from);
    Ok(Running { pid: child.id(), stdout: stdout.into(), stderr: stderr.into(), stdin })
}

fn explain(plan: &Plan, error: &std::io::Error) -> String {
    let program = match &plan.program {
        Program::Shell(_) => "/bin/sh",
        Program::Argv(argv) => argv.first().map_or("", String::as_str),
    };
    match error.kind() {
        ErrorKind::NotFound => format!(
            "there is no program '{program}' on the PATH it was given, or the interpreter it names"
        ),
        ErrorKind::PermissionDenied => {
            format!("'{program}' may not be executed, or the folder '{}' not entered", plan.folder)
        }
        ErrorKind::ArgumentListTooLong => {
            String::from("its arguments and environment are too long together")
        }
        _ => format!("cannot start '{program}': {error}"),
    }
}
