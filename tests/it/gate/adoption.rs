//! R27: the daemon is killed while ten tasks run, and each is found again.

use serde_json::{Value, json};

use super::size;
use crate::support::{Daemon, Home, Random, within};
use std::path::{Path, PathBuf};
use std::time::Duration;

const TASKS: usize = 10;

/// A task, the file in which its command counts itself, and its true end.
pub struct Counted {
    pub id: String,
    counter: PathBuf,
    code: usize,
}

/// Starts a command that counts itself, lives `millis`, and ends with `code`.
/// `None` if the daemon did not live to answer.
pub fn start(daemon: &Daemon, name: &str, millis: u64, code: usize) -> Option<Counted> {
    let counter = counter(daemon.home(), name);
    let line = format!(
        "echo x >> '{}'; sleep {}.{:03}; exit {code}",
        counter.display(),
        millis / 1000,
        millis % 1000
    );
    let arguments = json!({"command": line, "async": true, "timeout_s": 0});
    let request = crate::support::tool_request(daemon, "execute_command", arguments);
    let mut conn = crate::support::Conn::try_tcp(daemon.port()).ok()?;
    let answer = conn.try_exchange(&request).ok()?;
    let result = crate::support::reply(&answer)["result"].take();
    let id = result["structuredContent"]["stream_id"].as_str()?.to_owned();
    Some(Counted { id, counter, code })
}

pub fn counter(home: &Home, name: &str) -> PathBuf {
    home.path().join(format!("count-{name}"))
}

pub fn counted(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

/// Every task, once none is open any more.
pub fn settled(daemon: &Daemon) -> Vec<Value> {
    within(Duration::from_secs(60), "no task is open", || {
        let listed = daemon.tool("list_tasks", json!({"limit": 1000}));
        let tasks = listed["tasks"].as_array().expect("a list").clone();
        let open = |task: &Value| {
            ["queued", "starting", "running"].contains(&task["state"].as_str().unwrap_or("?"))
        };
        (!tasks.iter().any(open)).then_some(tasks)
    })
}

/// How often the end of each task stands in the journal.
pub fn ends(daemon: &Daemon, id: &str) -> usize {
    let types = json!(["task.completed", "task.failed", "task.cancelled", "task.unknown"]);
    let about = json!({"types": types, "subject": format!("task/{id}"), "since": "0"});
    daemon.tool("list_events", about)["events"].as_array().expect("a list").len()
}

#[test]
fn r27_ten_tasks_are_adopted_or_settled_with_their_true_end() {
    let rounds = size(50, 5);
    let mut random = Random::fresh("adoption");
    let mut daemon = Daemon::start();
    let mut all = 0;
    for round in 0..rounds {
        let tasks: Vec<Counted> = (0..TASKS)
            .map(|n| {
                let life = random.millis(0..600).as_millis();
                let life = u64::try_from(life).expect("less than a second");
                start(&daemon, &format!("{round}-{n}"), life, n).expect("it lives")
            })
            .collect();
        // Some have ended by now, some end while nobody watches, some go on.
        daemon = daemon.restart_after_kill9();
        let settled = settled(&daemon);
        for task in &tasks {
            let found = settled.iter().find(|found| found["task_id"] == *task.id);
            let found = found.unwrap_or_else(|| panic!("{} is lost", task.id));
            assert_eq!(found["exit_code"], task.code, "{found}");
            assert_eq!(found["state"], if task.code == 0 { "completed" } else { "failed" });
            assert_eq!(counted(&task.counter), 1, "{found}");
            assert_eq!(ends(&daemon, &task.id), 1, "{found}");
        }
        all += tasks.len();
    }
    println!("adoption: {rounds} rounds, {all} tasks, each ran once and told its true end once");
}
