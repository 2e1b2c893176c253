//! Session ids: authenticated values, not keys of a table.
//!
//! An id carries what the session agreed on (revision, kind of client, tools) and a
//! random part, and a code that only this daemon can make for this principal.
//! So a session costs no memory until it has a stream, survives a restart, and
//! an id that is forged or another principal's is simply not one.
//! It is never authentication: the principal has been verified before.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::patience::Patience;
use super::revision::Revision;
use crate::model::ToolSets;

/// Separates this use of the key from any other.
const PURPOSE: &[u8] = b"fleetd mcp session 2\0";

/// Revision, kind of client, sets of tools, then the random part.
const HEAD: usize = 6;
const NONCE: usize = 16;
const CODE: usize = 16;

/// The secret that makes session ids ours. Kept by the daemon across restarts.
#[derive(Clone)]
pub struct SessionKey([u8; 32]);

/// What tells one session from another: 128 random bits.
pub type Nonce = [u8; NONCE];

/// A session, as its id tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct McpSession {
    pub revision: Revision,
    pub patience: Patience,
    /// What it was offered when it began.
    pub offer: ToolSets,
    pub nonce: Nonce,
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

impl SessionKey {
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A new session of `principal` and its id, in visible ASCII.
    ///
    /// # Errors
    /// If the system has no random bytes.
    pub fn mint(
        &self,
        principal: &str,
        revision: Revision,
        patience: Patience,
        offer: ToolSets,
    ) -> Result<(McpSession, String), getrandom::Error> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce)?;
        let mut bytes = vec![revision as u8, patience.to_byte()];
        bytes.extend_from_slice(&offer.to_bits().to_le_bytes());
        bytes.extend_from_slice(&nonce);
        // Without a code the id opens for nobody.
        bytes.extend_from_slice(&self.code(principal, &bytes).unwrap_or_default());
        Ok((McpSession { revision, patience, offer, nonce }, hex(&bytes)))
    }

    /// The session of this id, if `principal` was given it by us.
    pub fn open(&self, principal: &str, id: &str) -> Option<McpSession> {
        let bytes = unhex(id)?;
        if bytes.len() != HEAD + NONCE + CODE {
            return None;
        }
        let (said, code) = bytes.split_at(HEAD + NONCE);
        if !bool::from(self.code(principal, said)?.ct_eq(code)) {
            return None;
        }
        let revision = Revision::ALL.into_iter().find(|revision| *revision as u8 == said[0])?;
        let offer = ToolSets::from_bits(u32::from_le_bytes(said[2..HEAD].try_into().ok()?))?;
        let nonce = said[HEAD..].try_into().ok()?;
        Some(McpSession { revision, patience: Patience::from_byte(said[1]), offer, nonce })
    }

    /// `None` never happens: HMAC takes a key of any length.
    fn code(&self, principal: &str, said: &[u8]) -> Option<[u8; CODE]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(PURPOSE);
        mac.update(said);
        // Last and so unambiguous: what comes before has a fixed length.
        mac.update(principal.as_bytes());
        mac.finalize().into_bytes().first_chunk().copied()
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    // Lower case only: one session has one id.
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ToolSet;

    fn key() -> SessionKey {
        SessionKey::new([7; 32])
    }

    #[test]
    fn an_id_tells_its_session_after_a_restart_too() {
        let offer = ToolSets::ALL.with(ToolSet::Task);
        let (session, id) =
            key().mint("owner", Revision::V2025_06_18, Patience::ClaudeCode, offer).unwrap();
        assert_eq!(session.offer, offer);
        assert_eq!(SessionKey::new([7; 32]).open("owner", &id), Some(session));
        assert!(id.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
    }

    #[test]
    fn a_forged_or_foreign_id_is_none() {
        let offer = ToolSets::DEFAULT;
        let (_, id) = key().mint("owner", Revision::V2025_06_18, Patience::Unknown, offer).unwrap();
        assert_eq!(key().open("other", &id), None);
        assert_eq!(SessionKey::new([8; 32]).open("owner", &id), None);
        for at in 0..id.len() {
            let mut forged = id.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(key().open("owner", &forged), None, "{at}");
        }
        for bad in ["", "0", "zz", &id[2..], &format!("{id}00"), &id.to_uppercase()] {
            assert_eq!(key().open("owner", bad), None, "{bad}");
        }
    }

    #[test]
    fn the_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", key()), "SessionKey(…)");
    }
}
