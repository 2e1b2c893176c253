//! The scripts under the shells that members have, without SSH: one process
//! stands for one channel.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::preamble::preamble;
use super::report::{Ending, Word, parse};
use super::script::Script;
use crate::fleet::Program;
use crate::fleet::plan::{Cause, Plan, StdinKind};
use crate::model::{MemberId, RunId};

const SHELLS: [&[&str]; 4] =
    [&["dash"], &["bash", "--posix"], &["busybox", "sh"], &["zsh", "--emulate", "sh"]];

const CAP: &str = "1048576";

const OWNER: &str = "0f0e-1";

/// A home folder of a member with this shell.
struct Member {
    shell: &'static [&'static str],
    home: tempfile::TempDir,
}

impl Member {
    /// A session of its own, as sshd makes one.
    fn spawn(&self, script: Script, arguments: &[&str], stdin: &[u8]) -> Child {
        let (shell, options) = self.shell.split_first().unwrap();
        let mut command = Command::new("setsid");
        command.arg(shell).args(options).arg("-c").arg(script.text()).arg("fleetd");
        command.args(arguments).env_clear().env("HOME", self.home.path());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").process_group(0);
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().unwrap_or_else(|error| {
            panic!("{} is not there (tests/setup installs it): {error}", self.shell[0])
        });
        // One that refuses early does not read all of it.
        let _ = child.stdin.as_mut().unwrap().write_all(stdin);
        child
    }

    fn ask(&self, script: Script, arguments: &[&str], stdin: &[u8]) -> Output {
        let mut child = self.spawn(script, arguments, stdin);
        drop(child.stdin.take());
        child.wait_with_output().unwrap()
    }

    fn start(&self, run: &str, plan: &Plan, stdin: &[u8]) -> Output {
        let kind = if stdin.is_empty() { "none" } else { "bytes" };
        let mut bytes = preamble(plan, run, false);
        bytes.extend_from_slice(stdin);
        self.ask(Script::Start, &[run, kind, &stdin.len().to_string(), CAP, OWNER], &bytes)
    }

    /// A run that goes on; its channel is closed once it has begun.
    fn begin(&self, run: &str, line: &str, kind: &str) -> Word {
        let head = preamble(&plan(line), run, false);
        let mut child = self.spawn(Script::Start, &[run, kind, "0", CAP], &head);
        drop(child.stdin.take());
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        child.wait().unwrap();
        parse(&said, run).unwrap_or_else(|| panic!("{}: {said}", self.shell[0]))
    }

    fn state(&self, run: &str, how: &str) -> Word {
        let output = self.ask(Script::Probe, &["probe"], format!("{run} {how}\n").as_bytes());
        first(&output, run)
    }

    fn until(&self, run: &str, fits: impl Fn(&Word) -> bool) -> Word {
        let since = Instant::now();
        loop {
            let word = self.state(run, "look");
            if fits(&word) {
                return word;
            }
            assert!(since.elapsed() < Duration::from_secs(20), "{}: {word:?}", self.shell[0]);
        }
    }

    fn dir(&self, run: &str) -> PathBuf {
        self.home.path().join(".fleetd/runs").join(run)
    }
}

fn everywhere(test: impl Fn(&Member)) {
    for shell in SHELLS {
        test(&Member { shell, home: tempfile::tempdir().unwrap() });
    }
}

fn new_run() -> String {
    RunId::random().to_string()
}

fn plan(line: &str) -> Plan {
    Plan {
        order: 1,
        member: MemberId::LOCAL,
        program: Program::Shell(line.to_owned()),
        folder: String::from("~"),
        env: std::collections::BTreeMap::new(),
        stdin: StdinKind::Closed,
        inactivity_ms: None,
        total_ms: None,
        max_output: 1 << 20,
        grace_ms: 1000,
        umask: 0o022,
        retries: 0,
        restart: None,
        stall: None,
    }
}

fn first(output: &Output, run: &str) -> Word {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| parse(line, run)).unwrap_or_else(|| panic!("{output:?}"))
}

fn ended(output: &Output, run: &str) -> Ending {
    let text = String::from_utf8_lossy(&output.stdout);
    let word = text.lines().filter_map(|line| parse(line, run)).nth(1);
    let Some(Word::End(end)) = word else { panic!("{output:?}") };
    end
}

/// What follows the line of the end, or of the mark.
fn after<'a>(bytes: &'a [u8], line: &str) -> &'a [u8] {
    let at = bytes.windows(line.len()).position(|window| window == line.as_bytes()).unwrap();
    let end = bytes[at..].iter().position(|byte| *byte == b'\n').unwrap();
    &bytes[at + end + 1..]
}

#[test]
fn a_short_command_is_seen_through_on_one_channel() {
    everywhere(|member| {
        let run = new_run();
        let all: Vec<u8> = (0..=255).collect();
        let mut plan = plan("cat; echo \"$WORD\" >&2; umask; pwd; exit 255");
        plan.env.insert(String::from("WORD"), String::from("it's\n.\n two\\ $x `y`"));
        plan.folder = String::from("/tmp");
        let output = member.start(&run, &plan, &all);
        let end = ended(&output, &run);
        let wanted = [&all[..], b"0022\n/tmp\n"].concat();
        assert_eq!(after(&output.stdout, " end "), wanted, "{}", member.shell[0]);
        assert_eq!(after(&output.stderr, "fleetd-"), b"it's\n.\n two\\ $x `y`\n");
        assert_eq!((end.code, end.cause, end.kept), (Some(255), None, [wanted.len() as u64, 20]));
        assert_eq!(member.state(&run, "look"), Word::End(end));
        let left = std::fs::read_dir(member.dir(&run)).unwrap();
        let left: Vec<_> = left.map(|file| file.unwrap().file_name()).collect();
        let input = left.iter().any(|name| name.to_string_lossy().starts_with("stdin"));
        assert!(!input, "its input may hold secrets: {left:?}");
    });
}

/// A variable of the command's does not become one of the script's.
#[test]
fn every_name_is_free_for_the_command() {
    everywhere(|member| {
        let mut shell = plan("echo $d$m$r$s");
        for name in ('a'..='z').chain('A'..='Z') {
            shell.env.insert(name.to_string(), format!("{name}!"));
        }
        let run = new_run();
        let output = member.start(&run, &shell, b"");
        assert_eq!(ended(&output, &run).code, Some(0), "{}: {output:?}", member.shell[0]);
        assert_eq!(after(&output.stdout, " end "), b"d!m!r!s!\n", "{}", member.shell[0]);
        let program = Program::Argv(vec![String::from("no-such-program")]);
        let run = new_run();
        let output = member.start(&run, &Plan { program, ..shell }, b"");
        assert!(ended(&output, &run).missing, "{}: {output:?}", member.shell[0]);
    });
}

/// D5 of the peer's defects: `echo partial; kill -9 $$` was reported as success.
#[test]
fn a_command_that_kills_itself_has_not_succeeded() {
    everywhere(|member| {
        let run = new_run();
        let output = member.start(&run, &plan("echo partial; kill -9 $$"), b"");
        assert_eq!(ended(&output, &run).code, Some(137), "{}", member.shell[0]);
        assert_eq!(after(&output.stdout, " end "), b"partial\n");
    });
}

#[test]
fn a_run_begins_once_or_never() {
    everywhere(|member| {
        let (run, marker) = (new_run(), member.home.path().join("marker"));
        let plan = plan("echo ran >> marker");
        let whole = preamble(&plan, &run, false);
        let cut = &whole[..whole.len() - 3];
        let output = member.ask(Script::Start, &[&run, "none", "0", CAP], cut);
        assert!(output.stdout.is_empty() && !marker.exists(), "a cut preamble: {output:?}");
        let output = member.ask(Script::Start, &[&run, "bytes", "9", CAP], &whole);
        assert_eq!(first(&output, &run), Word::Refused(String::from("input")), "cut input");
        for _ in 0..2 {
            member.start(&run, &plan, b"");
        }
        assert_eq!(std::fs::read_to_string(&marker).unwrap(), "ran\n", "{}", member.shell[0]);
        let fenced = new_run();
        assert_eq!(member.state(&fenced, "look"), Word::Absent);
        assert_eq!(member.state(&fenced, "fence"), Word::Never);
        assert_eq!(member.state(&fenced, "fence"), Word::Never);
        assert_eq!(first(&member.start(&fenced, &plan, b""), &fenced), Word::Exists);
        assert_eq!(std::fs::read_to_string(&marker).unwrap(), "ran\n");
    });
}

#[test]
fn what_cannot_begin_says_so() {
    everywhere(|member| {
        let run = new_run();
        let nowhere = Plan { folder: String::from("/nowhere"), ..plan("true") };
        let output = member.start(&run, &nowhere, b"");
        assert_eq!(first(&output, &run), Word::Refused(String::from("folder")));
        // The fence is not touched: the same run may begin after all.
        assert_eq!(ended(&member.start(&run, &plan("true"), b""), &run).code, Some(0));
        let run = new_run();
        let program = Program::Argv(vec![String::from("no-such-program")]);
        let output = member.start(&run, &Plan { program, ..plan("") }, b"");
        assert!(ended(&output, &run).missing, "{}", member.shell[0]);
    });
}

#[test]
fn a_follower_tells_at_once_and_ends_with_the_run() {
    everywhere(|member| {
        let run = new_run();
        let gate = member.home.path().join("gate");
        let line = "echo one; until [ -e gate ]; do sleep 0.05; done; echo two >&2; exit 3";
        assert!(matches!(member.begin(&run, line, "none"), Word::Began { .. }));
        let mut follower = member.spawn(Script::Follow, &[&run, "0", "0"], b"");
        let mut stdout = BufReader::new(follower.stdout.take().unwrap());
        let mut said = String::new();
        for _ in 0..2 {
            stdout.read_line(&mut said).unwrap();
        }
        assert!(said.ends_with(" follow\none\n"), "{said}");
        std::fs::write(gate, "").unwrap();
        // Its own input stays open: the run's end is what ends it.
        stdout.read_to_string(&mut said).unwrap();
        follower.wait().unwrap();
        // So does one that comes too late.
        let mut late = member.spawn(Script::Follow, &[&run, "0", "0"], b"");
        late.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        late.wait().unwrap();
        let output = member.ask(Script::Collect, &[&run, "1", "0"], b"");
        let Word::End(end) = first(&output, &run) else { panic!("{output:?}") };
        assert_eq!((end.code, end.kept), (Some(3), [4, 4]));
        assert_eq!(after(&output.stdout, " end "), b"ne\n");
        assert_eq!(after(&output.stderr, "fleetd-"), b"two\n");
    });
}

#[test]
fn cpu_use_is_seen_and_silence_is_none() {
    everywhere(|member| {
        let used = |run: &str| match first(&member.ask(Script::Usage, &[run], b""), run) {
            Word::Used { millis } => millis,
            word => panic!("{word:?}"),
        };
        let (idle, busy) = (new_run(), new_run());
        member.begin(&idle, "exec sleep 30", "none");
        member.begin(&busy, "sh -c 'while :; do :; done'", "none");
        let begun = Instant::now();
        while used(&busy) < 100 {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{}: {}",
                member.shell[0],
                used(&busy)
            );
        }
        assert!(used(&idle) < 100, "{}", member.shell[0]);
        assert!(member.ask(Script::Usage, &[&new_run()], b"").stdout.is_empty());
        for run in [idle, busy] {
            member.ask(Script::Stop, &[&run, "1", "stalled"], b"");
            let end = loop {
                if let Word::End(end) = member.state(&run, "look") {
                    break end;
                }
            };
            assert_eq!(end.cause, Some(Cause::Stalled), "{}", member.shell[0]);
        }
    });
}

#[test]
fn a_stop_reaches_those_who_ignore_it_and_those_who_left() {
    everywhere(|member| {
        let run = new_run();
        let line = "trap '' TERM; (setsid sh -c 'trap \"\" TERM HUP; echo $$ > stray;
            while :; do sleep 1; done' &); echo $$ > leader; while :; do sleep 1; done";
        member.begin(&run, line, "none");
        let pid = |name: &str| {
            let text = std::fs::read_to_string(member.home.path().join(name)).unwrap_or_default();
            text.trim().parse::<u32>().ok()
        };
        let since = Instant::now();
        while pid("stray").and(pid("leader")).is_none() {
            assert!(since.elapsed() < Duration::from_secs(10), "{}", member.shell[0]);
        }
        let asked = member.ask(Script::Stop, &[&run, "5", "total"], b"");
        assert_eq!(first(&asked, &run), Word::Stopping);
        // A second one changes nothing, not even the cause.
        member.ask(Script::Stop, &[&run, "5", "stopped"], b"");
        let Word::End(end) = member.until(&run, |word| matches!(word, Word::End(_))) else {
            panic!("no end")
        };
        assert_eq!((end.code, end.cause), (Some(137), Some(Cause::Total)), "{}", member.shell[0]);
        for name in ["stray", "leader"] {
            let stat = format!("/proc/{}/stat", pid(name).unwrap());
            let stat = std::fs::read_to_string(stat).unwrap_or_default();
            assert!(stat.is_empty() || stat.contains(") Z "), "{name}: {stat}");
        }
    });
}

/// Here `kill` does nothing, as to a process that waits for a dead disk.
#[test]
fn what_outlives_even_kill_is_told() {
    let test = |member: &Member| {
        let run = new_run();
        let Word::Began { pid: Some(pid) } = member.begin(&run, "echo out; exec sleep 300", "none")
        else {
            panic!("not begun")
        };
        let powerless = "kill() { case $1 in -TERM | -KILL) ;; *) command kill \"$@\" ;; esac; }\n";
        let script = powerless.to_owned() + &Script::Stop.text();
        let (shell, options) = member.shell.split_first().unwrap();
        let mut stop = Command::new(shell);
        stop.args(options).args(["-c", &script, "fleetd", &run, "1", "total"]);
        assert!(stop.env("HOME", member.home.path()).output().unwrap().status.success());
        let Word::End(end) = member.until(&run, |word| matches!(word, Word::End(_))) else {
            panic!("no end")
        };
        assert_eq!((end.code, end.outlived), (None, Some(pid)), "{}", member.shell[0]);
        assert_eq!((end.cause, end.kept), (Some(Cause::Total), [4, 0]), "{}", member.shell[0]);
        // Followers do not wait for it either.
        assert!(member.ask(Script::Follow, &[&run, "0", "0"], b"").status.success());
        let mut kill = Command::new("kill");
        assert!(kill.args(["-KILL", "--", &format!("-{pid}")]).status().unwrap().success());
    };
    // It takes its seconds, so in all shells at once.
    std::thread::scope(|scope| {
        for shell in SHELLS {
            scope.spawn(move || test(&Member { shell, home: tempfile::tempdir().unwrap() }));
        }
    });
}

#[test]
fn a_run_that_is_stopped_before_it_begins_does_not() {
    everywhere(|member| {
        let run = new_run();
        member.ask(Script::Stop, &[&run, "5", "stopped"], b"");
        let output = member.start(&run, &plan("echo ran > marker"), b"");
        let Word::End(end) = first(&output, &run) else { panic!("{output:?}") };
        assert_eq!((end.code, end.cause), (None, Some(Cause::Stopped)), "{}", member.shell[0]);
        assert!(!member.home.path().join("marker").exists());
    });
}

#[test]
fn an_open_input_comes_in_whole_pieces_and_once() {
    everywhere(|member| {
        let run = new_run();
        member.begin(&run, "cat; echo done", "open");
        let send = |offset: &str, length: &str, end: &str, bytes: &[u8]| {
            let output = member.ask(Script::Input, &[&run, offset, length, end], bytes);
            let Word::Held { held, .. } = first(&output, &run) else { panic!("{output:?}") };
            held
        };
        assert_eq!(send("0", "6", "0", b"hel"), 0, "a piece that was cut is none");
        assert_eq!(send("0", "6", "0", b"hello "), 6);
        assert_eq!(send("-", "0", "0", b""), 6);
        assert_eq!(send("6", "5", "1", b"world"), 11);
        member.until(&run, |word| matches!(word, Word::End(_)));
        let output = member.ask(Script::Collect, &[&run, "0", "0"], b"");
        assert_eq!(after(&output.stdout, " end "), b"hello worlddone\n", "{}", member.shell[0]);
    });
}

#[test]
fn a_flood_is_cut_on_the_disk_and_followers_do_not_see_it_twice() {
    everywhere(|member| {
        let run = new_run();
        let line = "head -c 5000000 /dev/zero; until [ -e gate ]; do sleep 0.1; done; echo end";
        member.begin(&run, line, "none");
        let mut follower = member.spawn(Script::Follow, &[&run, "0", "-"], b"");
        let mut bytes = Vec::new();
        follower.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
        follower.wait().unwrap();
        // It is ended before the cut, wherever it had come, even before its first
        // byte on a busy machine; bytes from the beginning again would make it more.
        let followed = after(&bytes, " follow").len();
        assert!(followed <= 5_000_000, "{}: {followed}", member.shell[0]);
        let file = member.dir(&run).join("stdout");
        let since = Instant::now();
        while std::fs::metadata(&file).unwrap().len() != 1 << 20 {
            assert!(since.elapsed() < Duration::from_secs(10), "{}", member.shell[0]);
        }
        std::fs::write(member.home.path().join("gate"), "").unwrap();
        let word = member.until(&run, |word| matches!(word, Word::End(_)));
        let Word::End(end) = word else { panic!("{word:?}") };
        assert_eq!((end.kept[0], end.cut[0]), (1 << 20, 5_000_000 - (1 << 20) + 4));
        assert_eq!(end.code, Some(0), "the command itself never noticed");
    });
}

#[test]
fn what_nobody_wrote_down_is_not_made_up() {
    use nix::sys::signal::{Signal, kill, killpg};
    use nix::unistd::Pid;
    everywhere(|member| {
        let run = new_run();
        member.begin(&run, "exec sleep 60", "none");
        let Word::Runs { pid: Some(pid), .. } = member.state(&run, "fence") else {
            panic!("it runs")
        };
        let file = member.dir(&run).join("pid");
        let text = std::fs::read_to_string(&file).unwrap();
        let words: Vec<&str> = text.split_whitespace().collect();
        // Another life of the machine, then the same one without its watcher.
        let other = text.replace(words[2], "another/1");
        std::fs::write(&file, other).unwrap();
        assert_eq!(member.state(&run, "look"), Word::Rebooted, "{}", member.shell[0]);
        std::fs::write(&file, &text).unwrap();
        kill(Pid::from_raw(words[3].parse().unwrap()), Signal::SIGKILL).unwrap();
        member.until(&run, |word| *word == Word::Gone { pid: Some(pid), alive: true });
        killpg(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
        member.until(&run, |word| *word == Word::Gone { pid: Some(pid), alive: false });
    });
}

#[test]
fn what_is_mirrored_goes_and_what_says_that_it_ran_stays() {
    everywhere(|member| {
        let run = new_run();
        member.start(&run, &plan("echo out"), b"");
        member.ask(Script::Sweep, &["7", OWNER], format!("{run}\n").as_bytes());
        assert!(!member.dir(&run).join("stdout").exists(), "{}", member.shell[0]);
        assert!(matches!(member.state(&run, "look"), Word::End(_)));
        let old = Command::new("touch").args(["-d", "10 days ago"]).arg(member.dir(&run)).status();
        assert!(old.unwrap().success());
        // Another daemon that works here has not fetched its end yet, maybe.
        member.ask(Script::Sweep, &["7", "another"], b"");
        assert!(member.dir(&run).exists(), "{}", member.shell[0]);
        member.ask(Script::Sweep, &["7", OWNER], b"");
        assert!(!member.dir(&run).exists(), "{}", member.shell[0]);
    });
}

#[test]
fn the_scripts_are_clean() {
    for script in [
        Script::Start,
        Script::Follow,
        Script::Collect,
        Script::Probe,
        Script::Stop,
        Script::Input,
        Script::Sweep,
    ] {
        // Words are split and names shared on purpose; the trap is filled in early.
        let excluded = "--exclude=SC2015,SC2034,SC2046,SC2064,SC2086,SC2094,SC2154,SC2317";
        let mut check = Command::new("shellcheck");
        check.args(["--shell=sh", excluded, "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut check = check.spawn().expect("shellcheck (tests/setup installs it)");
        check.stdin.take().unwrap().write_all(script.text().as_bytes()).unwrap();
        let output = check.wait_with_output().unwrap();
        assert!(output.status.success(), "{script:?}: {}", String::from_utf8_lossy(&output.stdout));
    }
}
