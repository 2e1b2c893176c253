//! Bytes in and out.

use std::collections::BTreeSet;
use std::time::Duration;

use fleetd::bus::{Delivery, Start};
use fleetd::config;
use fleetd::fleet::Stdin;
use fleetd::model::{OutputStream, TaskState};
use serde_json::Value;

use super::rig::{Rig, argv, eventually, owner, sh};

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_comes_back_as_it_was() {
    let rig = Rig::new().await;
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let mut spec = sh("tee /dev/stderr");
    spec.stdin = Stdin::Bytes(bytes.clone().into());
    let task = rig.run(spec).await;
    assert_eq!(task.state, TaskState::Completed);
    for stream in [OutputStream::Stdout, OutputStream::Stderr] {
        assert!(rig.output(task.id, stream).await == bytes, "{stream:?} differs");
    }
    assert_eq!((task.stdout_bytes, task.stderr_bytes), (200_000, 200_000));
    let page = rig.fleet.output(&owner(), task.id, OutputStream::Stdout, 254, 4).await.unwrap();
    assert_eq!(&page.bytes[..], [254, 255, 0, 1]);
    assert_eq!((page.offset, page.kept, page.cut, page.ended), (254, 200_000, 0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_input_is_empty() {
    let rig = Rig::new().await;
    let task = rig.run(sh("cat; readlink /proc/self/fd/0")).await;
    assert_eq!(rig.stdout(task.id).await, "/dev/null\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_cap_bytes_are_counted_and_the_command_goes_on() {
    let settings = config::Tasks { max_output_mib: 1, ..config::Tasks::default() };
    let rig = Rig::with(settings).await;
    let task = rig.run(sh("head -c 5000000 /dev/zero; echo done >&2")).await;
    assert_eq!((task.state, task.stdout_bytes), (TaskState::Completed, 5_000_000));
    let page = rig.fleet.output(&owner(), task.id, OutputStream::Stdout, 0, 10).await.unwrap();
    assert_eq!((page.kept, page.cut), (1 << 20, 5_000_000 - (1 << 20)));
    let marker = std::fs::read_to_string(rig.run_dir(&task).join("stdout.cut")).unwrap();
    assert_eq!(marker.trim().parse::<u64>().unwrap(), page.cut);
    assert_eq!(rig.output(task.id, OutputStream::Stderr).await, b"done\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_waits_does_not_keep_the_next_run_from_beginning() {
    let rig = Rig::new().await;
    let (gate, ran) = (rig.dir.path().join("gate"), rig.dir.path().join("ran"));
    // What is left over holds the input open, and nobody reads it any more.
    let mut spec = sh(&format!(
        "if [ -e '{ran}' ]; then wc -c; exit; fi; touch '{ran}'
        exec 3<&0; sleep 5 <&3 >/dev/null 2>&1 &
        until [ -e '{gate}' ]; do sleep 0.02; done; exit 1",
        ran = ran.display(),
        gate = gate.display()
    ));
    spec.stdin = Stdin::Open;
    spec.retries = 1;
    let task = rig.begin(spec).await;
    let owner = owner();
    let much = vec![b'x'; 3 << 20];
    assert_eq!(rig.fleet.input(&owner, task.id, 0, much.into(), false).await.unwrap(), 3 << 20);
    let rest = rig.fleet.input(&owner, task.id, 3 << 20, "end".into(), true);
    tokio::pin!(rest);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut rest).await.is_err());
    std::fs::write(gate, "").unwrap();
    let held = tokio::time::timeout(Duration::from_secs(20), rest).await.unwrap().unwrap();
    assert_eq!(held, (3 << 20) + 3);
    assert_eq!(rig.end(task.id).await.state, TaskState::Completed);
    assert_eq!(rig.stdout(task.id).await.trim(), held.to_string(), "the next run got it all");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_told_while_it_comes() {
    let rig = Rig::new().await;
    let mut subscription = rig.subscribe(Start::Now);
    let task = rig
        .begin(sh(r"printf 'caf\303'; sleep 0.2; printf '\251\n'; echo no >&2; printf 'end\303'"))
        .await;
    let (mut texts, mut topics) = ((String::new(), String::new()), Vec::new());
    while topics.last().map(String::as_str) != Some("task.completed") {
        match subscription.next().await.unwrap() {
            Delivery::Events(chunk) => {
                topics.extend(chunk.events().map(|event| event.topic.to_owned()));
            }
            Delivery::Signals(frames) => {
                for frame in frames {
                    let body: Value = serde_json::from_slice(&frame.body()).unwrap();
                    let data = &body["data"];
                    assert_eq!(data["task_id"], task.id.to_string());
                    let stdout = data["stream"] == "stdout";
                    let text = if stdout { &mut texts.0 } else { &mut texts.1 };
                    text.push_str(data["text"].as_str().unwrap());
                }
            }
            Delivery::Gap(gap) => panic!("{gap:?}"),
        }
    }
    assert_eq!(texts, (String::from("café\nend\u{fffd}"), String::from("no\n")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_told_in_few_frames() {
    let rig = Rig::new().await;
    let mut subscription = rig.subscribe(Start::Now);
    let task = rig.begin(sh("head -c 20000000 /dev/zero | tr '\\0' 'x'; sleep 0.3")).await;
    let mut frames = 0;
    loop {
        match subscription.next().await.unwrap() {
            Delivery::Signals(some) => {
                for frame in &some {
                    let body: Value = serde_json::from_slice(&frame.body()).unwrap();
                    assert!(body["data"]["text"].as_str().unwrap().len() <= 16 * 1024);
                }
                frames += some.len();
            }
            Delivery::Events(chunk) if chunk.events().any(|e| e.topic == "task.completed") => break,
            _ => {}
        }
    }
    let ended = rig.row(task.id).await;
    let took = ended.ended.unwrap().millis_since(ended.started.unwrap());
    let bound = took / 50 + 6;
    assert!(frames > 0 && (frames as u64) <= bound, "{frames} frames in {took} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_output_is_woken_by_it() {
    let rig = Rig::new().await;
    let gate = rig.dir.path().join("gate");
    let line =
        format!("echo one; while [ ! -e '{}' ]; do sleep 0.01; done; echo two", gate.display());
    let task = rig.begin(sh(&line)).await;
    let owner = owner();
    let after = |kept| {
        let wait = rig.fleet.output_after(&owner, task.id, OutputStream::Stdout, kept);
        tokio::time::timeout(Duration::from_secs(10), wait)
    };
    after(0).await.unwrap().unwrap();
    assert_eq!(rig.stdout(task.id).await, "one\n");
    let (woken, ()) = tokio::join!(after(4), async { std::fs::write(&gate, "").unwrap() });
    woken.unwrap().unwrap();
    assert_eq!(rig.stdout(task.id).await, "one\ntwo\n");
    after(8).await.unwrap().unwrap();
    assert!(rig.end(task.id).await.state.is_terminal());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_input_survives_the_daemon() {
    let rig = Rig::new().await;
    let mut spec = argv(&["cat"]);
    spec.stdin = Stdin::Open;
    let task = rig.begin(spec).await;
    let send = async |rig: &Rig, offset, bytes: &'static str, end| {
        rig.fleet.input(&owner(), task.id, offset, bytes.into(), end).await
    };
    assert_eq!(send(&rig, 0, "hello ", false).await.unwrap(), 6);
    // A repeated piece changes nothing; a hole is refused.
    assert_eq!(send(&rig, 0, "hello ", false).await.unwrap(), 6);
    assert!(send(&rig, 7, "x", false).await.is_err());
    eventually("it is passed on", async || rig.stdout(task.id).await == "hello ").await;
    let rig = rig.restart().await;
    assert_eq!(rig.recovery.adopted, 1);
    assert_eq!(send(&rig, 6, "world", false).await.unwrap(), 11);
    eventually("it is passed on", async || rig.stdout(task.id).await == "hello world").await;
    assert_eq!(send(&rig, 11, "!", true).await.unwrap(), 12);
    let task = rig.end(task.id).await;
    assert_eq!((task.state, task.stdout_bytes), (TaskState::Completed, 12));
    assert!(rig.fleet.input(&owner(), task.id, 12, "late".into(), false).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_waits_for_a_slow_reader_and_learns_of_a_closed_one() {
    let rig = Rig::new().await;
    let gate = rig.dir.path().join("gate");
    let mut spec = sh(&format!("while [ ! -e '{}' ]; do sleep 0.01; done; wc -c", gate.display()));
    spec.stdin = Stdin::Open;
    let task = rig.begin(spec).await;
    let piece = bytes::Bytes::from(vec![b'x'; 1_500_000]);
    let owner = owner();
    rig.fleet.input(&owner, task.id, 0, piece.clone(), false).await.unwrap();
    let second = rig.fleet.input(&owner, task.id, 1_500_000, piece.clone(), true);
    tokio::pin!(second);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
    assert!(early.is_err(), "nobody read, yet more was taken");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(second.await.unwrap(), 3_000_000);
    rig.end(task.id).await;
    assert_eq!(rig.stdout(task.id).await.trim(), "3000000");

    let mut deaf = sh("exec <&-; sleep 20");
    deaf.stdin = Stdin::Open;
    let task = rig.begin(deaf).await;
    let since = std::cell::Cell::new(0);
    eventually("the sender is told", async || {
        match rig.fleet.input(&owner, task.id, since.get(), "x".into(), false).await {
            Ok(held) => since.set(held),
            Err(error) => return error.to_string().contains("no longer reads"),
        }
        false
    })
    .await;
    rig.fleet.stop(&owner, task.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_inherits_nothing_it_should_not() {
    let rig = Rig::new().await;
    // Both without the flag that closes them at an exec, as a starter may leave them.
    let leaked = std::fs::File::open("/etc/passwd").unwrap();
    nix::fcntl::fcntl(&leaked, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    let mut spec = sh("ls /proc/$$/fd; umask; env; pwd; ps -o sid= -p $$; echo $$");
    spec.env.insert(String::from("MINE"), String::from("yes"));
    spec.run_from = Some(String::from("/tmp"));
    let task = rig.run(spec).await;
    drop(leaked);
    let text = rig.stdout(task.id).await;
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert_eq!(lines[..4], ["0", "1", "2", "0022"]);
    assert!(lines.contains(&"MINE=yes") && lines.contains(&"/tmp"));
    let allowed: BTreeSet<_> = [
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
        "MINE",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    ]
    .into();
    for (name, _) in lines.iter().filter_map(|line| line.split_once('=')) {
        assert!(allowed.contains(name) || name.starts_with("LC_"), "{name} was passed on");
    }
    let end: Vec<u32> = lines[lines.len() - 2..].iter().map(|id| id.parse().unwrap()).collect();
    assert_eq!(end[0], end[1], "the command leads a session of its own");
    rig.fleet.set_command_umask(0o077);
    let task = rig.run(sh("umask")).await;
    assert_eq!(rig.stdout(task.id).await, "0077\n");
}
