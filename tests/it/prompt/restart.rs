//! What survives the daemon: the run, its text, its session.

use serde_json::json;

use super::rig::Rig;
use crate::support::{ANSWER, eventually};

#[test]
fn a_prompt_outlives_its_daemon_and_completes_once_with_its_text() {
    for ends_while_away in [false, true] {
        let rig = Rig::new();
        let id = rig.begin("HOLD on", json!({}));
        eventually("there is text", || rig.monitor(&id)["prompt"]["text"] == "Hel");
        let rig = if ends_while_away {
            let home = rig.daemon.home().state().join("runs");
            rig.daemon.signal(nix::sys::signal::Signal::SIGSTOP);
            rig.model.release();
            eventually("it has ended without its daemon", || {
                let runs = std::fs::read_dir(&home).unwrap().flatten();
                runs.filter(|run| run.path().join("status").exists()).count() == 1
            });
            rig.restart()
        } else {
            let rig = rig.restart();
            rig.model.release();
            rig
        };
        let task = rig.end(&id);
        assert_eq!(
            (&task["state"], &task["prompt"]["response"]),
            (&json!("completed"), &json!(ANSWER))
        );
        let history = rig.history(&id);
        let ends: Vec<_> = history.iter().filter(|(topic, _)| topic == "task.completed").collect();
        assert_eq!(ends.len(), 1, "{history:?}");
        assert_eq!(ends[0].1["prompt"]["response"], ANSWER);
        assert_eq!(rig.model.asked().len(), 1, "it ran once");
        // And the conversation goes on, by its id and as the last one.
        let session = task["prompt"]["sessionId"].clone();
        let rig = rig.restart();
        for wish in [json!({ "session_id": session }), json!({}), json!({ "resume": session })] {
            let again = rig.end(&rig.begin("again", wish));
            assert_eq!(again["prompt"]["sessionId"], session, "{again}");
        }
        assert!(rig.model.asked().last().unwrap().to_string().contains("HOLD on"));
        let fresh = rig.end(&rig.begin("anew", json!({ "resume": false })));
        assert_ne!(fresh["prompt"]["sessionId"], session);
    }
}
