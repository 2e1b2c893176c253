//! Reading the configuration file.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::Config;

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Already says `file:line:column`.
    #[error("{file}:{line}:{column}: {problem}")]
    Invalid { file: String, line: usize, column: usize, problem: String },
    #[error("cannot read the configuration file '{path}'")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Reads `path`. A file that is not there means the defaults, unless a person
/// named it (`required`).
///
/// # Errors
/// With file, line and column if the content is wrong.
pub fn load(path: &Path, required: bool) -> Result<Config, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &path.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => {
            Ok(Config::default())
        }
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }
}

/// Parses `text`, named `file` in errors.
///
/// # Errors
/// With file, line and column.
pub fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
    let invalid = |offset: usize, problem: String| {
        let (line, column) = position(text, offset);
        ConfigError::Invalid { file: file.to_owned(), line, column, problem }
    };
    let config: Config = toml::from_str(text).map_err(|error: toml::de::Error| {
        invalid(error.span().map_or(0, |span| span.start), error.message().to_owned())
    })?;
    check(&config).map_err(|(section, key, problem)| {
        invalid(offset(text, section, key), format!("{section}.{key} {problem}"))
    })?;
    Ok(config)
}

/// Bounds that types cannot express: section, key and what is wrong.
fn check(config: &Config) -> Result<(), (&'static str, &'static str, &'static str)> {
    let Config { server, journal, tasks, transfers, members, log, .. } = config;
    let bounds = [
        ("server", "max_unauthenticated", 1, server.max_unauthenticated as u64),
        ("server", "max_connections", 1, server.max_connections as u64),
        ("journal", "max_events", 1, journal.max_events),
        ("journal", "max_mib", 1, journal.max_mib),
        ("journal", "max_days", 1, journal.max_days),
        ("journal", "ring_mib", 1, journal.ring_mib as u64),
        ("tasks", "concurrency", 1, tasks.concurrency as u64),
        ("tasks", "prompts", 1, tasks.prompts as u64),
        ("tasks", "max_queued", 0, tasks.max_queued as u64),
        ("tasks", "max_output_mib", 1, tasks.max_output_mib),
        ("tasks", "stop_grace_s", 0, tasks.stop_grace_s),
        ("tasks", "keep_days", 1, tasks.keep_days),
        ("tasks", "keep_mib", 1, tasks.keep_mib),
        ("tasks", "stall_after_s", 0, tasks.stall_after_s),
        ("transfers", "max_files", 1, transfers.max_files),
        ("transfers", "max_mib", 1, transfers.max_mib),
        ("members", "keepalive_s", 1, members.keepalive_s),
        ("members", "offline_after_s", 1, members.offline_after_s),
        ("members", "connect_timeout_s", 1, members.connect_timeout_s),
        ("log", "max_mib", 1, log.max_mib),
        ("log", "files", 1, log.files as u64),
    ];
    for (section, key, least, value) in bounds {
        if value < least {
            return Err((section, key, "has to be at least 1"));
        }
        if value > u64::from(u32::MAX) {
            return Err((section, key, "is larger than any machine can hold"));
        }
    }
    Ok(())
}

/// Where `key` of `section` stands in `text`, which has just been read.
fn offset(text: &str, section: &str, key: &str) -> usize {
    let find = || {
        let file = DeTable::parse(text).ok()?;
        let table = file.get_ref().get(section)?.get_ref().as_table()?;
        Some(table.get_key_value(key)?.0.span().start)
    };
    find().unwrap_or(0)
}

/// Line and column, both from 1, of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commented_default_says_what_the_defaults_are() {
        let text = include_str!("../../config/fleetd.toml");
        assert_eq!(parse(text, "config/fleetd.toml").unwrap(), Config::default());
        // Uncommenting every setting changes nothing either.
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| rest.contains(" = ")).unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        assert_eq!(parse(&uncommented, "config/fleetd.toml").unwrap(), Config::default());
    }

    #[test]
    fn an_unknown_key_is_refused_where_it_stands() {
        let error = parse("[server]\nport = 1\n  prot = 2\n", "f.toml").unwrap_err().to_string();
        assert!(error.starts_with("f.toml:3:3: "), "{error}");
        assert!(error.contains("prot"), "{error}");
    }

    #[test]
    fn a_value_out_of_bounds_is_refused_where_it_stands() {
        for (text, place) in [
            (
                "[journal]\nmax_mib = 5 # max_mib\n[log]\n  max_mib = 0\n",
                "f.toml:4:3: log.max_mib ",
            ),
            ("# files\nlog = { level = \"info\", files = 0 }\n", "f.toml:2:25: log.files "),
            ("[tasks]\nstop_grace_s = 9223372036854775807\n", "f.toml:2:1: tasks.stop_grace_s "),
        ] {
            let error = parse(text, "f.toml").unwrap_err().to_string();
            assert!(error.starts_with(place), "{error}");
        }
    }
}
