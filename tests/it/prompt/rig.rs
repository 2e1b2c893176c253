//! A daemon whose member has every provider's program, and a stub behind them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Daemon, Home, Model, Sshd, Stream, eventually, within};

/// A daemon and the model that its prompts reach.
pub struct Rig {
    pub daemon: Daemon,
    pub model: Model,
    /// Where prompts run, if not on the local machine: the member `m0`.
    pub members: Vec<Sshd>,
}

/// What a person would write to let every tool run, and to keep the programs
/// from reaching out for anything but the model.
const ROWS: &str = r#"
[claude]
unattended.false = ["--allowedTools", "Bash"]
env = { CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC = "1", CLAUDE_CODE_MAX_RETRIES = "0" }
[codex]
unattended.false = ["--sandbox", "danger-full-access"]
[gemini]
unattended.false = ["--approval-mode", "yolo"]
[copilot]
unattended.false = ["--allow-all-tools"]
[opencode]
models = { standard = "stub/stub-model" }
env = { OPENCODE_DISABLE_MODELS_FETCH = "1", OPENCODE_DISABLE_AUTOUPDATE = "1" }
[cat]
command = ["cat"]
[env]
command = ["env"]
[script]
command = ["sh", "-c", ". ~/script"]
format = "claude"
"#;

/// A program that `tests/setup` put below target.
fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/model-clis/bin").join(name);
    assert!(path.exists(), "{} is missing; run tests/setup", path.display());
    path.canonicalize().unwrap()
}

/// Puts programs where their makers' installers do.
fn install(home: &Path, names: &[&str]) {
    let bin = home.join(".local/bin");
    std::fs::create_dir_all(&bin).unwrap();
    names.iter().for_each(|name| symlink(program(name), bin.join(name)).unwrap());
}

/// A member's home: two programs, and the logins that it has itself.
fn equip(home: PathBuf, model: &Model) {
    install(&home, &["claude", "codex"]);
    std::fs::create_dir_all(home.join(".claude")).unwrap();
    std::fs::create_dir_all(home.join(".codex")).unwrap();
    let url = model.url();
    let env = json!({ "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "sk-of-the-member" });
    std::fs::write(home.join(".claude/settings.json"), json!({ "env": env }).to_string()).unwrap();
    let codex = format!(
        "model_provider = \"stub\"\n[model_providers.stub]\nname = \"stub\"\nbase_url = \
         \"{url}/v1\"\nexperimental_bearer_token = \"x\"\nwire_api = \"responses\"\n"
    );
    std::fs::write(home.join(".codex/config.toml"), codex).unwrap();
}

impl Rig {
    pub fn new() -> Self {
        Self::configured("")
    }

    pub fn configured(toml: &str) -> Self {
        let (home, model) = (Home::new(), Model::start());
        home.configure(toml);
        install(home.path(), &["claude", "codex", "gemini", "copilot", "opencode"]);
        let url = model.url();
        write(&home, ".config/fleetd/providers.toml", ROWS);
        let codex = format!(
            "model_provider = \"stub\"\n[model_providers.stub]\nname = \"stub\"\nbase_url = \
             \"{url}/v1\"\nenv_key = \"OPENAI_API_KEY\"\nwire_api = \"responses\"\n"
        );
        write(&home, ".codex/config.toml", &codex);
        let gemini = json!({ "security": { "auth": { "selectedType": "gemini-api-key" } } });
        write(&home, ".gemini/settings.json", &gemini.to_string());
        let opencode = json!({ "autoupdate": false, "provider": { "stub": {
            "npm": "@ai-sdk/openai-compatible", "name": "stub",
            "options": { "baseURL": format!("{url}/v1"), "apiKey": "x" },
            "models": { "stub-model": { "name": "stub" } } } } });
        write(&home, ".config/opencode/opencode.json", &opencode.to_string());
        std::fs::create_dir(home.path().join("work")).unwrap();
        Self { daemon: start(home, &model), model, members: Vec::new() }
    }

    /// With members `m0`, `m1` and so on, each with programs and logins of its own.
    pub fn on_members(count: usize, toml: &str) -> Self {
        let settings = "[members]\nkeepalive_s = 1\noffline_after_s = 10\n";
        let mut rig = Self::configured(&format!("{settings}{toml}"));
        for number in 0..count {
            let sshd = Sshd::start();
            equip(sshd.home(), &rig.model);
            let arguments = json!({
                "friendly_name": format!("m{number}"), "host": "127.0.0.1", "port": sshd.port(),
                "username": sshd.user(), "key_path": sshd.key(), "accept_new": true,
                "work_folder": sshd.home().join("work"),
            });
            rig.daemon.tool("register_member", arguments);
            rig.members.push(sshd);
        }
        rig
    }

    /// `kill -9`, and the next daemon in the same HOME.
    pub fn restart(self) -> Self {
        self.restart_after(|_| {})
    }

    /// The same, with `meanwhile` done while there is none: stopped, and killed then.
    pub fn restart_after(self, meanwhile: impl FnOnce(&Self)) -> Self {
        self.daemon.signal(nix::sys::signal::Signal::SIGSTOP);
        meanwhile(&self);
        let home = self.daemon.kill9();
        let daemon = start(home, &self.model);
        Self { daemon, model: self.model, members: self.members }
    }

    pub fn work(&self) -> PathBuf {
        let home = self.members.first().map(Sshd::home);
        home.unwrap_or_else(|| self.daemon.home().path().to_owned()).join("work")
    }

    /// Begins a prompt in the folder `work` and returns its id.
    pub fn begin(&self, prompt: &str, more: Value) -> String {
        let started = self.daemon.tool("execute_prompt", self.arguments(prompt, more));
        assert!(["started", "queued"].contains(&started["status"].as_str().unwrap()), "{started}");
        started["stream_id"].as_str().unwrap().to_owned()
    }

    pub fn arguments(&self, prompt: &str, more: Value) -> Value {
        let mut arguments = json!({ "prompt": prompt, "async": true, "run_from": self.work() });
        if !self.members.is_empty() {
            arguments["member_name"] = json!("m0");
        }
        for (key, value) in more.as_object().unwrap() {
            arguments[key] = value.clone();
        }
        arguments
    }

    /// The task as `monitor_task` shows it.
    pub fn monitor(&self, id: &str) -> Value {
        self.daemon.tool("monitor_task", json!({ "task_id": id }))["tasks"][0].take()
    }

    /// The task once it has ended.
    pub fn end(&self, id: &str) -> Value {
        within(std::time::Duration::from_secs(180), "the prompt has ended", || {
            let task = self.monitor(id);
            let open = ["queued", "starting", "running"].contains(&task["state"].as_str().unwrap());
            (!open).then_some(task)
        })
    }

    /// Waits until the model was asked `count` times.
    pub fn asked(&self, count: usize) {
        eventually("the model was asked", || self.model.asked().len() >= count);
    }

    /// Everything that is told of one run, from its beginning.
    pub fn follow(&self, id: &str) -> Stream {
        let request = self.daemon.request("GET", &format!("/sse?stream_id={id}"));
        Stream::open(self.daemon.connect(), &request)
    }

    /// The events of one run so far, by type.
    pub fn history(&self, id: &str) -> Vec<(String, Value)> {
        let arguments = json!({ "subject": format!("task/{id}"), "limit": 100 });
        let listed = self.daemon.tool("list_events", arguments);
        let events = listed["events"].as_array().unwrap();
        let pair =
            |event: &Value| (event["type"].as_str().unwrap().to_owned(), event["data"].clone());
        events.iter().map(pair).collect()
    }
}

fn start(home: Home, model: &Model) -> Daemon {
    let mut command = home.fleetd();
    let url = model.url();
    command
        .env("ANTHROPIC_BASE_URL", &url)
        .env("ANTHROPIC_API_KEY", "sk-not-a-secret")
        .env("OPENAI_API_KEY", "sk-not-a-secret")
        .env("GEMINI_API_KEY", "x")
        .env("GOOGLE_GEMINI_BASE_URL", &url)
        .env("COPILOT_OFFLINE", "true")
        .env("COPILOT_MODEL", "mock")
        .env("COPILOT_PROVIDER_BASE_URL", format!("{url}/v1"))
        // As if the daemon had been started from within a session.
        .env("CLAUDECODE", "1")
        .env("CLAUDE_CODE_SESSION_ID", "other")
        .env("AWS_SECRET_ACCESS_KEY", "leaked");
    Daemon::start_as(home, command)
}

fn write(home: &Home, path: &str, text: &str) {
    let path = home.path().join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
