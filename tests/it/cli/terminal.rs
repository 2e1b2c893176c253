//! What reaches a person's terminal: S15, judged by a terminal's own parser.

use std::time::Duration;

use serde_json::json;
use vte::{Params, Parser, Perform};

use crate::support::{Daemon, PATIENCE, distinct_id, eventually, run};

/// Foreign text that wants to drive a terminal.
const HOSTILE: &[&str] = &[
    "\u{1b}[2J\u{1b}[H",
    "\u{1b}]0;title\u{7}",
    "\u{1b}]52;c;cm0gLXJmIC8=\u{1b}\\",
    "\u{1b}]8;;http://evil.example\u{1b}\\click\u{1b}]8;;\u{1b}\\",
    "\u{1b}P$q\"p\u{1b}\\",
    "\u{1b}_G\u{1b}\\",
    "\u{1b}c",
    "\u{1b}[6n",
    "\u{1b}[?1049h",
    "\u{9b}31m\u{9d}0;x\u{9c}\u{90}q\u{9c}",
    "\u{8}\u{8}\u{8}\rforged\u{7}\u{0}\u{b}\u{c}\u{7f}",
    "\u{202e}gnp.exe\u{2066}\u{200f}",
    "\u{1b}[",
    "\u{1b}]unfinished",
    "a\u{1b}\u{1b}[31mred",
];

/// Notes everything a terminal would act on.
#[derive(Default)]
struct Judge {
    text: String,
    found: Vec<String>,
}

impl Perform for Judge {
    fn print(&mut self, c: char) {
        if matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            self.found.push(format!("reorders text: {c:?}"));
        }
        self.text.push(c);
    }

    fn execute(&mut self, byte: u8) {
        // The terminal's driver itself makes CR LF of our line ends.
        match byte {
            b'\n' => self.text.push('\n'),
            b'\r' | b'\t' => {}
            _ => self.found.push(format!("control 0x{byte:02x}")),
        }
    }

    fn hook(&mut self, _: &Params, _: &[u8], _: bool, action: char) {
        self.found.push(format!("device control string {action:?}"));
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        self.found.push(format!("operating system command {params:?}"));
    }

    fn csi_dispatch(&mut self, params: &Params, _: &[u8], _: bool, action: char) {
        // Colours and weights are ours and harmless.
        if action != 'm' {
            self.found.push(format!("control sequence {params:?} {action:?}"));
        }
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
        self.found.push(format!("escape {:?}", char::from(byte)));
    }
}

/// Runs `fleetctl args` on a terminal and returns what it showed.
fn on_a_terminal(daemon: &Daemon, args: &str) -> String {
    let mut command = daemon.home().command("script");
    let line = format!("{} {args}", env!("CARGO_BIN_EXE_fleetctl"));
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
    let output = run(command, b"", PATIENCE).ok();
    let mut judge = Judge::default();
    Parser::new().advance(&mut judge, output.stdout.as_bytes());
    assert_eq!(judge.found, Vec::<String>::new(), "{args}: {:?}", output.stdout);
    judge.text
}

#[test]
fn s15_no_foreign_text_drives_a_terminal() {
    let daemon = Daemon::start();
    for text in HOSTILE {
        let data = json!({ "text": text, "list": [text] });
        daemon.publish("custom.hostile", &distinct_id("hostile"), data);
        let event = json!({
            "specversion": "1.0", "type": "custom.hostile", "source": format!("x{text}"),
            "id": format!("{}{text}", distinct_id("id")), "subject": format!("s{text}"),
        });
        // Refused or taken: if it is taken, it has to be harmless when shown.
        daemon.post_event(&event);
        let command = format!("printf '%s' 'mark{text}' ; : '{text}'").replace('\0', "");
        daemon.tool("execute_command", json!({ "command": command }));
    }
    // A file that a person edits is quoted in the log when it is wrong.
    daemon.home().configure("[log]\nlevel = \"\\u001b[31mloud\\u001b]0;x\\u0007\"\n");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the log quotes it", || daemon.home().logs().contains("loud"));

    let tasks = daemon.tool("list_tasks", json!({}));
    let newest = tasks["tasks"][0]["task_id"].as_str().expect("an id");
    let commands = [
        "events --since 0",
        "events --json --since 0",
        "tasks",
        "tasks --json",
        &format!("tasks show {newest}"),
        "status",
        "logs",
    ];
    for command in commands {
        let shown = on_a_terminal(&daemon, command);
        assert!(!shown.trim().is_empty(), "void: '{command}' showed nothing");
    }
    assert!(on_a_terminal(&daemon, "logs").contains("loud"), "void: the log was not quoted");
    assert!(on_a_terminal(&daemon, "tasks").contains("mark"), "void: no task was shown");
    assert!(on_a_terminal(&daemon, "events --since 0").contains("custom.hostile"));
    drop(daemon.terminate(Duration::from_secs(5)));
}
