//! Finding out what a machine is: one `sh`, one round trip, nothing to install.

use crate::model::{MemberFacts, MemberOs};

/// Bytes of an answer: more than any honest machine says.
pub const MOST_ANSWER: usize = 64 * 1024;

/// Before it, a login shell may have said anything.
const BEGIN: &str = "fleetd-probe:";

/// Most characters of one fact.
const MOST_FACT: usize = 256;

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Made if it is not there; empty: leave folders alone.
    pub work_folder: &'a str,
    /// A program that should be there.
    pub program: Option<&'a str>,
}

/// What a machine says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub facts: MemberFacts,
    /// What `uname -s` says, for refusing it by name.
    pub kernel: String,
    /// The work folder is there and can be written to.
    pub folder: bool,
    /// Why not, in the words of `mkdir`.
    pub folder_problem: String,
    /// The program was found; also if none was asked for.
    pub program: bool,
}

/// The script, for the standard input of `sh`. It makes the folder only on a
/// system that is supported, so that a refused machine is left as it was.
pub fn script(question: &Question<'_>) -> String {
    let folder = quoted(question.work_folder);
    let program = quoted(question.program.unwrap_or("sh"));
    format!(
        r#"PATH="$HOME/.local/bin:/usr/local/bin:/opt/homebrew/bin:$PATH:/usr/bin:/bin:/usr/sbin:/sbin"
say() {{ printf '%s%s=%s\n' '{BEGIN}' "$1" "$2"; }}
kernel=$(uname -s)
say kernel "$kernel"
say system "$(uname -srm)"
say home "$HOME"
case $kernel in
Linux)
  read -r boot </proc/sys/kernel/random/boot_id
  read -r first </proc/1/stat
  say boot "$boot $(printf '%s' "${{first##*) }}" | cut -d ' ' -f 20)"
  exe=$(readlink /proc/$$/exe); say shell "${{exe##*/}}" ;;
Darwin)
  say boot "$(sysctl -n kern.bootsessionuuid)"
  say shell "${{BASH_VERSION:+bash}}${{ZSH_VERSION:+zsh}}" ;;
*) exit 0 ;;
esac
folder={folder}
if [ -n "$folder" ]; then
  problem=$(mkdir -p -- "$folder" 2>&1)
  if [ -d "$folder" ] && [ -w "$folder" ] && [ -x "$folder" ]; then say folder yes
  else say problem "${{problem:-it cannot be written to}}"; fi
fi
command -v {program} >/dev/null 2>&1 && say program yes
exit 0
"#
    )
}

/// Reads what the script said. Foreign text: capped, on one line, without
/// control characters.
pub fn parse(stdout: &[u8]) -> Answer {
    let mut answer = Answer::default();
    for line in String::from_utf8_lossy(stdout).lines() {
        let Some((name, value)) = line.strip_prefix(BEGIN).and_then(|rest| rest.split_once('='))
        else {
            continue;
        };
        let value: String = value.chars().filter(|c| !c.is_control()).take(MOST_FACT).collect();
        let fact = Some(value.clone()).filter(|value| !value.is_empty());
        match name {
            "kernel" => {
                answer.facts.os = match value.as_str() {
                    "Linux" => Some(MemberOs::Linux),
                    "Darwin" => Some(MemberOs::Macos),
                    _ => None,
                };
                answer.kernel = value;
            }
            "system" => answer.facts.system = fact,
            "home" => answer.facts.home = fact,
            "boot" => answer.facts.boot = fact,
            "shell" => answer.facts.shell = fact,
            "folder" => answer.folder = true,
            "problem" => answer.folder_problem = value,
            "program" => answer.program = true,
            _ => {}
        }
    }
    answer
}

/// One word of a shell, whatever is in it.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn ask(question: &Question<'_>) -> Answer {
        let mut shell =
            Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(script(question).as_bytes()).unwrap();
        parse(&shell.wait_with_output().unwrap().stdout)
    }

    #[test]
    fn this_machine_is_recognised_and_the_folder_made() {
        let place = tempfile::tempdir().unwrap();
        // What a careless script would run, split or expand.
        let folder = place.path().join("it's $(touch canary) a `work` folder");
        let folder = folder.to_str().unwrap();
        let answer = ask(&Question { work_folder: folder, program: Some("no-such-program-here") });
        assert!(answer.facts.os.is_some() && answer.folder && !answer.program, "{answer:?}");
        assert!(answer.facts.boot.as_deref().is_some_and(|boot| boot.len() > 36), "{answer:?}");
        assert!(answer.facts.shell.is_some() && answer.facts.home.is_some(), "{answer:?}");
        assert!(std::path::Path::new(folder).is_dir());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
        let again = ask(&Question { work_folder: folder, program: Some("sh") });
        assert!(again.program && again.facts.boot == answer.facts.boot);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told() {
        let answer = ask(&Question { work_folder: "/proc/nowhere", program: None });
        assert!(!answer.folder && !answer.folder_problem.is_empty(), "{answer:?}");
    }

    #[test]
    fn what_a_machine_says_is_data() {
        let said =
            b"Welcome!\nfleetd-probe:kernel=FreeBSD\x1b[2J\nfleetd-probe:folder\nkernel=Linux\n";
        let answer = parse(said);
        assert_eq!((answer.kernel.as_str(), answer.facts.os), ("FreeBSD[2J", None));
        assert!(!answer.folder);
        let long = format!("fleetd-probe:home={}\n", "x".repeat(5000));
        assert_eq!(parse(long.as_bytes()).facts.home.map(|home| home.len()), Some(MOST_FACT));
    }
}
