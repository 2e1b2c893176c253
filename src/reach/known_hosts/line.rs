//! One line of a `known_hosts` file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    None,
    Revoked,
    Authority,
}

/// Whom a line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    /// `|1|salt|hash`: an HMAC-SHA-1 of the name.
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
    /// Patterns with `*` and `?`; `true`: the line is not about these.
    Patterns(Vec<(bool, String)>),
}

/// A key, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub marker: Marker,
    hosts: Hosts,
    pub algorithm: String,
    pub blob: Vec<u8>,
    /// From 1.
    pub number: usize,
}

impl Line {
    /// `None` for comments, empty lines, and what cannot be read.
    pub fn parse(text: &str, number: usize) -> Option<Self> {
        let mut words = text.split_ascii_whitespace().peekable();
        let marker = match *words.peek()? {
            "@revoked" => Marker::Revoked,
            "@cert-authority" => Marker::Authority,
            other if other.starts_with(['@', '#']) => return None,
            _ => Marker::None,
        };
        if marker != Marker::None {
            words.next();
        }
        let hosts = Hosts::parse(words.next()?)?;
        let algorithm = words.next()?.to_owned();
        let blob = STANDARD.decode(words.next()?).ok()?;
        (super::algorithm(&blob) == algorithm).then_some(Self {
            marker,
            hosts,
            algorithm,
            blob,
            number,
        })
    }

    /// Whether it is about the host of this name, as [`super::name`] spells it.
    pub fn names(&self, name: &str) -> bool {
        match &self.hosts {
            Hosts::Hashed { salt, hash } => {
                let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(salt) else { return false };
                mac.update(name.as_bytes());
                mac.verify_slice(hash).is_ok()
            }
            Hosts::Patterns(patterns) => {
                let hits = |not: bool| {
                    let ours = patterns.iter().filter(move |(negated, _)| *negated == not);
                    ours.into_iter().any(|(_, pattern)| matches(pattern, name))
                };
                !hits(true) && hits(false)
            }
        }
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if let Some(hashed) = text.strip_prefix("|1|") {
            let (salt, hash) = hashed.split_once('|')?;
            let (salt, hash) = (STANDARD.decode(salt).ok()?, STANDARD.decode(hash).ok()?);
            return Some(Self::Hashed { salt, hash });
        }
        let pattern = |text: &str| match text.strip_prefix('!') {
            Some(rest) => (true, rest.to_ascii_lowercase()),
            None => (false, text.to_ascii_lowercase()),
        };
        Some(Self::Patterns(text.split(',').filter(|p| !p.is_empty()).map(pattern).collect()))
    }
}

/// `*` is any text, `?` one character; linear in both lengths' product at worst.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last `*` does not fit.
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after, from)) => {
                    (p, t) = (after, from + 1);
                    retry = Some((after, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}
