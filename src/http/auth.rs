//! The bearer token, and what happens to streams when it changes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use crate::model::{Principal, Project};

/// The one project that a request is about.
const PROJECT: HeaderName = HeaderName::from_static("fleetd-project");

/// 32 random bytes as 64 lower-case hex digits. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes 64 hex digits; `None` if `text` is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let good = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        good.then(|| Self(text.to_owned()))
    }

    /// From the system's random numbers.
    ///
    /// # Errors
    /// If the system has none to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self(hex(&bytes)))
    }

    /// The digits. Whoever asks is about to write them to a 0600 file.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// What is kept of a client's token.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A verified caller.
#[derive(Clone, Debug)]
pub struct Caller {
    pub principal: Principal,
    /// Cancelled when the token it showed is revoked, or the daemon stops.
    pub until: CancellationToken,
}

impl Caller {
    /// Narrows the caller to the project in its `Fleetd-Project` header: what it
    /// makes belongs there, and it sees nothing else. It can only become less.
    ///
    /// # Errors
    /// 400 for what is no project name, 403 for a project that is not the caller's.
    pub fn narrowed(mut self, headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(PROJECT).iter();
        let Some(value) = values.next() else { return Ok(self) };
        let name = value.to_str().ok().filter(|_| values.next().is_none()).unwrap_or_default();
        let project = Project::parse(name).map_err(|error| Problem::invalid(error.to_string()))?;
        if !self.principal.sees(&project) {
            return Err(Problem::forbidden("this token does not permit it"));
        }
        self.principal.projects = vec![project];
        Ok(self)
    }
}

/// The tokens that are valid now. Streams hold their token's `until`, so that
/// they end with it.
#[derive(Debug)]
pub struct Gate {
    closing: CancellationToken,
    current: RwLock<Arc<Generation>>,
    /// Tokens of clients, by digest: finding one by what nobody can choose tells
    /// nothing by the time it takes.
    named: RwLock<HashMap<[u8; 32], Caller>>,
}

#[derive(Debug)]
struct Generation {
    token: Secret,
    until: CancellationToken,
}

impl Gate {
    pub fn new(token: Secret, closing: CancellationToken) -> Self {
        let until = closing.child_token();
        let current = RwLock::new(Arc::new(Generation { token, until }));
        Self { closing, current, named: RwLock::default() }
    }

    /// The owner, on the Unix socket.
    pub fn owner(&self) -> Caller {
        Caller { principal: Principal::owner(), until: self.closing.clone() }
    }

    /// Checks `Authorization: Bearer …`, the only place a token may stand in.
    pub fn check(&self, headers: &HeaderMap) -> Option<Caller> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let (scheme, shown) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let generation = Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner));
        // In constant time for equal lengths; the length is no secret.
        let equal: bool = generation.token.0.as_bytes().ct_eq(shown.as_bytes()).into();
        if equal {
            let until = generation.until.clone();
            return Some(Caller { principal: Principal::owner(), until });
        }
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        named.get(&digest(shown)).cloned()
    }

    /// Lets `principal` in by the token of this digest.
    pub fn admit(&self, digest: [u8; 32], principal: Principal) {
        let caller = Caller { principal, until: self.closing.child_token() };
        self.named.write().unwrap_or_else(PoisonError::into_inner).insert(digest, caller);
    }

    /// Takes back an [`Gate::admit`].
    pub fn withdraw(&self, digest: &[u8; 32]) {
        self.named.write().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }

    /// Lets the principal of this id in no more and ends its streams.
    pub fn expel(&self, id: &str) {
        let mut named = self.named.write().unwrap_or_else(PoisonError::into_inner);
        let gone = named.extract_if(|_, caller| &*caller.principal.id == id);
        gone.for_each(|(_, caller)| caller.until.cancel());
    }

    /// Makes `token` the valid one and ends the streams of the old one.
    /// Returns whether it differed.
    pub fn replace(&self, token: Secret) -> bool {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.token == token {
            return false;
        }
        let until = self.closing.child_token();
        let old = std::mem::replace(&mut *current, Arc::new(Generation { token, until }));
        drop(current);
        old.until.cancel();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn only_the_exact_token_in_a_bearer_header_passes() {
        let token = Secret::generate().unwrap();
        let gate = Gate::new(token.clone(), CancellationToken::new());
        let text = token.reveal();
        assert!(gate.check(&headers(&format!("Bearer {text}"))).is_some());
        assert!(gate.check(&headers(&format!("bearer {text}"))).is_some());
        let bad = [
            String::new(),
            "Bearer".into(),
            "Bearer ".into(),
            format!("Bearer {}", &text[1..]),
            format!("Bearer {text}0"),
            format!("Bearer  {text}"),
            format!("Basic {text}"),
            text.to_owned(),
            format!("Bearer {}", "0".repeat(64)),
        ];
        for value in bad {
            assert!(gate.check(&headers(&value)).is_none(), "must be refused");
        }
        let mut twice = headers(&format!("Bearer {text}"));
        twice.append(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {text}")).unwrap());
        assert!(gate.check(&twice).is_none());
        assert!(!format!("{token:?}").contains(text));
    }

    #[test]
    fn a_client_s_token_lets_its_principal_in_until_it_is_revoked() {
        let gate = Gate::new(Secret::generate().unwrap(), CancellationToken::new());
        let shown = Secret::generate().unwrap();
        let asking = headers(&format!("Bearer {}", shown.reveal()));
        let ci = Principal { id: Arc::from("token/ci"), ..Principal::owner() };
        gate.admit(digest(shown.reveal()), ci);
        let caller = gate.check(&asking).unwrap();
        assert_eq!(&*caller.principal.id, "token/ci");
        gate.expel("token/other");
        assert!(!caller.until.is_cancelled());
        gate.expel("token/ci");
        assert!(caller.until.is_cancelled() && gate.check(&asking).is_none());
    }

    #[test]
    fn a_caller_can_only_become_less() {
        let gate = Gate::new(Secret::generate().unwrap(), CancellationToken::new());
        let within =
            |name: &str| HeaderMap::from_iter([(PROJECT, HeaderValue::from_str(name).unwrap())]);
        let blue = gate.owner().narrowed(&within("blue")).unwrap();
        assert_eq!(blue.principal.home_project().as_str(), "blue");
        assert!(!blue.principal.sees(&Project::default_project()));
        assert_eq!(blue.clone().narrowed(&within("red")).unwrap_err().status.as_u16(), 403);
        assert_eq!(blue.narrowed(&within("a b")).unwrap_err().status.as_u16(), 400);
        assert!(gate.owner().narrowed(&HeaderMap::new()).unwrap().principal.projects.is_empty());
    }

    #[test]
    fn a_new_token_ends_what_the_old_one_opened() {
        let (old, new) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        let gate = Gate::new(old.clone(), CancellationToken::new());
        let caller = gate.check(&headers(&format!("Bearer {}", old.reveal()))).unwrap();
        assert!(!gate.replace(old.clone()));
        assert!(!caller.until.is_cancelled());
        assert!(gate.replace(new.clone()));
        assert!(caller.until.is_cancelled());
        assert!(!gate.owner().until.is_cancelled());
        assert!(gate.check(&headers(&format!("Bearer {}", old.reveal()))).is_none());
        assert!(gate.check(&headers(&format!("Bearer {}", new.reveal()))).is_some());
    }
}
