//! Reading the configuration file.

use std::path::{Path, PathBuf};

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
    check(&config).map_err(|(key, problem)| {
        invalid(text.find(key).unwrap_or(0), format!("{key} {problem}"))
    })?;
    Ok(config)
}

/// Bounds that types cannot express.
fn check(config: &Config) -> Result<(), (&'static str, &'static str)> {
    let positive = [
        ("max_unauthenticated", config.server.max_unauthenticated as u64),
        ("max_connections", config.server.max_connections as u64),
        ("max_events", config.journal.max_events),
        ("max_mib", config.journal.max_mib),
        ("max_days", config.journal.max_days),
        ("ring_mib", config.journal.ring_mib as u64),
        ("concurrency", config.tasks.concurrency as u64),
        ("max_output_mib", config.tasks.max_output_mib),
        ("keep_days", config.tasks.keep_days),
        ("keep_mib", config.tasks.keep_mib),
        ("max_mib", config.log.max_mib),
        ("files", config.log.files as u64),
    ];
    for (key, value) in positive {
        if value == 0 {
            return Err((key, "has to be at least 1"));
        }
        if value > u64::from(u32::MAX) {
            return Err((key, "is larger than any machine can hold"));
        }
    }
    Ok(())
}

/// Line and column, both from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
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
}
