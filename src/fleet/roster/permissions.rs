//! What a provider's command line may do without asking: a role and the stack
//! of a folder become the provider's own permission file, merged into what is
//! there and read back. Nothing runs on the member but `sh`.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::profile::invalid;
use super::{MemberHandle, Roster, RosterError, ask, probe};
use crate::fleet::FleetError;
use crate::model::MemberPlace;

/// What somebody is on a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Edits, builds and tests.
    Doer,
    /// Reads and runs tests.
    Reviewer,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct PermissionsSpec {
    pub role: Role,
    /// Stacks beside those that are found, by name.
    pub stacks: Vec<String>,
    /// Absolute; `None`: the member's work folder.
    pub folder: Option<String>,
    /// Further patterns to allow.
    pub grant: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Permissions {
    pub file: String,
    pub stacks: Vec<String>,
    /// All that the file allows and denies now.
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    /// The file was written; `false`: it said so already.
    pub written: bool,
}

/// A stack: its name, a file that gives it away, what a doer may run, and what
/// a reviewer may.
struct Stack(&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const STACKS: &[Stack] = &[
    Stack(
        "rust",
        "Cargo.toml",
        &["cargo", "rustc"],
        &["cargo test", "cargo check", "cargo clippy"],
    ),
    Stack(
        "node",
        "package.json",
        &["npm", "npx", "node", "yarn", "pnpm"],
        &["npm test", "npm run lint"],
    ),
    Stack(
        "python",
        "pyproject.toml",
        &["python3", "pip", "pytest", "uv", "ruff"],
        &["pytest", "ruff check"],
    ),
    Stack("go", "go.mod", &["go", "gofmt"], &["go test", "go vet"]),
    Stack("maven", "pom.xml", &["mvn"], &["mvn test"]),
    Stack("gradle", "build.gradle", &["gradle", "./gradlew"], &["./gradlew test"]),
    Stack("cmake", "CMakeLists.txt", &["cmake", "ctest", "make"], &["ctest"]),
    Stack("make", "Makefile", &["make"], &["make test", "make check"]),
    Stack("ruby", "Gemfile", &["bundle", "rake", "ruby"], &["bundle exec rspec"]),
];

const LOOKING: &[&str] = &["Read", "Glob", "Grep"];
const EDITING: &[&str] = &["Edit", "Write", "NotebookEdit"];
const GIT_READING: &[&str] = &["git status", "git diff", "git log", "git show", "git blame"];
const DOING: &[&str] = &["git", "ls", "cat", "mkdir", "grep", "find"];

/// Programs that do anything they are told, or more than one wants undone.
const NEVER: &[&str] = &[
    "sudo", "su", "doas", "sh", "bash", "zsh", "fish", "dash", "eval", "exec", "env", "xargs",
    "nohup", "dd", "shutdown", "reboot", "chown", "ssh", "scp", "nc", "netcat", "socat", "curl",
    "wget",
];

const BEGIN_FILE: &str = "fleetd-file:";

impl Roster {
    /// Composes the permission file of the member's provider.
    ///
    /// # Errors
    /// [`FleetError::Invalid`] for a provider without such a file and for a grant
    /// that is never given; [`RosterError`] if the file cannot be used or did not
    /// come out as written.
    pub async fn compose_permissions(
        &self,
        handle: &Arc<MemberHandle>,
        spec: &PermissionsSpec,
    ) -> Result<Permissions, FleetError> {
        let member = handle.member();
        if member.provider != "claude" {
            return Err(invalid(
                "member_name",
                "has a provider without a permission file that fleetd knows; see 'unattended'",
            ));
        }
        spec.grant.iter().try_for_each(|grant| may_grant(grant))?;
        let folder = folder(spec, &member.work_folder)?;
        let link = match member.place {
            MemberPlace::Local => None,
            MemberPlace::Remote(_) => Some(self.0.up(handle).await?),
        };
        let file = format!("{folder}/.claude/settings.local.json");
        let what = format!("reading '{file}'");
        let said = ask::sh(link.as_ref(), &look(&folder, &file), &what).await?;
        let (found, held) = heard(&said);
        let held = held.map_or(Ok(json!({})), |text| understood(&text, &file))?;
        let stacks = chosen(&found, &spec.stacks)?;
        let wanted = merged(&held, spec.role, &stacks, &spec.grant);
        let written = wanted != held;
        if written {
            let what = format!("writing '{file}'");
            let said = ask::sh(link.as_ref(), &write(&folder, &file, &wanted), &what).await?;
            let (_, now) = heard(&said);
            let now = now.map_or(Ok(Value::Null), |text| understood(&text, &file))?;
            if now != wanted {
                let problem = String::from("it does not hold what was written");
                return Err(RosterError::Failed { what, problem }.into());
            }
        }
        let list = |name| texts(&wanted["permissions"][name]);
        let stacks = stacks.iter().map(|stack| stack.0.to_owned()).collect();
        Ok(Permissions { file, stacks, allow: list("allow"), deny: list("deny"), written })
    }
}

fn folder(spec: &PermissionsSpec, work_folder: &str) -> Result<String, FleetError> {
    let folder = spec.folder.as_deref().unwrap_or(work_folder).trim_end_matches('/');
    let plain = !folder.chars().any(char::is_control) && folder.len() <= 1024;
    if (folder.is_empty() || folder.starts_with('/')) && plain {
        Ok(folder.to_owned())
    } else {
        Err(invalid("project_folder", "has to be an absolute path"))
    }
}

/// Refuses what would grant everything, or what nobody should run unasked.
fn may_grant(grant: &str) -> Result<(), FleetError> {
    let never = |why: &str| {
        let shown: String = grant.chars().filter(|c| !c.is_control()).take(80).collect();
        Err(FleetError::Invalid { argument: "grant", problem: format!("'{shown}' {why}") })
    };
    let (tool, inner) = match grant.split_once('(') {
        Some((tool, rest)) => match rest.strip_suffix(')') {
            Some(inner) => (tool, Some(inner)),
            None => return never("is not a pattern; write Tool or Tool(pattern)"),
        },
        None => (grant, None),
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if tool.is_empty() || !tool.chars().all(named) || grant.len() > 256 {
        return never("is not a pattern; write Tool or Tool(pattern)");
    }
    if grant.chars().any(char::is_control) {
        return never("is never granted");
    }
    let Some(inner) = inner else {
        return if tool == "Bash" { never("grants every command; name one") } else { Ok(()) };
    };
    if tool != "Bash" {
        let secret = [".ssh", ".env", "credentials", ".aws", ".gnupg", "id_rsa", "id_ed25519"];
        let everything = inner.trim_matches(['*', '/', ' ', ':']).is_empty();
        return match secret.iter().any(|name| inner.contains(name)) || everything {
            true => never("is never granted"),
            false => Ok(()),
        };
    }
    let words: Vec<&str> = inner.split([' ', ':', '*']).filter(|word| !word.is_empty()).collect();
    let program = words.first().map(|word| word.rsplit('/').next().unwrap_or(word));
    let forced = |word: &&str| matches!(*word, "--force" | "-f") || word.starts_with("--force-");
    let wild =
        words.iter().any(|word| word.starts_with("-r") || *word == "-fr" || *word == "--recursive");
    match program {
        None => never("grants every command; name one"),
        Some(program) if NEVER.contains(&program) || program.starts_with("mkfs") => {
            never("is never granted")
        }
        Some("rm") if wild || words.len() == 1 => never("is never granted"),
        Some("git") if words.get(1) == Some(&"push") && words.iter().any(forced) => {
            never("is never granted")
        }
        Some("chmod") if inner.contains("777") || inner.contains("-R") => never("is never granted"),
        _ if inner.contains([';', '|', '&', '`', '$', '<', '>']) => {
            never("has a shell's own characters, which match more than they say")
        }
        _ => Ok(()),
    }
}

/// Says which stacks are there, and what the file holds.
fn look(folder: &str, file: &str) -> String {
    let marks: Vec<_> = STACKS.iter().map(|stack| probe::quoted(stack.1)).collect();
    let (folder, file, marks) = (probe::quoted(folder), probe::quoted(file), marks.join(" "));
    format!(
        "cd {folder}/ || exit 1\nfor mark in {marks}; do [ -e \"$mark\" ] && printf '%s\\n' \"$mark\"; done\n\
         if [ -e {file} ]; then printf '%s\\n' '{BEGIN_FILE}'; cat {file} || exit 1; fi\nexit 0\n"
    )
}

/// Writes the file beside, moves it into place, and reads it back.
fn write(folder: &str, file: &str, content: &Value) -> String {
    let text = format!("{content:#}");
    // JSON has no line that is a bare word, so nothing in it can end the document.
    let (claude, file) = (probe::quoted(&format!("{folder}/.claude")), probe::quoted(file));
    format!(
        "set -e\numask 077\nmkdir -p {claude}\ncd {claude}\nt=.fleetd.$$\ncat >\"$t\" <<'END_OF_SETTINGS'\n{text}\n\
         END_OF_SETTINGS\n[ -e {file} ] && chmod \"$(stat -c %a {file} 2>/dev/null || stat -f %Lp {file})\" \"$t\"\n\
         mv -f \"$t\" {file}\nprintf '%s\\n' '{BEGIN_FILE}'\ncat {file}\n"
    )
}

/// The names before the file's beginning, and the file.
fn heard(said: &[u8]) -> (Vec<String>, Option<String>) {
    let text = String::from_utf8_lossy(said);
    let (names, file) = match text.split_once(&format!("{BEGIN_FILE}\n")) {
        Some((names, file)) => (names, Some(file.to_owned())),
        None => (text.as_ref(), None),
    };
    (names.lines().map(str::to_owned).collect(), file)
}

/// A file that is not understood is left alone.
fn understood(text: &str, file: &str) -> Result<Value, FleetError> {
    let problem = match serde_json::from_str::<Value>(text) {
        Ok(value) if value.is_object() => match &value["permissions"] {
            Value::Null | Value::Object(_) => return Ok(value),
            _ => String::from("its 'permissions' are no object"),
        },
        Ok(_) => String::from("it is no JSON object"),
        Err(error) => error.to_string(),
    };
    Err(RosterError::Failed { what: format!("'{file}' was left as it is"), problem }.into())
}

fn chosen(found: &[String], named: &[String]) -> Result<Vec<&'static Stack>, FleetError> {
    let known = |name: &String| STACKS.iter().any(|stack| stack.0.eq_ignore_ascii_case(name));
    if let Some(name) = named.iter().find(|name| !known(name)) {
        let all: Vec<_> = STACKS.iter().map(|stack| stack.0).collect();
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let problem = format!("has '{shown}', which is no stack; there are {}", all.join(", "));
        return Err(FleetError::Invalid { argument: "tags", problem });
    }
    let wanted = |stack: &&Stack| {
        found.iter().any(|mark| mark == stack.1)
            || named.iter().any(|name| stack.0.eq_ignore_ascii_case(name))
    };
    Ok(STACKS.iter().filter(wanted).collect())
}

/// What is there, without what either role put there, with what this one does.
fn merged(held: &Value, role: Role, stacks: &[&Stack], grant: &[String]) -> Value {
    let bash = |command: &&str| format!("Bash({command}:*)");
    let of = |role: Role, stacks: &[&Stack]| -> Vec<String> {
        let plain = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut allow = plain(LOOKING);
        match role {
            Role::Doer => {
                allow.extend(plain(EDITING));
                allow.extend(DOING.iter().map(bash));
                allow.extend(stacks.iter().flat_map(|stack| stack.2.iter().map(bash)));
            }
            Role::Reviewer => {
                allow.extend(GIT_READING.iter().map(bash));
                allow.extend(stacks.iter().flat_map(|stack| stack.3.iter().map(bash)));
            }
        }
        allow
    };
    let every: Vec<&Stack> = STACKS.iter().collect();
    let ours: Vec<String> = [of(Role::Doer, &every), of(Role::Reviewer, &every)].concat();
    let permissions = &held["permissions"];
    let mut allow = of(role, stacks);
    let theirs = texts(&permissions["allow"]).into_iter().filter(|entry| !ours.contains(entry));
    allow.extend(theirs);
    allow.extend(grant.iter().cloned());
    let mut deny = texts(&permissions["deny"]);
    deny.retain(|entry| !EDITING.contains(&entry.as_str()));
    if role == Role::Reviewer {
        deny.extend(EDITING.iter().map(ToString::to_string));
    }
    for list in [&mut allow, &mut deny] {
        let mut seen = std::collections::HashSet::new();
        list.retain(|entry| seen.insert(entry.clone()));
    }
    let mut next = held.as_object().cloned().unwrap_or_else(Map::new);
    let mut inner = permissions.as_object().cloned().unwrap_or_else(Map::new);
    inner.insert(String::from("allow"), json!(allow));
    inner.insert(String::from("deny"), json!(deny));
    next.insert(String::from("permissions"), Value::Object(inner));
    Value::Object(next)
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_grant_everything_is_never_granted() {
        for bad in [
            "*",
            "Bash",
            "Bash(*)",
            "Bash(:*)",
            "Bash(sudo:*)",
            "Bash(/usr/bin/sudo ls)",
            "Bash(rm -rf:*)",
            "Bash(rm:*)",
            "Bash(bash -c:*)",
            "Bash(curl:*)",
            "Bash(env:*)",
            "Bash(git push --force:*)",
            "Bash(git push -f)",
            "Bash(ls; id)",
            "Bash(echo $(id))",
            "Bash(chmod 777:*)",
            "Read(~/.ssh/id_rsa)",
            "Read(//**)",
            "Edit(*)",
            "Bash(ls",
            "",
            "Bash(ls\n:*)",
            "Bash(mkfs.ext4:*)",
        ] {
            assert!(may_grant(bad).is_err(), "{bad} must be refused");
        }
        for good in ["WebSearch", "Bash(docker build:*)", "Bash(rm target/x)", "Read(docs/**)"] {
            assert!(may_grant(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_role_takes_back_the_other_and_keeps_what_is_others() {
        let held = json!({"model": "x", "permissions": {"allow": ["Bash(terraform plan)"],
            "deny": ["Read(./secret)"], "defaultMode": "plan"}});
        let rust = chosen(&[String::from("Cargo.toml")], &[]).unwrap();
        let doer = merged(&held, Role::Doer, &rust, &[String::from("WebSearch")]);
        let allow = texts(&doer["permissions"]["allow"]);
        for entry in ["Bash(terraform plan)", "Edit", "Bash(cargo:*)", "WebSearch"] {
            assert!(allow.iter().any(|allowed| allowed == entry), "{entry}: {allow:?}");
        }
        assert_eq!(
            (&doer["model"], &doer["permissions"]["defaultMode"]),
            (&json!("x"), &json!("plan"))
        );
        assert_eq!(merged(&doer, Role::Doer, &rust, &[]), doer, "again changes nothing");
        let reviewer = merged(&doer, Role::Reviewer, &rust, &[]);
        let allow = texts(&reviewer["permissions"]["allow"]);
        assert!(
            !allow.iter().any(|entry| entry == "Edit" || entry == "Bash(cargo:*)"),
            "{allow:?}"
        );
        assert!(allow.iter().any(|entry| entry == "Bash(cargo test:*)"), "{allow:?}");
        let deny = texts(&reviewer["permissions"]["deny"]);
        assert_eq!(deny, ["Read(./secret)", "Edit", "Write", "NotebookEdit"]);
        let back = merged(&reviewer, Role::Doer, &rust, &[]);
        assert_eq!(texts(&back["permissions"]["deny"]), ["Read(./secret)"]);
    }

    #[test]
    fn a_file_that_is_not_understood_is_left() {
        for bad in ["", "[]", "{", "{\"permissions\": []}"] {
            assert!(understood(bad, "/f").is_err(), "{bad}");
        }
    }
}
