//! `fleetctl mcp-config`: into every client's file, and out again to the byte.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Daemon, Home};

/// A file with comments, an order of its own and other servers: JSON, TOML, and
/// YAML of both kinds.
const JSON: &str = "{\n  // mine\n  \"zeta\": 1, /* kept */\n  \"CONTAINER\": {\n    \"other\": { \"command\": \"x\" }, // last\n  },\n  \"alpha\": [1,   2]\n}\n";
const TOML: &str = "# mine\nmodel = \"m\"   # kept\n\n[mcp_servers.other]\ncommand = \"x\"\n\n[zeta]\nb = 1\na = 2\n";
const YAML_MAP: &str =
    "# mine\nextensions:\n  # tools\n  other:\n    cmd: x   # kept\n\nGOOSE_MODE: auto\n";
const YAML_LIST: &str = "name: mine\nmcpServers:\n  - name: other\n    command: x\nmodels: []\n";

/// Client, its file below HOME, the key of its servers, what its file held before.
const CLIENTS: [(&str, &str, &str, &str); 16] = [
    ("claude", ".claude.json", "mcpServers", JSON),
    ("claude-desktop", ".config/Claude/claude_desktop_config.json", "mcpServers", JSON),
    ("cline", ".cline/data/settings/cline_mcp_settings.json", "mcpServers", JSON),
    ("codex", ".codex/config.toml", "mcp_servers", TOML),
    ("continue", ".continue/config.yaml", "mcpServers", YAML_LIST),
    ("copilot", ".copilot/mcp-config.json", "mcpServers", JSON),
    ("cursor", ".cursor/mcp.json", "mcpServers", JSON),
    ("gemini", ".gemini/settings.json", "mcpServers", JSON),
    ("goose", ".config/goose/config.yaml", "extensions", YAML_MAP),
    ("kiro", ".kiro/settings/mcp.json", "mcpServers", JSON),
    ("lmstudio", ".lmstudio/mcp.json", "mcpServers", JSON),
    ("opencode", ".config/opencode/opencode.json", "mcp", JSON),
    ("qwen", ".qwen/settings.json", "mcpServers", JSON),
    ("vscode", ".config/Code/User/mcp.json", "servers", JSON),
    ("windsurf", ".codeium/windsurf/mcp_config.json", "mcpServers", JSON),
    ("zed", ".config/zed/settings.json", "context_servers", JSON),
];

fn config(home: &Home, client: &str, args: &[&str]) -> String {
    let all = [&["mcp-config", "--client", client], args].concat();
    home.fleetctl(&all).ok().stdout
}

fn put(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Our entry in a file of any form, as JSON.
fn entry(path: &Path, container: &str) -> Value {
    let text = read(path);
    match path.extension().and_then(std::ffi::OsStr::to_str) {
        Some("toml") => {
            let value: toml::Value = toml::from_str(&text).unwrap();
            serde_json::to_value(&value[container]["fleet"]).unwrap()
        }
        Some("yaml") => json!(text.split_once("fleet").unwrap().1),
        _ => {
            let root = jsonc_parser::cst::CstRootNode::parse(&text, &Default::default()).unwrap();
            let servers = root.object_value().unwrap().object_value(container).unwrap();
            let ours = servers.get("fleet").unwrap_or_else(|| panic!("not in {text}"));
            ours.value().unwrap().to_serde_value().unwrap()
        }
    }
}

#[test]
fn every_client_s_file_takes_the_fleet_and_gives_it_back_to_the_byte() {
    let daemon = Daemon::start();
    let home = daemon.home();
    let token = daemon.token();
    for (client, file, container, before) in CLIENTS {
        let path = home.path().join(file);
        let before = before.replace("CONTAINER", container);
        put(&path, &before);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let diff = config(home, client, &["--install", "--dry-run"]);
        assert!(diff.contains("+++ ") && diff.contains("fleet"), "{client}: {diff}");
        assert_eq!(read(&path), before, "{client}: a dry run changes nothing");
        config(home, client, &["--install"]);
        let after = read(&path);
        assert!(!entry(&path, container).is_null(), "{client}: {after}");
        assert!(after.contains("other") && after.contains("mine"), "{client}: {after}");
        assert!(!after.contains(&token), "{client} holds the token");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o640, "{client}");
        config(home, client, &["--install"]);
        assert_eq!(read(&path), after, "{client}: installing twice is installing once");
        // In the other transport and back: still one entry, and one undo.
        config(home, client, &["--install", "--transport", "stdio", "--project", "blue"]);
        assert!(read(&path).contains("blue"), "{client}");
        // What others change meanwhile stays.
        let line = before.lines().next().unwrap();
        let edited = format!("{line} ");
        put(&path, &read(&path).replacen(line, &edited, 1));
        config(home, client, &["--uninstall"]);
        assert_eq!(read(&path), before.replacen(line, &edited, 1), "{client}");
    }
}

#[test]
fn a_file_that_was_not_there_is_gone_again() {
    let home = Home::new();
    for (client, file, ..) in CLIENTS {
        let path = home.path().join(file);
        config(&home, client, &["--install", "--transport", "stdio"]);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{client}");
        config(&home, client, &["--uninstall"]);
        assert!(!path.exists(), "{client}");
        let again = config(&home, client, &["--uninstall"]);
        assert!(again.contains("does not mention"), "{client}: {again}");
    }
}

#[test]
fn without_its_record_only_our_key_goes() {
    let home = Home::new();
    for (client, file, container, before) in CLIENTS {
        let path = home.path().join(file);
        let before = before.replace("CONTAINER", container);
        put(&path, &before);
        config(&home, client, &["--install", "--transport", "stdio"]);
        std::fs::remove_dir_all(home.state().join("clients")).unwrap();
        config(&home, client, &["--uninstall"]);
        let left = read(&path);
        assert!(!left.contains("fleet"), "{client}: {left}");
        for kept in ["mine", "other"] {
            assert!(left.contains(kept), "{client}: {left}");
        }
    }
}

#[test]
fn entries_are_what_clients_read() {
    let daemon = Daemon::start();
    let home = daemon.home();
    let url = format!("http://127.0.0.1:{}/mcp", daemon.port());
    let program = env!("CARGO_BIN_EXE_fleetctl");
    let helper = format!("{program} mcp-headers --url http://127.0.0.1:{}", daemon.port());
    let bearer = |variable: &str| json!({ "Authorization": format!("Bearer {variable}") });
    let shell = bearer("${FLEET_TOKEN}");
    let env = bearer("${env:FLEET_TOKEN}");
    let http: [(&str, Value); 10] = [
        ("claude", json!({"type": "http", "url": url, "headersHelper": helper})),
        ("codex", json!({"url": url, "http_headers_helper": helper})),
        ("gemini", json!({"httpUrl": url, "headers": shell})),
        (
            "opencode",
            json!({"type": "remote", "url": url, "oauth": false, "headers": bearer("{env:FLEET_TOKEN}")}),
        ),
        ("copilot", json!({"type": "http", "url": url, "headers": shell, "tools": ["*"]})),
        ("vscode", json!({"type": "http", "url": url, "headers": env})),
        ("cursor", json!({"url": url, "headers": env})),
        ("windsurf", json!({"serverUrl": url, "headers": env})),
        ("cline", json!({"transport": {"type": "streamableHttp", "url": url, "headers": env}})),
        ("kiro", json!({"url": url, "headers": shell})),
    ];
    let program = env!("CARGO_BIN_EXE_fleetctl");
    for (client, expected) in http {
        let (_, file, container, _) = CLIENTS.iter().find(|row| row.0 == client).unwrap();
        config(home, client, &["--install"]);
        assert_eq!(entry(&home.path().join(file), container), expected, "{client}");
    }
    for client in ["claude-desktop", "zed", "lmstudio", "qwen"] {
        let (_, file, container, _) = CLIENTS.iter().find(|row| row.0 == client).unwrap();
        config(home, client, &["--install"]);
        let expected = json!({ "command": program, "args": ["mcp"] });
        assert_eq!(entry(&home.path().join(file), container), expected, "{client}");
    }
    let yaml = config(home, "continue", &[]);
    let expected =
        format!("mcpServers:\n  - name: fleet\n    args: [\"mcp\"]\n    command: {program:?}\n");
    assert_eq!(yaml, expected);
    let sse: Value =
        serde_json::from_str(&config(home, "claude", &["--transport", "sse"])).unwrap();
    assert_eq!(sse["mcpServers"]["fleet"]["type"], "sse");
    assert!(sse["mcpServers"]["fleet"]["url"].as_str().unwrap().ends_with("/sse"));
}

#[test]
fn a_token_is_written_only_when_asked_for_and_only_into_the_user_s_own_file() {
    let daemon = Daemon::start();
    let home = daemon.home();
    let token = daemon.token();
    let shown = config(home, "zed", &["--transport", "http", "--with-token", "--install"]);
    assert!(!shown.contains(&token) && shown.contains("<token>"), "{shown}");
    let path = home.path().join(".config/zed/settings.json");
    assert!(read(&path).contains(&token));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    config(home, "zed", &["--uninstall"]);
    assert!(!path.exists());
    let refused = |args: &[&str]| home.fleetctl(&[&["mcp-config"], args].concat()).code();
    assert_eq!(refused(&["--client", "cursor", "--install", "--here", "--with-token"]), 2);
    assert_eq!(refused(&["--client", "zed", "--transport", "http"]), 2);
    assert_eq!(refused(&["--client", "claude-desktop", "--transport", "http"]), 2);
    assert_eq!(refused(&["--client", "codex", "--transport", "sse"]), 2);
    assert_eq!(refused(&["--client", "zed", "--here", "--install"]), 2);
    config(home, "cursor", &["--install", "--here"]);
    let here = read(&home.path().join(".cursor/mcp.json"));
    assert!(here.contains("${env:FLEET_TOKEN}") && !here.contains(&token), "{here}");
}

#[test]
fn a_link_is_followed_and_what_cannot_be_read_is_left_alone() {
    let home = Home::new();
    let real: PathBuf = home.path().join("dotfiles/cursor.json");
    put(&real, "{}");
    let link = home.path().join(".cursor/mcp.json");
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    config(&home, "cursor", &["--install", "--transport", "stdio"]);
    assert!(link.is_symlink() && read(&real).contains("fleet"));
    config(&home, "cursor", &["--uninstall"]);
    assert_eq!(read(&real), "{}");
    for (client, file, broken) in [
        ("gemini", ".gemini/settings.json", "{ \"mcpServers\": [] }"),
        ("gemini", ".gemini/settings.json", "{ \"a\": "),
        ("codex", ".codex/config.toml", "a = \n"),
        ("codex", ".codex/config.toml", "mcp_servers = 1\n"),
        ("goose", ".config/goose/config.yaml", "extensions: {a: {cmd: x}}\n"),
    ] {
        let path = home.path().join(file);
        put(&path, broken);
        let args = ["mcp-config", "--client", client, "--install", "--transport", "stdio"];
        let refused = home.fleetctl(&args);
        assert_eq!(refused.code(), 1, "{refused:?}");
        assert!(refused.stderr.contains("alone"), "{refused:?}");
        assert_eq!(read(&path), broken);
    }
}

#[test]
fn who_takes_the_token_from_the_environment_is_told_how_to_put_it_there() {
    let daemon = Daemon::start();
    let said =
        |args: &[&str]| daemon.fleetctl(&[&["mcp-config", "--client"], args].concat()).ok().stderr;
    let told = said(&["opencode"]);
    assert!(told.contains("FLEET_TOKEN=\"$(cat "), "{told}");
    for without in [&["claude"][..], &["opencode", "--transport", "stdio"], &["zed"]] {
        assert_eq!(said(without), "", "{without:?}");
    }
}
