//! Who may even ask: the rules against web pages, before a token is looked at.
//!
//! A page in a browser can reach a loopback port, but it cannot hide where it
//! comes from: `Host` betrays a rebound name, `Origin`, `Referer` and
//! `Sec-Fetch-Site` betray a foreign page. Where a request says that it comes
//! from a forwarder (`X-Forwarded-*`), that is not believed and not needed.

use http::header::{HOST, HeaderMap, HeaderName, ORIGIN, REFERER};

use super::problem::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// How a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    /// The Unix socket, whose peer has our uid: the owner.
    Unix,
}

/// The names that this daemon answers to.
#[derive(Clone, Debug)]
pub struct Guard {
    hosts: [String; 3],
}

impl Guard {
    /// For a listener on loopback `port`.
    pub fn new(port: u16) -> Self {
        let host = |name: &str| format!("{name}:{port}");
        Self { hosts: [host("127.0.0.1"), host("localhost"), host("[::1]")] }
    }

    /// Checks where a request says it comes from.
    ///
    /// # Errors
    /// 403 without saying which names would pass.
    pub fn check(&self, transport: Transport, headers: &HeaderMap) -> Result<(), Problem> {
        if transport == Transport::Tcp && !all(headers, &HOST, true, |host| self.is_own(host)) {
            return Err(Problem::forbidden("this host name is not served"));
        }
        let own_origin = |value: &str| self.origin_end(value).is_some_and(str::is_empty);
        let own_page = |value: &str| {
            self.origin_end(value).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let own_site = |value: &str| matches!(value, "none" | "same-origin");
        if all(headers, &ORIGIN, false, own_origin)
            && all(headers, &REFERER, false, own_page)
            && all(headers, &SEC_FETCH_SITE, false, own_site)
        {
            Ok(())
        } else {
            Err(Problem::forbidden("requests of other web pages are refused"))
        }
    }

    fn is_own(&self, host: &str) -> bool {
        self.hosts.iter().any(|own| own == host)
    }

    /// What follows one of our own origins in `value`.
    fn origin_end<'a>(&self, value: &'a str) -> Option<&'a str> {
        let rest = value.strip_prefix("http://")?;
        self.hosts.iter().find_map(|own| rest.strip_prefix(own.as_str()))
    }
}

/// Whether every value of `name` passes; `needed` asks for exactly one.
fn all(
    headers: &HeaderMap,
    name: &HeaderName,
    needed: bool,
    passes: impl Fn(&str) -> bool,
) -> bool {
    let mut count = 0;
    let good = headers.get_all(name).iter().all(|value| {
        count += 1;
        value.to_str().is_ok_and(&passes)
    });
    good && (!needed || count == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn check(transport: Transport, pairs: &[(HeaderName, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        Guard::new(4711).check(transport, &headers).is_ok()
    }

    #[test]
    fn only_exact_loopback_names_with_our_port_pass() {
        for good in ["127.0.0.1:4711", "localhost:4711", "[::1]:4711"] {
            assert!(check(Transport::Tcp, &[(HOST, good)]), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1",
            "localhost",
            "localhost.:4711",
            "127.0.0.1:4712",
            "0.0.0.0:4711",
            "[::ffff:127.0.0.1]:4711",
            "evil.example:4711",
            "user@127.0.0.1:4711",
            "127.0.0.1:4711.evil.example",
            "127.0.0.1:04711",
            "LOCALHOST:4711",
            "127.1:4711",
        ] {
            assert!(!check(Transport::Tcp, &[(HOST, bad)]), "{bad}");
        }
        assert!(!check(Transport::Tcp, &[]));
        assert!(!check(Transport::Tcp, &[(HOST, "localhost:4711"), (HOST, "localhost:4711")]));
        assert!(check(Transport::Unix, &[(HOST, "fleetd")]));
        assert!(check(Transport::Unix, &[]));
    }

    #[test]
    fn foreign_pages_are_refused_on_both_transports() {
        let own = "http://localhost:4711";
        for transport in [Transport::Tcp, Transport::Unix] {
            let with = |name: HeaderName, value: &str| {
                check(transport, &[(HOST, "localhost:4711"), (name, value)])
            };
            assert!(with(ORIGIN, own));
            assert!(with(REFERER, own));
            assert!(with(REFERER, "http://127.0.0.1:4711/ui"));
            assert!(with(SEC_FETCH_SITE, "none"));
            assert!(with(SEC_FETCH_SITE, "same-origin"));
            for bad in [
                "null",
                "",
                "http://evil.example",
                "http://localhost:4712",
                "http://localhost",
                "https://localhost:4711",
                "http://localhost:47110",
                "http://localhost:4711/",
                "http://localhost:4711@evil.example",
                "HTTP://localhost:4711",
            ] {
                assert!(!with(ORIGIN, bad), "{bad}");
            }
            for bad in ["http://evil.example/", "http://localhost:47110/", "about:blank", ""] {
                assert!(!with(REFERER, bad), "{bad}");
            }
            for bad in ["cross-site", "same-site", "", "NONE"] {
                assert!(!with(SEC_FETCH_SITE, bad), "{bad}");
            }
        }
    }
}
