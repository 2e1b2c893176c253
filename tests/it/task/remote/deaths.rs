//! Daemons that are killed on the way of a task to its member.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{SETTINGS, end, gated, join, look, open, pair, runs, start_on, until_state};
use crate::support::{
    Conn, Daemon, Home, PATIENCE, Program, Random, Sshd, in_own_network, reply, run, tool_request,
    within,
};

const MEMBERS: usize = 8;
const TASKS: usize = 32;

/// A daemon with many members, which are folders of one machine.
fn crowd() -> (Daemon, Sshd) {
    let (home, sshd) = (Home::new(), Sshd::start());
    home.configure(SETTINGS);
    // A provider that answers with the prompt, and keeps count of what it was asked.
    let row = "[echo]\ncommand = [\"tee\", \"-a\", \"asked\"]\n";
    std::fs::write(home.path().join(".config/fleetd/providers.toml"), row).unwrap();
    let daemon = Daemon::start_in(home);
    for at in 0..MEMBERS {
        let folder = sshd.path(&format!("work{at}"));
        let more = json!({"work_folder": folder, "concurrency": 2, "llm_provider": "echo"});
        join(&daemon, &format!("m{at}"), &sshd, more);
    }
    (daemon, sshd)
}

/// One of many tasks, told by what it counts and prints.
struct Asked {
    at: usize,
    counter: PathBuf,
    /// `None`: the daemon did not live to answer.
    id: Option<String>,
}

fn line(at: usize, counter: &std::path::Path) -> String {
    format!("echo ran >> '{}'; sleep 0.{}; echo text {at}", counter.display(), at % 4)
}

fn ask(daemon: &Daemon, sshd: &Sshd, at: usize) -> Asked {
    let counter = sshd.path(&format!("counter{at}"));
    let member = format!("m{}", at % MEMBERS);
    let arguments = json!({"command": line(at, &counter), "member_name": member, "async": true});
    let request = tool_request(daemon, "execute_command", arguments);
    let answer = Conn::try_tcp(daemon.port()).and_then(|mut conn| conn.try_exchange(&request));
    let id = answer.ok().and_then(|answer| {
        let id = &reply(&answer)["result"]["structuredContent"]["stream_id"];
        id.as_str().map(str::to_owned)
    });
    Asked { at, counter, id }
}

/// Whoever holds an id gets the text of one run, once; nobody else gets two.
fn settle(daemon: &Daemon, tasks: &[Asked]) {
    for task in tasks {
        let Some(id) = &task.id else {
            assert!(runs(&task.counter) <= 1, "task {}", task.at);
            continue;
        };
        let shown = end(daemon, id);
        let text = json!(format!("text {}\n", task.at));
        assert_eq!(
            (&shown["state"], &shown["stdout"]["text"]),
            (&json!("completed"), &text),
            "{shown}"
        );
        assert_eq!(runs(&task.counter), 1, "{shown}");
        assert_eq!(crate::gate::ends(daemon, id), 1, "{shown}");
    }
}

/// The proof of issue 4, with commands: what was accepted is done once.
#[test]
fn thirty_two_tasks_complete_once_through_deaths_of_the_daemon() {
    let (mut daemon, sshd) = crowd();
    let mut random = Random::fresh("deaths");
    let mut tasks = Vec::new();
    while tasks.len() < TASKS {
        let burst = (TASKS - tasks.len()).min(4 + random.below(8));
        let first = tasks.len();
        tasks.extend((first..first + burst).map(|at| ask(&daemon, &sshd, at)));
        daemon = daemon.restart_after_kill9();
    }
    let answered = tasks.iter().filter(|task| task.id.is_some()).count();
    assert_eq!(answered, TASKS, "the daemon was killed after its answers");
    settle(&daemon, &tasks);
}

/// The same for certain: nothing of any start has come to the member.
#[test]
fn a_start_that_never_left_is_made_by_the_next_daemon() {
    let (daemon, sshd) = crowd();
    sshd.freeze();
    let tasks: Vec<Asked> = (0..TASKS).map(|at| ask(&daemon, &sshd, at)).collect();
    assert!(tasks.iter().all(|task| task.id.is_some()), "suspect is not offline");
    // Again and again: a death of the next one, on its way to know, loses none.
    let daemon = daemon.restart_after_kill9().restart_after_kill9();
    sshd.thaw();
    settle(&daemon, &tasks);
}

/// The same with prompts: each completes once, with its text.
#[test]
fn a_prompt_that_never_left_is_asked_by_the_next_daemon() {
    let (daemon, sshd) = crowd();
    sshd.freeze();
    let ask = |at: usize| {
        let member = format!("m{}", at % MEMBERS);
        let prompt = format!("question {at}.");
        let arguments = json!({"prompt": prompt, "member_name": member, "async": true});
        let started = daemon.tool("execute_prompt", arguments);
        (started["stream_id"].as_str().unwrap().to_owned(), prompt)
    };
    let prompts: Vec<_> = (0..TASKS).map(ask).collect();
    let daemon = daemon.restart_after_kill9().restart_after_kill9();
    sshd.thaw();
    for (at, (id, prompt)) in prompts.iter().enumerate() {
        let task = end(&daemon, id);
        assert_eq!(task["state"], "completed", "{task}");
        let response = task["prompt"]["response"].as_str().unwrap();
        assert_eq!(response.trim(), prompt, "{task}");
        assert_eq!(crate::gate::ends(&daemon, id), 1, "{task}");
        let asked = sshd.path(&format!("work{}", at % MEMBERS)).join("asked");
        let asked = std::fs::read_to_string(asked).unwrap();
        assert_eq!(asked.matches(prompt.as_str()).count(), 1, "{asked}");
    }
}

/// A wish to stop is not forgotten over it.
#[test]
fn what_was_to_stop_before_it_began_does_not_begin() {
    let (daemon, sshd) = crowd();
    sshd.freeze();
    let task = ask(&daemon, &sshd, 0);
    let id = task.id.unwrap();
    let stop = tool_request(&daemon, "stop_task", json!({"task_id": id}));
    let mut conn = daemon.connect();
    conn.write(&stop.bytes()).unwrap();
    within(PATIENCE, "the wish is stored", || {
        (look(&daemon, &id)["stop_requested"] == true).then_some(())
    });
    let daemon = daemon.restart_after_kill9();
    sshd.thaw();
    assert_eq!(end(&daemon, &id)["state"], "cancelled");
    assert!(runs(&task.counter) <= 1);
}

/// R28: killed as it enters its n-th call of a kind.
#[test]
fn r28_a_daemon_that_dies_at_any_call_runs_nothing_twice_on_a_member() {
    use crate::gate::{Whom, attach};
    let (mut daemon, sshd) = crowd();
    let (mut tasks, mut killed) = (Vec::new(), 0);
    let points = [
        ("openat", 3),
        ("openat", 17),
        ("mkdir", 1),
        ("write", 2),
        ("write", 9),
        ("linkat", 2),
        ("fdatasync", 2),
        ("fsync", 2),
        ("fsync", 5),
        ("pwrite64", 6),
        ("rename", 1),
        ("sendto", 2),
        ("sendto", 5),
        ("recvfrom", 9),
    ];
    for (call, n) in points {
        let tracer = attach(&daemon, call, n, Whom::Daemon);
        let first = tasks.len();
        tasks.extend((first..first + 3).map(|at| ask(&daemon, &sshd, at)));
        killed += usize::from(!crate::support::is_alive(daemon.pid()));
        let home = daemon.kill9();
        drop(tracer);
        daemon = Daemon::start_in(home);
    }
    settle(&daemon, &tasks);
    let answered = tasks.iter().filter(|task| task.id.is_some()).count();
    println!("{} tasks, {answered} answered, {killed} deaths at a call", tasks.len());
    assert!(killed >= points.len() / 2, "void: {killed} deaths");
    // What nobody was answered about has ended too, and says how.
    let listed = daemon.tool("list_tasks", json!({"limit": 1000}));
    for row in listed["tasks"].as_array().unwrap() {
        let ended = end(&daemon, row["task_id"].as_str().unwrap());
        let at = tasks.iter().find(|task| row["command"] == line(task.at, &task.counter)).unwrap();
        let ran = runs(&at.counter);
        match ended["state"].as_str().unwrap() {
            "completed" => assert_eq!(ran, 1, "{ended}"),
            "failed" => assert_eq!(ran, 0, "{ended}"),
            state => assert_eq!((state, ran <= 1), ("unknown", true), "{ended}"),
        }
    }
}

/// R31, in a process namespace of its own: another first process is another boot.
#[test]
fn r31_a_member_that_really_boots_makes_the_end_unknown() {
    let (daemon, mut sshd) = (Daemon::configured(SETTINGS), Sshd::contained());
    join(&daemon, "m", &sshd, json!({}));
    let counter = sshd.path("counter");
    let line = format!("echo ran >> '{}'; echo up; exec sleep 300", counter.display());
    let shell = ["run", "--on", "m", "--", "sh", "-c", &line];
    let ran = Program::start(daemon.home().fleetctl_command(&shell));
    ran.says("up");
    sshd.restart();
    let (code, _, stderr) = ran.end();
    assert_eq!(code, 9, "{stderr}");
    assert!(stderr.contains("member rebooted"), "{stderr}");
    assert_eq!(runs(&counter), 1);
    // The member works as before.
    let again = daemon.fleetctl(&["run", "--on", "m", "--", "sh", "-c", "exit 4"]);
    assert_eq!(again.code(), 4, "{again:?}");
}

/// R29: one packet in five is lost, either way.
#[test]
fn r29_fifty_megabytes_come_byte_for_byte_through_a_lossy_link() {
    in_own_network(
        "task::remote::deaths::r29_fifty_megabytes_come_byte_for_byte_through_a_lossy_link",
        || {
            let (daemon, sshd) = pair();
            let gate = sshd.path("gate");
            let rest = "seq 1 7000000 | head -c 50000000 | tee copy; exit 9";
            let id = start_on(&daemon, "m", &gated(&sshd.path("counter"), &gate, rest));
            until_state(&daemon, &id, "running");
            for side in ["--dport", "--sport"] {
                let mut command = Command::new("iptables");
                command.args(["-A", "INPUT", "-p", "tcp", side, &sshd.port().to_string()]);
                command.args(["-m", "statistic", "--mode", "random", "--probability", "0.2"]);
                command.args(["-j", "DROP"]);
                run(command, b"", PATIENCE).ok();
            }
            open(&gate);
            let task: Value = within(Duration::from_secs(100), "it ends", || {
                let task = look(&daemon, &id);
                (task["exit_code"] == 9).then_some(task)
            });
            assert_eq!(task["stdout_bytes"], 50_000_000, "{task}");
            let copy = std::fs::read(sshd.home().join("work/copy")).unwrap();
            assert!(super::rig::bytes(&daemon, &id, "stdout") == copy, "not the same bytes");
            assert_eq!(runs(&sshd.path("counter")), 1);
        },
    );
}
