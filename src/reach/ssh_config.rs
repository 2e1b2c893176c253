//! What `~/.ssh/config` makes of a target.
//!
//! `Match` blocks are left out: they may run programs, and the parser does not
//! know them (their lines would count for the `Host` before them). A
//! `ProxyCommand` is refused rather than overlooked.

use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use ssh2_config::{HostParams, ParseRule, SshConfig};

use super::error::ReachError;
use super::options::ReachOptions;
use super::target::Target;

/// The keys that ssh looks for by itself, in its order.
const DEFAULT_KEYS: [&str; 3] = ["id_ed25519", "id_ecdsa", "id_rsa"];

/// Where a target really leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub host: String,
    pub port: u16,
    pub user: String,
    /// Those of the configuration, or the default ones that are there.
    pub identities: Vec<PathBuf>,
    /// Of the agent, offer these alone.
    pub identities_only: bool,
    /// `[user@]host[:port]`, nearest first.
    pub jumps: Vec<String>,
}

/// Applies the configuration; what the target says itself wins.
pub(super) fn resolve(options: &ReachOptions, target: &Target) -> Result<Resolved, ReachError> {
    let path = options.ssh_dir.join("config");
    let params = read(options, &path)?.query(&target.host);
    if let Some(command) = word(&params, "proxycommand").filter(|command| *command != "none") {
        let problem = format!("ProxyCommand '{command}' is not supported; use ProxyJump");
        return Err(ReachError::Config { path, problem });
    }
    let name = params.host_name.clone().unwrap_or_else(|| target.host.clone());
    let host = expand(&name, &[('h', &target.host)], &path)?;
    let user = target.user.clone().or_else(|| params.user.clone());
    let user = user.unwrap_or_else(|| options.user.clone());
    let home = options.home.to_string_lossy().into_owned();
    let tokens = [('h', host.as_str()), ('d', &home), ('r', &user), ('u', &options.user)];
    let configured = params.identity_file.clone().unwrap_or_default();
    let mut identities = Vec::new();
    for file in configured.iter().filter(|file| file.as_os_str() != "none") {
        identities.push(PathBuf::from(expand(&file.to_string_lossy(), &tokens, &path)?));
    }
    if configured.is_empty() {
        let keys = DEFAULT_KEYS.iter().map(|name| options.ssh_dir.join(name));
        identities = keys.filter(|key| key.exists()).collect();
    }
    Ok(Resolved {
        port: target.port.or(params.port).unwrap_or(22),
        jumps: jumps(target, &params),
        identities_only: word(&params, "identitiesonly")
            .is_some_and(|word| ["yes", "true"].contains(&word.to_ascii_lowercase().as_str())),
        host,
        user,
        identities,
    })
}

fn jumps(target: &Target, params: &HostParams) -> Vec<String> {
    let listed = match &target.jump {
        Some(jump) => jump.split(',').map(|jump| jump.trim().to_owned()).collect(),
        None => params.proxy_jump.clone().unwrap_or_default(),
    };
    if listed.iter().any(|jump| jump.eq_ignore_ascii_case("none")) {
        return Vec::new();
    }
    listed.into_iter().filter(|jump| !jump.is_empty()).collect()
}

/// Reads `[user@]host[:port]` or `ssh://…`; a host with colons stands in brackets.
pub(super) fn jump_target(text: &str) -> Result<Target, ReachError> {
    let wrong = || ReachError::Invalid {
        what: "the jump host",
        problem: format!("'{text}' is not of the form [user@]host[:port]"),
    };
    let bare = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
    let (user, place) = match bare.rsplit_once('@') {
        Some((user, place)) => (Some(user.to_owned()), place),
        None => (None, bare),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            (host, after.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.map(str::parse).transpose().map_err(|_| wrong())?;
    if host.is_empty() || user.as_ref().is_some_and(String::is_empty) {
        return Err(wrong());
    }
    Ok(Target { user, port, ..Target::new(host) })
}

fn read(options: &ReachOptions, path: &Path) -> Result<SshConfig, ReachError> {
    let failed = |problem: String| ReachError::Config { path: path.to_owned(), problem };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => without_matches(&text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(SshConfig::default()),
        Err(error) => return Err(failed(error.to_string())),
    };
    let rules = ParseRule::ALLOW_UNKNOWN_FIELDS | ParseRule::ALLOW_UNSUPPORTED_FIELDS;
    let config = SshConfig::default().home_dir(&options.home);
    let parsed = config.parse(&mut BufReader::new(text.as_bytes()), rules);
    parsed.map_err(|error| failed(error.to_string()))
}

/// The text without what stands between a `Match` and the next `Host`.
fn without_matches(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        let word = line.trim_start().split([' ', '\t', '=']).next().unwrap_or_default();
        if word.eq_ignore_ascii_case("match") {
            inside = true;
        } else if word.eq_ignore_ascii_case("host") {
            inside = false;
        }
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// The first word of an option that the parser only hands through.
fn word<'a>(params: &'a HostParams, option: &str) -> Option<&'a str> {
    let fields = [&params.unsupported_fields, &params.ignored_fields];
    let found = fields.into_iter().flatten().find(|(name, _)| name.eq_ignore_ascii_case(option));
    found.and_then(|(_, words)| words.first()).map(String::as_str)
}

/// Replaces `%h` and the like; one that is not listed is an error.
fn expand(text: &str, tokens: &[(char, &str)], path: &Path) -> Result<String, ReachError> {
    let mut expanded = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            expanded.push(letter);
            continue;
        }
        let token = letters.next();
        match token.and_then(|token| tokens.iter().find(|(known, _)| *known == token)) {
            Some((_, value)) => expanded.push_str(value),
            None if token == Some('%') => expanded.push('%'),
            None => {
                let token = token.map(String::from).unwrap_or_default();
                let problem = format!("'%{token}' in '{text}' is not supported");
                return Err(ReachError::Config { path: path.to_owned(), problem });
            }
        }
    }
    Ok(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(config: &str, target: &Target) -> Result<Resolved, ReachError> {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".ssh")).unwrap();
        std::fs::write(home.path().join(".ssh/config"), config).unwrap();
        std::fs::write(home.path().join(".ssh/id_rsa"), "").unwrap();
        let mut options = ReachOptions::new(home.path(), "known".into(), "me");
        let mut resolved = resolve(&options, target)?;
        options.home = PathBuf::from("/h");
        for file in &mut resolved.identities {
            *file = Path::new("~").join(file.strip_prefix(home.path()).unwrap_or(file));
        }
        Ok(resolved)
    }

    const CONFIG: &str = "Host box\n HostName %h.example\n Port 2222\n User her\n \
        IdentityFile ~/keys/%r\n IdentitiesOnly yes\n ProxyJump a@one:1,two\n\
        Match exec \"touch /tmp/x\"\n Port 9\nHost *\n User them\n";

    #[test]
    fn an_alias_becomes_what_the_configuration_says() {
        let found = resolved(CONFIG, &Target::new("box")).unwrap();
        assert_eq!(found.host, "box.example");
        assert_eq!((found.port, found.user.as_str()), (2222, "her"));
        assert_eq!(found.identities, [PathBuf::from("~/keys/her")]);
        assert!(found.identities_only);
        assert_eq!(found.jumps, ["a@one:1", "two"]);
    }

    #[test]
    fn the_target_wins_and_others_get_the_defaults() {
        let target = Target {
            port: Some(1),
            user: Some("x".into()),
            jump: Some("none".into()),
            ..Target::new("box")
        };
        let found = resolved(CONFIG, &target).unwrap();
        assert_eq!((found.port, found.user.as_str()), (1, "x"));
        assert_eq!(found.jumps, [""; 0]);
        let other = resolved(CONFIG, &Target::new("other")).unwrap();
        assert_eq!((other.host.as_str(), other.port), ("other", 22), "Match is left out");
        assert_eq!(other.user, "them");
        assert_eq!(other.identities, [PathBuf::from("~/.ssh/id_rsa")]);
        assert!(!other.identities_only);
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for config in ["ProxyCommand nc %h %p\n", "HostName %q\n"] {
            let error = resolved(config, &Target::new("box")).unwrap_err();
            assert!(error.to_string().contains("not supported"), "{error}");
        }
    }

    #[test]
    fn jump_hosts_are_read() {
        let read = |text: &str| {
            jump_target(text).map(|t| (t.user.unwrap_or_default(), t.host, t.port.unwrap_or(0)))
        };
        let is = |user: &str, host: &str, port: u16| Ok((user.to_owned(), host.to_owned(), port));
        assert_eq!(read("host"), is("", "host", 0));
        assert_eq!(read("a@b@host:3"), is("a@b", "host", 3));
        assert_eq!(read("ssh://u@[::1]:22/"), is("u", "::1", 22));
        for wrong in ["", "@host", "host:x", "[::1", "u@"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
