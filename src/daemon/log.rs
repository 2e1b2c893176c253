//! The daemon's own log: a private, size-capped file, and the terminal if a
//! person looks on.
//!
//! Only fleetd's own words are written. What libraries have to say may hold
//! payloads or headers, and is not (S06, S15).

mod file;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, reload};

use crate::config;
use crate::model::Timestamp;
use file::RotatingFile;

/// Lines that may wait for the disk; more are dropped and counted, since a slow
/// disk must not slow the daemon.
const WAITING: usize = 4096;

/// Keeps the writer alive; what waits is written when it is dropped.
pub struct Logging {
    level: reload::Handle<Targets, Registry>,
    dropped: ErrorCounter,
    _guard: WorkerGuard,
}

impl Logging {
    /// Begins to log to `directory`, which exists and is ours alone. The first
    /// call in a process wins; there is one daemon in it but for tests.
    pub fn start(directory: &Path, settings: &config::Log) -> Self {
        let file = RotatingFile::new(
            directory.join("fleetd.log"),
            settings.max_mib.saturating_mul(1024 * 1024),
            settings.files,
        );
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(WAITING)
            .thread_name("fleetd-log")
            .finish(file);
        let dropped = writer.error_counter();
        let (filter, level) = reload::Layer::new(targets(settings.level));
        // Under a service manager stderr is a pipe and the file is enough.
        let terminal = io::stderr().is_terminal().then(|| {
            let lines = tracing_subscriber::fmt::layer().with_timer(Clock).with_ansi(false);
            lines.with_writer(|| Plain(io::stderr()))
        });
        let lines = tracing_subscriber::fmt::layer().with_timer(Clock).with_ansi(false);
        let subscriber = tracing_subscriber::registry()
            .with(filter)
            .with(terminal)
            .with(lines.with_writer(writer));
        // Refused only if somebody was first, whose log then goes on.
        let _ = tracing::subscriber::set_global_default(subscriber);
        report_panics();
        Self { level, dropped, _guard: guard }
    }

    pub fn set_level(&self, level: config::LogLevel) {
        let _ = self.level.reload(targets(level));
    }

    /// Reads how many lines were dropped.
    pub fn dropped_lines(&self) -> Arc<dyn Fn() -> u64 + Send + Sync> {
        let dropped = self.dropped.clone();
        Arc::new(move || dropped.dropped_lines() as u64)
    }
}

fn targets(level: config::LogLevel) -> Targets {
    let level = match level {
        config::LogLevel::Error => LevelFilter::ERROR,
        config::LogLevel::Warn => LevelFilter::WARN,
        config::LogLevel::Info => LevelFilter::INFO,
        config::LogLevel::Debug => LevelFilter::DEBUG,
        config::LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_target("fleetd", level)
}

/// Says where a panic was, and not what it said: that may quote a payload.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(target: "fleetd", %place, "a defect: panicked");
    }));
}

/// The time as everything else shows it.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", Timestamp::now())
    }
}

/// Replaces everything that could drive a terminal or forge a line.
fn plain(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let body = text.strip_suffix('\n').unwrap_or(&text);
    let mut plain: String =
        body.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    plain.push('\n');
    plain.into_bytes()
}

/// A writer whose lines are plain.
struct Plain<W>(W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(&plain(line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_drive_a_terminal_or_forge_a_line() {
        let line = plain(b"a\x1b[31mred\x07\r\nforged\xc2\x9b2J\tb\n");
        let text = String::from_utf8(line).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.trim_end_matches('\n').chars().any(char::is_control), "{text:?}");
    }

    #[test]
    fn libraries_are_not_quoted() {
        let targets = targets(config::LogLevel::Trace);
        assert!(targets.would_enable("fleetd::http", &tracing::Level::TRACE));
        assert!(!targets.would_enable("rmcp", &tracing::Level::ERROR));
        assert!(!targets.would_enable("hyper::proto", &tracing::Level::ERROR));
    }
}
