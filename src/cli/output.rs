//! The only place that prints.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::io::AsyncWriteExt;

use super::text;
use crate::model::OutputStream;

/// Where output goes, and what may be done to it there.
#[derive(Clone, Debug)]
pub struct Output {
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
    colour: bool,
}

/// How a part of a line is shown on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
}

impl Output {
    /// As this process's descriptors and environment say.
    pub fn of_this_process() -> Self {
        let stdout_is_terminal = io::stdout().is_terminal();
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        // https://no-color.org
        let colour = stdout_is_terminal
            && !set("NO_COLOR")
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { stdout_is_terminal, stderr_is_terminal: io::stderr().is_terminal(), colour }
    }

    /// Nothing is a terminal.
    #[cfg(test)]
    pub fn piped() -> Self {
        Self { stdout_is_terminal: false, stderr_is_terminal: false, colour: false }
    }

    /// Prints text of ours, whose foreign parts went through `text::printable`.
    pub fn print(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        if !text.ends_with('\n') {
            stdout.write_all(b"\n")?;
        }
        stdout.flush()
    }

    /// Prints foreign text as it is, but harmless on a terminal.
    pub fn foreign(&self, foreign: &str) -> io::Result<()> {
        if self.stdout_is_terminal {
            self.print(&text::printable(foreign))
        } else {
            self.print(foreign)
        }
    }

    /// Prints a value as JSON over several lines.
    pub fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(self.print(&self.for_here(serde_json::to_string_pretty(value)?))?)
    }

    /// Prints JSON text that already is one line.
    pub fn json_line(&self, json: &str) -> io::Result<()> {
        self.print(&self.for_here(json.to_owned()))
    }

    fn for_here(&self, json: String) -> String {
        if self.stdout_is_terminal { text::harmless_json(&json) } else { json }
    }

    /// Writes a command's own bytes to the stream of the same name.
    pub async fn bytes(&self, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        // tokio's handles write on a thread of their own: a terminal that is
        // stopped must not stop Ctrl-C from being heard.
        match stream {
            OutputStream::Stdout => {
                let mut stdout = tokio::io::stdout();
                stdout.write_all(bytes).await?;
                stdout.flush().await
            }
            OutputStream::Stderr => {
                let mut stderr = tokio::io::stderr();
                stderr.write_all(bytes).await?;
                stderr.flush().await
            }
        }
    }

    /// Tells a person something beside the output. A lost terminal is no error.
    pub fn note(&self, note: &str) {
        let _ = writeln!(io::stderr().lock(), "{}", text::printable(note));
    }

    /// Like [`Output::note`], unless nobody is there to read it.
    pub fn hint(&self, hint: &str) {
        if self.stderr_is_terminal {
            self.note(hint);
        }
    }

    /// Says what went wrong, with its causes, once.
    pub fn error(&self, error: &anyhow::Error) {
        self.note(&format!("error: {}", chain(error)));
    }

    /// A sign of life on standard error while something takes its time.
    pub fn spinner(&self, what: &str) -> ProgressBar {
        if !self.stderr_is_terminal {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}");
        let bar = ProgressBar::new_spinner()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
            .with_message(text::one_line(what, 60));
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }

    /// How far something is, on standard error.
    pub fn bar(&self) -> ProgressBar {
        if !self.stderr_is_terminal {
            return ProgressBar::hidden();
        }
        let template = "{bar:24} {percent:>3}% {bytes}/{total_bytes} {binary_bytes_per_sec} {msg}";
        let style = ProgressStyle::with_template(template);
        ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    /// `text` in `style`, where colours are wanted.
    pub fn styled(&self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "31",
            Style::Green => "32",
            Style::Yellow => "33",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Columns of the terminal, or more than anybody has.
    pub fn width(&self) -> u16 {
        if !self.stdout_is_terminal {
            return u16::MAX;
        }
        terminal_size::terminal_size().map_or(80, |(terminal_size::Width(columns), _)| columns)
    }
}

/// The error and its causes on one line. A cause that its error has already
/// told is not told again.
fn chain(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if line.is_empty() {
            line = cause;
        } else if !line.ends_with(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_told_once() {
        let error = anyhow::anyhow!("disk gone").context("cannot read 'x'").context("no logs");
        assert_eq!(chain(&error), "no logs: cannot read 'x': disk gone");
        let told = anyhow::anyhow!("disk gone").context("cannot read: disk gone");
        assert_eq!(chain(&told), "cannot read: disk gone");
    }

    #[test]
    fn colours_are_for_terminals_only() {
        let mut out = Output::piped();
        assert_eq!(out.styled(Style::Red, "x"), "x");
        out.colour = true;
        assert_eq!(out.styled(Style::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
