//! The `sh` scripts that run on members, as the command lines that start them.

/// What is asked of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    Start,
    Follow,
    Collect,
    Probe,
    Stop,
    Input,
    Sweep,
    Usage,
}

const COMMON: &str = include_str!("common.sh");
const STATE: &str = include_str!("state.sh");

impl Script {
    fn texts(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::Start => (&[COMMON], include_str!("start.sh")),
            Self::Follow => (&[COMMON], include_str!("follow.sh")),
            Self::Collect => (&[COMMON, STATE], include_str!("collect.sh")),
            Self::Probe => (&[COMMON, STATE], include_str!("probe.sh")),
            Self::Stop => (&[COMMON], include_str!("stop.sh")),
            Self::Input => (&[COMMON], include_str!("input.sh")),
            Self::Sweep => (&[COMMON], include_str!("sweep.sh")),
            Self::Usage => (&[COMMON], include_str!("usage.sh")),
        }
    }

    /// The script without comments and indentation: it travels with every call.
    pub fn text(self) -> String {
        let (before, own) = self.texts();
        let lines = before.iter().chain([&own]).flat_map(|text| text.lines());
        let lines = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.flat_map(|line| [line, "\n"]).collect()
    }

    /// A line for the member's login shell, whichever it is. The arguments are
    /// ids and numbers; what may hold a secret comes on standard input.
    pub fn command(self, arguments: &[&str]) -> String {
        let mut line = format!("exec /bin/sh -c {} fleetd", quoted(&self.text()));
        for argument in arguments {
            line.push(' ');
            line.push_str(&quoted(argument));
        }
        line
    }
}

/// `text` as one word of any shell.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Script; 8] = [
        Script::Start,
        Script::Follow,
        Script::Collect,
        Script::Probe,
        Script::Stop,
        Script::Input,
        Script::Sweep,
        Script::Usage,
    ];

    #[test]
    fn scripts_need_no_quoting_that_shells_disagree_on() {
        for script in ALL {
            let text = script.text();
            // fish reads a backslash before either of these in its own way.
            assert!(!text.contains('\'') && !text.contains("\\\\"), "{script:?}");
            assert!(text.len() < 16 * 1024, "{script:?} has {} bytes", text.len());
            assert!(text.is_ascii(), "{script:?}");
        }
    }
}
