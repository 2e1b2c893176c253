//! What a user can set, receive or type stands in a document.

use std::collections::BTreeSet;
use std::time::Duration;

use fleetd::model::TOPICS;

use super::source::{Source, package};
use crate::support::{Home, run};

/// Fields of the configuration that `config/fleetd.toml` does not show.
pub fn undocumented_settings() -> Vec<String> {
    missing_settings(&read("src/config.rs"), &read("config/fleetd.toml"))
}

/// Topics that README.md does not name.
pub fn undocumented_topics() -> Vec<String> {
    let readme = read("README.md");
    assert!(TOPICS.len() > 1);
    let missing = TOPICS.iter().filter(|spec| !readme.contains(&format!("`{}`", spec.name)));
    missing.map(|spec| format!("README.md does not name the topic `{}`", spec.name)).collect()
}

/// Commands of fleetctl that README.md does not name, and commands and flags
/// without a description.
pub fn undocumented_commands() -> Vec<String> {
    let readme = read("README.md");
    let home = Home::new();
    let help = |path: &[String]| {
        let mut command = home.command(env!("CARGO_BIN_EXE_fleetctl"));
        command.args(path).arg("--help");
        run(command, b"", Duration::from_secs(10)).ok().stdout
    };
    let mut findings = Vec::new();
    let mut to_do = vec![Vec::new()];
    let mut named = 0;
    while let Some(path) = to_do.pop() {
        let (commands, undescribed) = listed(&help(&path));
        findings.extend(
            undescribed
                .into_iter()
                .map(|what| format!("fleetctl {} --help does not describe {what}", path.join(" "))),
        );
        for command in commands {
            let path = [path.clone(), vec![command]].concat();
            if !readme.contains(&format!("fleetctl {}", path.join(" "))) {
                findings.push(format!("README.md does not name `fleetctl {}`", path.join(" ")));
            }
            named += 1;
            to_do.push(path);
        }
    }
    assert!(named > 0, "fleetctl --help lists no commands");
    findings
}

fn missing_settings(code: &str, toml: &str) -> Vec<String> {
    let file = Source::new("src/config.rs", code);
    let fields = file.shipped().lines().filter_map(|line| {
        let (name, _) = line.trim().strip_prefix("pub ")?.split_once(": ")?;
        name.chars().all(|c| c.is_ascii_lowercase() || c == '_').then(|| name.to_owned())
    });
    let fields: BTreeSet<String> = fields.collect();
    assert!(!fields.is_empty(), "no fields found");
    let shown = |name: &String| {
        toml.lines().any(|line| {
            let line = line.trim_start_matches("# ");
            line == format!("[{name}]") || line.starts_with(&format!("{name} = "))
        })
    };
    let missing = fields.into_iter().filter(|name| !shown(name));
    missing.map(|name| format!("config/fleetd.toml does not show {name}")).collect()
}

/// The subcommands of a help text, and what in it has no description.
fn listed(help: &str) -> (Vec<String>, Vec<String>) {
    let (mut commands, mut undescribed) = (Vec::new(), Vec::new());
    let mut section = "";
    let lines: Vec<&str> = help.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if !line.starts_with(' ') {
            section = line.trim();
            continue;
        }
        let entry = line.trim_start();
        let indent = line.len() - entry.len();
        let begins = match section {
            "Commands:" => indent == 2,
            "Options:" => entry.starts_with('-') && indent <= 6,
            _ => false,
        };
        if !begins {
            continue;
        }
        // A description stands behind two blanks, or on the next, deeper line.
        let next = lines.get(at + 1).copied().unwrap_or_default();
        let text = next.trim_start();
        let below = !text.is_empty() && !text.starts_with('-') && next.len() - text.len() > indent;
        if !entry.contains("  ") && !below {
            undescribed.push(entry.to_owned());
        }
        let name = entry.split_whitespace().next().unwrap_or_default();
        if section == "Commands:" && name != "help" {
            commands.push(name.to_owned());
        }
    }
    (commands, undescribed)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(package().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_setting_that_is_not_shown() {
        let code = "pub struct Config {\n    pub server: Server,\n}\npub struct Server {\n    pub port: u16,\n    pub new_one: u16,\n}";
        let found = missing_settings(code, "[server]\n# port = 0\n# about new_one\n");
        assert_eq!(found, ["config/fleetd.toml does not show new_one"]);
    }

    #[test]
    fn reads_help_texts() {
        let help = "\
Usage: x

Commands:
  up     Starts it
  naked
  help   Print this message

Options:
      --json
          One object per line
      --bare
  -h, --help  Print help
";
        let (commands, undescribed) = listed(help);
        assert_eq!(commands, ["up", "naked"]);
        assert_eq!(undescribed, ["naked", "--bare"]);
    }
}
