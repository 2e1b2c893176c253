//! A place in an answer, as the id of a server-sent event.
//!
//! `p1f:3:BASE64` stands for "the answer to the POST numbered 1f, up to its third
//! message". The last part says which request of which session is answered. It is
//! for the one case in which nothing else is left: the daemon that knew is gone.
//! Clients wait on for an answer whose stream is refused, some for minutes; told by
//! the request's id that it is lost, they can call again.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::mcp::session::Nonce;

/// Bytes of the session's nonce that tell whose answer it is. The client has them
/// all in its session id; they guard against mistakes, not against it.
const SESSION: usize = 4;

/// Bytes of a request's id in JSON; a longer one is not named.
const MOST_ID: usize = 64;

/// Where a reader stands.
#[derive(Debug, PartialEq)]
pub struct Place {
    /// Names the stream within its session.
    pub stream: u64,
    /// Messages that were read.
    pub seq: u64,
    mark: Vec<u8>,
}

/// The last part of the ids for an answer to the request `id`, or nothing.
pub fn mark(session: &Nonce, id: Option<&Value>) -> String {
    let Some(id) = id.map(Value::to_string).filter(|id| id.len() <= MOST_ID) else {
        return String::new();
    };
    let bytes = [&session[..SESSION], id.as_bytes()].concat();
    format!(":{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

impl Place {
    /// Reads a `Last-Event-ID`. `None` if no answer gave it out.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('p')?.splitn(3, ':');
        let stream = u64::from_str_radix(parts.next()?, 16).ok()?;
        let seq = parts.next()?.parse().ok()?;
        let mark = match parts.next() {
            Some(mark) if mark.len() <= 2 * MOST_ID => BASE64_URL_SAFE_NO_PAD.decode(mark).ok()?,
            Some(_) => return None,
            None => Vec::new(),
        };
        Some(Self { stream, seq, mark })
    }

    /// The id of the request that is answered, if it was one of `session`.
    pub fn asked(&self, session: &Nonce) -> Option<Value> {
        let id = self.mark.strip_prefix(&session[..SESSION])?;
        let id: Value = serde_json::from_slice(id).ok()?;
        (id.is_number() || id.is_string()).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SESSION: Nonce = [1; 16];

    #[test]
    fn a_place_is_read_back_with_the_request_that_it_answers() {
        for id in [json!(5), json!(-1), json!("a:b\n")] {
            let place = Place::parse(&format!("p1f:3{}", mark(&SESSION, Some(&id)))).unwrap();
            assert_eq!((place.stream, place.seq), (0x1f, 3));
            assert_eq!(place.asked(&SESSION), Some(id));
            assert_eq!(place.asked(&[2; 16]), None, "another session's");
        }
    }

    #[test]
    fn what_nobody_gave_out_names_no_request() {
        assert_eq!(mark(&SESSION, None), "");
        assert_eq!(mark(&SESSION, Some(&json!("x".repeat(MOST_ID)))), "");
        assert_eq!(Place::parse("p1f:3").unwrap().asked(&SESSION), None);
        let forged = |id: &str| {
            let bytes = [&SESSION[..4], id.as_bytes()].concat();
            Place::parse(&format!("p0:0:{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))).unwrap()
        };
        assert_eq!(forged("7").asked(&SESSION), Some(json!(7)));
        for id in ["", "null", "{}", "[1]", "7 8"] {
            assert_eq!(forged(id).asked(&SESSION), None, "{id}");
        }
        let long = format!("p0:0:{}", "A".repeat(1000));
        for bad in ["", "p", "p1f", "px:1", "p1:x", "p1:1:!", "g-00000007:17", &long] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }
}
