//! What a member's scripts say.

use crate::fleet::plan::Cause;

/// One statement about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// The command runs, as this process.
    Began { pid: Option<u32> },
    /// It was not begun, and the fence is untouched: why.
    Refused(String),
    /// It was begun, or forbidden, before.
    Exists,
    /// Bytes of a follower come next.
    Follow,
    /// It has ended.
    End(Ending),
    /// It runs, since so many milliseconds.
    Runs { pid: Option<u32>, age_ms: u64 },
    /// It was permitted to begin, and no more is known.
    Begins,
    /// Its watcher was killed.
    Gone { pid: Option<u32>, alive: bool },
    /// The machine went down under it.
    Rebooted,
    /// It never began and never will.
    Never,
    /// It has not begun.
    Absent,
    /// A stop is under way.
    Stopping,
    /// CPU time its processes have used.
    Used { millis: u64 },
    /// Standard input: bytes held, bytes taken by the command, and whether it
    /// reads no more.
    Held { held: u64, taken: u64, closed: bool },
}

/// A status as a member wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// As `wait` gives it: over 128 is a signal, or the command's own status.
    pub code: Option<i32>,
    pub cause: Option<Cause>,
    /// It outlived even KILL, as this process.
    pub outlived: Option<u32>,
    /// Its program was not found.
    pub missing: bool,
    pub duration_ms: u64,
    /// Bytes kept and cut, of stdout and stderr.
    pub kept: [u64; 2],
    pub cut: [u64; 2],
}

/// How every line of ours about `run` begins.
pub fn mark(run: &str) -> String {
    format!("fleetd-{run}")
}

/// Reads one line about `run`. `None`: it is not ours, but what somebody's login
/// files print.
pub fn parse(line: &str, run: &str) -> Option<Word> {
    // Login files may leave a line unfinished.
    let at = line.find(&mark(run))?;
    let mut words = line[at + mark(run).len()..].split_ascii_whitespace();
    let kind = words.next()?;
    let rest: Vec<&str> = words.collect();
    let number = |at: usize| rest.get(at).and_then(|word| word.parse::<u64>().ok());
    let pid = number(0).and_then(|pid| u32::try_from(pid).ok());
    Some(match kind {
        "began" => Word::Began { pid },
        "refused" => Word::Refused(rest.first().map(|why| (*why).to_owned())?),
        "exists" => Word::Exists,
        "follow" => Word::Follow,
        "end" => Word::End(ending(&rest)?),
        "runs" => Word::Runs { pid, age_ms: number(2).unwrap_or(0).saturating_mul(10) },
        "begins" => Word::Begins,
        "gone" => Word::Gone { pid, alive: number(1) == Some(1) },
        "rebooted" => Word::Rebooted,
        "never" => Word::Never,
        "absent" => Word::Absent,
        "stopping" => Word::Stopping,
        "used" => Word::Used { millis: number(0)? },
        "held" => Word::Held { held: number(0)?, taken: number(1)?, closed: number(2)? == 1 },
        _ => return None,
    })
}

/// `CODE WHY HUNDREDTHS OUT ERR CUT CUT`; CODE is `-` if it did not begin, and
/// `+PID` if nothing could end it. A number that is missing is no status:
/// nothing is ever taken for success that was not said.
fn ending(words: &[&str]) -> Option<Ending> {
    let [code, why, duration, numbers @ ..] = words else { return None };
    let [out, err, cut_out, cut_err] = numbers else { return None };
    let (code, outlived) = match (*code, code.strip_prefix('+')) {
        (_, Some(pid)) => (None, Some(pid.parse().ok()?)),
        ("-", None) => (None, None),
        (code, None) => (Some(code.parse().ok()?), None),
    };
    Some(Ending {
        code,
        outlived,
        cause: match *why {
            "stopped" => Some(Cause::Stopped),
            "inactivity" => Some(Cause::Inactivity),
            "total" => Some(Cause::Total),
            "stalled" => Some(Cause::Stalled),
            _ => None,
        },
        missing: *why == "missing",
        duration_ms: duration.parse::<u64>().ok()?.saturating_mul(10),
        kept: [out.parse().ok()?, err.parse().ok()?],
        cut: [cut_out.parse().ok()?, cut_err.parse().ok()?],
    })
}

/// The word for a cause in a member's files.
pub fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Inactivity => "inactivity",
        Cause::Total => "total",
        Cause::Stalled => "stalled",
        Cause::Stopped | Cause::NotStarted => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_is_not_whole_is_no_status() {
        let line = "motd fleetd-r end 137 stopped 12 3 4 0 5";
        let Some(Word::End(end)) = parse(line, "r") else { panic!("{line}") };
        assert_eq!((end.code, end.cause), (Some(137), Some(Cause::Stopped)));
        assert_eq!((end.duration_ms, end.kept, end.cut), (120, [3, 4], [0, 5]));
        for short in ["end", "end 0", "end 0 - 1 2 3 4", "end x - 1 2 3 4 5", "end  - 1 2 3 4 5"] {
            assert_eq!(parse(&format!("fleetd-r {short}"), "r"), None, "{short}");
        }
        let Some(Word::End(end)) = parse("fleetd-r end +7 total 12 3 4 0 5", "r") else { panic!() };
        assert_eq!((end.code, end.outlived, end.cause), (None, Some(7), Some(Cause::Total)));
        assert_eq!(parse("fleetd-other end 0 - 1 2 3 4 5", "r"), None);
    }
}
