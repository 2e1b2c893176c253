//! Positions in the journal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One unbroken life of a journal, 32 random bits shown as eight hex digits.
///
/// A store that went back in time begins a new epoch, so a cursor from before
/// can be told from one that merely looks familiar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u32);

/// `epoch:seq` of the last event seen. Resuming is exclusive: a reader at `7`
/// is given `8` next. `seq` 0 stands before the first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    pub epoch: Epoch,
    pub seq: u64,
}

/// Why a text is not a cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a cursor; write one as it was given, like 1a2b3c4d:17")]
pub struct CursorError(String);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (epoch, seq) = text.split_once(':')?;
            let plain = |s: &str, ok: fn(&u8) -> bool| !s.is_empty() && s.as_bytes().iter().all(ok);
            if epoch.len() != 8
                || !plain(epoch, u8::is_ascii_hexdigit)
                || !plain(seq, u8::is_ascii_digit)
            {
                return None;
            }
            let epoch = Epoch(u32::from_str_radix(epoch, 16).ok()?);
            // SQLite's integers are signed: a larger position cannot exist.
            let seq = seq.parse().ok().filter(|seq| *seq <= i64::MAX as u64)?;
            Some(Cursor { epoch, seq })
        };
        parse().ok_or_else(|| CursorError(text.chars().take(64).collect()))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_shows() {
        let cursor = Cursor { epoch: Epoch(0x00ab_cdef), seq: 17 };
        assert_eq!(cursor.to_string(), "00abcdef:17");
        assert_eq!("00abcdef:17".parse(), Ok(cursor));
    }

    #[test]
    fn refuses_what_is_not_a_cursor() {
        for bad in [
            "",
            "17",
            ":17",
            "00abcdef:",
            "00abcdef:-1",
            "00abcdef:+1",
            "abcdef:1",
            "00abcdeg:1",
            "00abcdef:9223372036854775808",
            "00abcdef:1:2",
            "00abcdef: 1",
        ] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad} must be refused");
        }
    }
}
