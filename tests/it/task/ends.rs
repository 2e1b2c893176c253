//! How commands end, and what is said about it.

use std::time::{Duration, Instant};

use fleetd::config;
use fleetd::fleet::{FleetError, Stdin};
use fleetd::model::{Exit, OutputStream, Principal, Project, Scope, TaskState};

use super::rig::{Rig, argv, eventually, owner, sh};

#[tokio::test(flavor = "multi_thread")]
async fn every_exit_status_is_the_commands_own() {
    let rig = Rig::new().await;
    let mut tasks = Vec::new();
    for code in 0..256 {
        tasks.push((code, rig.begin(sh(&format!("exit {code}"))).await.id));
    }
    for (code, id) in tasks {
        let task = rig.end(id).await;
        let state = if code == 0 { TaskState::Completed } else { TaskState::Failed };
        assert_eq!((task.state, task.exit), (state, Some(Exit::Code(code))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_not_an_exit_status() {
    let rig = Rig::new().await;
    for signal in [1, 2, 9, 15] {
        let task = rig.run(sh(&format!("kill -{signal} $$"))).await;
        assert_eq!((task.state, task.exit), (TaskState::Failed, Some(Exit::Signal(signal))));
        let task = rig.run(sh(&format!("exit {}", 128 + signal))).await;
        assert_eq!(task.exit, Some(Exit::Code(128 + signal)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_told_in_order_and_once() {
    let rig = Rig::new().await;
    let task = rig.run(sh("echo one; echo two; echo oops >&2; exit 3")).await;
    let events = rig.events(task.id).await;
    let topics: Vec<_> = events.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(topics, ["task.started", "task.failed"]);
    let (started, failed) = (&events[0].1, &events[1].1);
    assert_eq!(started["pid"], task.pid.unwrap());
    assert_eq!(started["run_id"], task.run.unwrap().to_string());
    assert_eq!(failed["exit_code"], 3);
    assert_eq!(failed["signal"], serde_json::Value::Null);
    assert_eq!(failed["stdout_bytes"], 8);
    assert_eq!(failed["stderr_bytes"], 5);
    assert_eq!(failed["last_lines"], serde_json::json!(["oops"]));
    assert!(failed.get("reason").is_none(), "fleetd did not end it: {failed}");
    assert_eq!((task.stdout_bytes, task.stderr_bytes), (8, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_fails_and_says_why() {
    let rig = Rig::new().await;
    let mut nowhere = sh("true");
    nowhere.run_from = Some(String::from("/no/such/folder"));
    for (spec, why) in [
        (nowhere, "/no/such/folder"),
        (argv(&["no-such-program-here"]), "no-such-program-here"),
        (argv(&["/etc/passwd"]), "/etc/passwd"),
    ] {
        let task = rig.run(spec).await;
        assert_eq!((task.state, task.exit), (TaskState::Failed, None));
        let reason = task.reason.unwrap();
        assert!(reason.contains(why), "{reason}");
        assert_eq!(rig.topics(task.id).await, ["task.failed"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_before_it_is_a_task() {
    let rig = Rig::new().await;
    let mut nul = sh("true");
    nul.env.insert(String::from("A"), String::from("a\0b"));
    let mut member = sh("true");
    member.member = Some(String::from("mars"));
    for spec in [sh(" "), argv(&[]), argv(&["a\0"]), nul, member] {
        assert!(rig.fleet.execute(&owner(), spec).await.is_err());
    }
    assert!(rig.fleet.tasks(&owner(), &[], 10).await.unwrap().is_empty());
    assert_eq!(rig.fleet.open_tasks(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_length_are_two_limits() {
    let rig = Rig::new().await;
    let mut silent = sh("echo hello; sleep 60");
    silent.inactivity = Some(Duration::from_millis(300));
    let mut talking = sh("while :; do echo tick; sleep 0.05; done");
    talking.inactivity = Some(Duration::from_secs(5));
    talking.total = Some(Duration::from_millis(600));
    let mut fine = sh("for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done");
    fine.inactivity = Some(Duration::from_millis(400));
    let (silent, talking, fine) = tokio::join!(rig.run(silent), rig.run(talking), rig.run(fine));
    assert_eq!(silent.state, TaskState::Failed);
    assert_eq!(silent.reason.as_deref(), Some("ended after 0.3 s without output"));
    assert_eq!(talking.state, TaskState::Failed);
    assert_eq!(talking.reason.as_deref(), Some("ended after 0.6 s in all"));
    assert_eq!((fine.state, fine.reason), (TaskState::Completed, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_tried_again_as_often_as_asked() {
    let rig = Rig::new().await;
    let count = rig.dir.path().join("count");
    let line = format!("echo x >> '{0}'; test $(wc -l < '{0}') -ge 3", count.display());
    let mut spec = sh(&line);
    spec.retries = 5;
    let task = rig.run(spec).await;
    assert_eq!(task.state, TaskState::Completed);
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\nx\nx\n");
    let topics = rig.topics(task.id).await;
    assert_eq!(topics, ["task.started", "task.started", "task.started", "task.completed"]);

    let mut hopeless = sh("exit 9");
    hopeless.retries = 2;
    hopeless.restart = Some(fleetd::fleet::Program::Shell(String::from("cat; exit 10")));
    hopeless.stdin = Stdin::Bytes("again".into());
    let task = rig.run(hopeless).await;
    assert_eq!((task.state, task.exit), (TaskState::Failed, Some(Exit::Code(10))));
    assert_eq!(rig.stdout(task.id).await, "again");
    assert_eq!(rig.topics(task.id).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_left_behind_does_not_hold_up_the_end() {
    let rig = Rig::new().await;
    let since = Instant::now();
    let task = rig.run(sh("sleep 30 & echo $!; exit 4")).await;
    assert_eq!(task.exit, Some(Exit::Code(4)));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let child = rig.stdout(task.id).await.trim().parse().unwrap();
    assert!(super::rig::lives(child), "it is left alone");
    super::rig::kill(child);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_task_looks_like_an_absent_one() {
    let rig = Rig::new().await;
    let blue = Project::parse("blue").unwrap();
    let of_project = |name: &str| Principal {
        id: name.into(),
        projects: vec![Project::parse(name).unwrap()],
        scopes: vec![Scope::Read, Scope::Run],
        ..Principal::owner()
    };
    let mut spec = sh("echo secret");
    spec.project = blue;
    let task = rig.fleet.execute(&of_project("blue"), spec.clone()).await.unwrap();
    rig.end(task.id).await;
    let red = of_project("red");
    let mut other = of_project("blue");
    other.id = "somebody else".into();
    for foreign in [red.clone(), other] {
        let absent = fleetd::model::TaskId::random();
        for id in [task.id, absent] {
            let is_absent = |error: FleetError| {
                assert!(matches!(error, FleetError::NoTask(named) if named == id), "{error}");
            };
            is_absent(rig.fleet.task(&foreign, id).await.unwrap_err());
            is_absent(rig.fleet.wait(&foreign, id).await.unwrap_err());
            is_absent(rig.fleet.stop(&foreign, id).await.unwrap_err());
            let stdout = OutputStream::Stdout;
            is_absent(rig.fleet.output(&foreign, id, stdout, 0, 9).await.unwrap_err());
            let run = task.run.unwrap();
            is_absent(rig.fleet.output_after(&foreign, id, run, stdout, 0).await.unwrap_err());
            is_absent(rig.fleet.input(&foreign, id, 0, "x".into(), true).await.unwrap_err());
        }
        assert!(rig.fleet.tasks(&foreign, &[], 10).await.unwrap().is_empty());
    }
    assert!(rig.fleet.execute(&red, spec).await.is_err(), "not its project");
    assert_eq!(rig.fleet.tasks(&owner(), &[], 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_in_order_and_no_more_than_allowed() {
    let settings = config::Tasks { concurrency: 1, max_queued: 3, ..config::Tasks::default() };
    let rig = Rig::with(settings).await;
    let log = rig.dir.path().join("log");
    let gate = rig.dir.path().join("gate");
    let line = |name: &str| {
        format!(
            "while [ ! -e '{}' ]; do sleep 0.01; done; echo {name} >> '{}'",
            gate.display(),
            log.display()
        )
    };
    let mut tasks = Vec::new();
    for name in ["a", "b", "c", "d"] {
        tasks.push(rig.begin(sh(&line(name))).await);
    }
    let states: Vec<_> = tasks.iter().map(|task| task.state).collect();
    assert_eq!(states[0], TaskState::Running);
    assert!(states[1..].iter().all(|state| *state == TaskState::Queued), "{states:?}");
    let full = rig.fleet.execute(&owner(), sh("true")).await.unwrap_err();
    assert!(matches!(full, FleetError::QueueFull { queued: 3, .. }), "{full}");
    std::fs::write(&gate, "").unwrap();
    for task in &tasks {
        assert_eq!(rig.end(task.id).await.state, TaskState::Completed);
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "a\nb\nc\nd\n");
    let events = rig.events(tasks[2].id).await;
    assert_eq!((events[0].0.as_str(), &events[0].1["position"]), ("task.queued", &2.into()));
    eventually("all places are free", async || rig.fleet.open_tasks() == 0).await;
    let member = &rig.fleet.members(&owner()).await.unwrap()[0];
    assert_eq!((member.running, member.queued), (0, 0));
    assert!(member.load_1m.is_some() && member.memory_total.unwrap() > member.memory_used.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_answered_quickly() {
    let rig = Rig::new().await;
    let mut times = Vec::new();
    for _ in 0..50 {
        let since = Instant::now();
        let task = rig.begin(sh("sleep 0.05")).await;
        times.push(since.elapsed());
        assert!(task.started.is_some());
        rig.end(task.id).await;
    }
    times.sort();
    println!("median {:?}, worst {:?}", times[25], times[49]);
    // Generous for a busy machine; the figures are the benchmark's.
    assert!(times[25] < Duration::from_millis(250), "{:?}", times[25]);
}
