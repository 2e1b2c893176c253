//! Words that somebody chose to do harm with, and machines that do not answer.

use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rig::{SETTINGS, join, pair, run_on};
use crate::support::{Daemon, Output, Sshd, reply, run, tool_request};

/// Pieces that some shell, option parser, path or terminal reads in its own way.
/// `@` stands for the canary's path.
const PIECES: &[&str] = &[
    "$(touch @)",
    "`touch @`",
    ";touch @;",
    "|touch @",
    "&touch @&",
    "\ntouch @\n",
    "'$(touch @)'",
    "'; touch @; '",
    "\"; touch @; \"",
    "\\'; touch @ #",
    "${IFS}touch${IFS}@",
    "-oProxyCommand=touch @",
    "--",
    "-",
    "-h",
    "!touch @",
    "%h$(touch @)",
    "*",
    "?",
    "[a-z]",
    "{a,b}",
    "~root",
    "..",
    "../../x",
    "\u{1b}]0;x\u{7}",
    "\u{202e}evil",
    "a\tb",
    "a\r\nb",
    "\u{7f}",
    "é",
    "日本",
    " ",
    "  a  b ",
    "<@",
    ">@",
    "$HOME",
    "$((1+1))",
    "\\",
    "\\n",
    "'",
    "\"",
    "''",
    "\\'",
    "a'b\"c`d$e\\f",
];

/// The pieces alone, at the front, at the end and in the middle: over 500 words.
fn words(canary: &str) -> Vec<String> {
    let pieces = PIECES.iter().map(|piece| piece.replace('@', canary));
    let shapes = |piece: String| {
        [
            piece.clone(),
            format!("x{piece}"),
            format!("{piece}x"),
            format!("x{piece}y"),
            format!("-{piece}"),
            format!(" {piece}"),
            format!("{piece} "),
            format!("a.b{piece}"),
            format!("{piece}{piece}"),
            format!("'{piece}'"),
            format!("\"{piece}\""),
            format!("$({piece})"),
        ]
    };
    let words: Vec<String> = pieces.flat_map(shapes).collect();
    assert!(words.len() > 500, "{}", words.len());
    words
}

fn call(daemon: &Daemon, tool: &str, arguments: Value) -> Value {
    reply(&daemon.send(&tool_request(daemon, tool, arguments)))
}

/// S13, where they name members, machines and users: all are refused, at once,
/// before anything is asked of anybody.
#[test]
fn s13_hostile_names_hosts_and_users_register_nobody() {
    // A machine that nobody has a reason to ask.
    let (daemon, sshd) = (Daemon::start(), Sshd::start());
    let canary = sshd.path("canary");
    let before = sshd.log().len();
    let since = Instant::now();
    let words = words(canary.to_str().unwrap());
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let hostile = words.iter().filter(|word| word.starts_with('-') || !word.chars().all(plain));
    for (at, word) in hostile.enumerate() {
        let at = at + at / 12;
        let field = ["friendly_name", "host", "username"][at % 3];
        let mut arguments = json!({
            "friendly_name": "x", "host": "127.0.0.1", "port": sshd.port(), "username": sshd.user(),
            "key_path": sshd.key(), "accept_new": true, "work_folder": sshd.path("elsewhere"),
        });
        arguments[field] = json!(word);
        let answer = call(&daemon, "register_member", arguments);
        let refused = answer["result"]["isError"] == true || answer["error"].is_object();
        assert!(refused, "{field} {word:?}: {answer}");
        let text = answer.to_string();
        assert!(!text.contains("\\u001b") && !text.contains('\u{202e}'), "{text}");
    }
    println!("{} words refused in {:?}", words.len(), since.elapsed());
    assert_eq!(sshd.log().len(), before, "the machine was asked");
    assert_eq!(daemon.tool("list_members", json!({}))["total"], 1);
    assert!(!canary.exists() && !sshd.path("elsewhere").exists());
}

/// S13, where they are folders, words of a command and values: they arrive byte
/// for byte, or are refused.
#[test]
fn s13_hostile_folders_words_and_values_arrive_as_they_are() {
    let (daemon, sshd) = pair();
    let canary = sshd.path("canary");
    let words = words(canary.to_str().unwrap());
    // As arguments of one command after the other, two hundred at a time.
    for some in words.chunks(200) {
        let mut args = vec!["run", "--on", "m", "--", "printf", "%s\\0"];
        args.extend(some.iter().map(String::as_str));
        let said: Output = daemon.fleetctl(&args).ok();
        let wanted: String = some.iter().flat_map(|word| [word.as_str(), "\0"]).collect();
        assert_eq!(said.stdout, wanted);
    }
    // As values, all at once.
    let env: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(at, word)| (format!("W{at}"), json!(word))).collect();
    let line =
        (0..words.len()).map(|at| format!("printf '%s\\0' \"$W{at}\"\n")).collect::<String>();
    let said = run_on(&daemon, json!({"command": line, "env": env}));
    let wanted: String = words.iter().flat_map(|word| [word.as_str(), "\0"]).collect();
    assert_eq!(said["stdout"], wanted, "{said}");
    // As names of values: refused, by name.
    for word in words.iter().filter(|word| !word.is_empty()) {
        let env = json!({ word.as_str(): "x" });
        let arguments = json!({"command": "env", "member_name": "m", "env": env});
        let answer = call(&daemon, "execute_command", arguments);
        assert_eq!(answer["result"]["isError"], true, "{word:?}: {answer}");
    }
    assert!(!canary.exists());
}

/// S13, where they are folders that exist: a run begins in that very folder.
#[test]
fn s13_a_hostile_folder_is_the_folder() {
    let (daemon, sshd) = pair();
    let canary = sshd.path("canary");
    for piece in PIECES {
        let name = piece.replace('@', "canary").replace('/', "_");
        let folder = sshd.path("folders").join(format!("d{name}"));
        std::fs::create_dir_all(&folder).unwrap();
        // What a command prints last loses its line ends in `$(…)`, not here.
        let line = "printf '%s' \"$PWD\" | od -An -v -tx1 | tr -d ' \\n'";
        let said = run_on(&daemon, json!({"command": line, "run_from": folder}));
        let hex: String =
            folder.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(said["stdout"], hex, "{folder:?}: {said}");
        // And as the folder of a member, or refused.
        let more = json!({
            "friendly_name": "h", "host": "127.0.0.1", "port": sshd.port(),
            "username": sshd.user(), "key_path": sshd.key(), "work_folder": folder.join("w"),
        });
        let answer = call(&daemon, "register_member", more);
        if answer["result"]["isError"] == true {
            assert!(name.chars().any(char::is_control), "{name:?}: {answer}");
            assert!(!folder.join("w").exists());
        } else {
            assert!(folder.join("w").is_dir(), "{name:?}: {answer}");
            daemon.tool("remove_member", json!({"member_name": "h"}));
        }
    }
    let made = std::fs::read_dir(sshd.path("folders")).unwrap().count();
    assert_eq!(made, PIECES.len(), "others were made");
    assert!(!canary.exists() && !sshd.home().join("canary").exists());
}

/// S17, by what the server saw: commands and files are asked for, and nothing
/// else; one identity is offered, and no other that lies about.
#[test]
fn s17_nothing_is_forwarded_and_no_other_key_offered() {
    let sshd =
        Sshd::with("LogLevel DEBUG1\nAllowAgentForwarding yes\nX11Forwarding yes\nAcceptEnv *");
    let daemon = Daemon::configured(SETTINGS);
    let ssh = daemon.home().path().join(".ssh");
    std::fs::create_dir_all(&ssh).unwrap();
    let other = sshd.new_key("id_ed25519", "ed25519", "");
    for end in ["", ".pub"] {
        let name = format!("id_ed25519{end}");
        std::fs::copy(other.with_file_name(&name), ssh.join(&name)).unwrap();
    }
    let eager = "Host *\nForwardAgent yes\nForwardX11 yes\nSendEnv *\nSetEnv EVIL=1\nRequestTTY force\n\
                 LocalForward 7 localhost:7\nRemoteForward 7 localhost:7\nControlMaster auto\n\
                 ControlPath ~/.ssh/control\nStrictHostKeyChecking no\n";
    std::fs::write(ssh.join("config"), eager).unwrap();
    let refused = call(
        &daemon,
        "register_member",
        json!({
            "friendly_name": "m", "host": "127.0.0.1", "port": sshd.port(), "username": sshd.user(),
            "key_path": sshd.key(), "work_folder": sshd.path("w"),
        }),
    );
    assert!(
        refused.to_string().contains("not known"),
        "strict, whatever ssh's file says: {refused}"
    );
    join(&daemon, "m", &sshd, json!({}));
    assert_eq!(run_on(&daemon, json!({"command": "echo $EVIL"}))["stdout"], "\n");
    let log = sshd.log();
    let asked: Vec<&str> =
        log.lines().filter(|line| line.contains("server_input_channel_req")).collect();
    assert!(!asked.is_empty(), "void: {log}");
    for line in &asked {
        let fine = ["request exec ", "request subsystem "].iter().any(|fine| line.contains(fine));
        assert!(fine, "{line}");
    }
    let global = log.lines().filter(|line| line.contains("server_input_global_request"));
    for line in global {
        assert!(line.contains("keepalive@"), "{line}");
    }
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen.arg("-lf").arg(other.with_extension("pub"));
    let shown = run(keygen, b"", Duration::from_secs(10)).ok().stdout;
    let fingerprint = shown.split_whitespace().nth(1).unwrap();
    assert!(fingerprint.starts_with("SHA256:") && !log.contains(fingerprint), "{log}");
    assert!(!ssh.join("control").exists());
}

/// R32: a machine that hangs is its own problem.
#[test]
fn r32_a_frozen_member_slows_nobody_else() {
    let (daemon, _sshd) = pair();
    let frozen = Sshd::start();
    for at in 0..4 {
        let more = json!({"work_folder": frozen.path(&format!("w{at}"))});
        join(&daemon, &format!("f{at}"), &frozen, more);
    }
    let times = || {
        let mut times: Vec<Duration> = (0..60)
            .map(|_| {
                let since = Instant::now();
                assert_eq!(run_on(&daemon, json!({"command": "true"}))["exitCode"], 0);
                since.elapsed()
            })
            .collect();
        times.sort();
        (times[30], times[58])
    };
    let before = times();
    frozen.freeze();
    for at in 0..4 {
        let arguments = json!({"command": "true", "member_name": format!("f{at}"), "async": true});
        call(&daemon, "execute_command", arguments);
    }
    let during = times();
    println!("median and p99 of a command: {before:?} before, {during:?} beside a frozen member");
    // Far below any timeout of ours; the machine of the tests has its own ups and downs.
    assert!(during.0 < before.0 * 2 + Duration::from_millis(20), "{before:?} {during:?}");
    assert!(during.1 < before.1 * 3 + Duration::from_millis(100), "{before:?} {during:?}");
}
