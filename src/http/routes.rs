//! The table of routes. Dispatch is driven by it, so a route that does not say
//! who may reach it cannot be reached at all.

use http::Method;

use crate::model::Scope;

/// Who may reach a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody who can open the socket; tells nothing worth knowing.
    Public,
    /// A bearer token with this scope, or the owner on the Unix socket.
    Bearer(Scope),
}

/// What stands behind a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Health,
    Metrics,
    ReadEvents,
    PublishEvents,
    TaskOutput,
    TaskInput,
    MemberHostKey,
    TrustMember,
    ListTokens,
    CreateToken,
    RevokeToken,
    Mcp,
}

/// One row of the table.
#[derive(Debug)]
pub struct Route {
    pub method: Method,
    /// `{id}` stands for one segment.
    pub pattern: &'static str,
    pub access: Access,
    pub target: Target,
}

const fn route(method: Method, pattern: &'static str, access: Access, target: Target) -> Route {
    Route { method, pattern, access, target }
}

const READ: Access = Access::Bearer(Scope::Read);
const ADMIN: Access = Access::Bearer(Scope::Admin);

/// Everything that is served.
pub const ROUTES: &[Route] = &[
    route(Method::GET, "/healthz", Access::Public, Target::Health),
    // It counts what happens in every project.
    route(Method::GET, "/metrics", ADMIN, Target::Metrics),
    route(Method::GET, "/events", READ, Target::ReadEvents),
    route(Method::POST, "/events", Access::Bearer(Scope::Publish), Target::PublishEvents),
    route(Method::GET, "/tasks/{id}/output", READ, Target::TaskOutput),
    route(Method::POST, "/tasks/{id}/input", Access::Bearer(Scope::Run), Target::TaskInput),
    route(Method::GET, "/members/{id}/hostkey", ADMIN, Target::MemberHostKey),
    route(Method::POST, "/members/{id}/hostkey", ADMIN, Target::TrustMember),
    route(Method::GET, "/tokens", ADMIN, Target::ListTokens),
    route(Method::POST, "/tokens", ADMIN, Target::CreateToken),
    route(Method::DELETE, "/tokens/{id}", ADMIN, Target::RevokeToken),
    // Tools check the scope they need themselves; reading is what all of them share.
    route(Method::POST, "/mcp", READ, Target::Mcp),
    route(Method::GET, "/mcp", READ, Target::Mcp),
    route(Method::DELETE, "/mcp", READ, Target::Mcp),
    // The same with other sets of tools.
    route(Method::POST, "/mcp/x/{id}", READ, Target::Mcp),
    route(Method::GET, "/mcp/x/{id}", READ, Target::Mcp),
    route(Method::DELETE, "/mcp/x/{id}", READ, Target::Mcp),
    // The transport of 2024-11-05, which clients still fall back to.
    route(Method::GET, "/sse", READ, Target::Mcp),
    route(Method::GET, "/sse/x/{id}", READ, Target::Mcp),
    route(Method::POST, "/messages", READ, Target::Mcp),
];

/// What a method and a path lead to.
#[derive(Debug)]
pub enum Found<'a> {
    /// With the segment that stands for `{id}`, or an empty text.
    Route(&'static Route, &'a str),
    /// The path is known, this method is not.
    WrongMethod,
    Nothing,
}

/// Looks `path` up, which has no query.
pub fn find<'a>(method: &Method, path: &'a str) -> Found<'a> {
    let mut found = Found::Nothing;
    for route in ROUTES {
        if let Some(id) = matches(route.pattern, path) {
            if route.method == *method {
                return Found::Route(route, id);
            }
            found = Found::WrongMethod;
        }
    }
    found
}

fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let mut id = "";
    let mut path = path.split('/');
    for expected in pattern.split('/') {
        let actual = path.next()?;
        if expected == "{id}" && !actual.is_empty() {
            id = actual;
        } else if expected != actual {
            return None;
        }
    }
    path.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_bare_liveness_route_is_public() {
        let public: Vec<_> = ROUTES.iter().filter(|route| route.access == Access::Public).collect();
        assert_eq!(public.len(), 1);
        assert_eq!((public[0].pattern, &public[0].method), ("/healthz", &Method::GET));
    }

    #[test]
    fn every_row_is_found_by_its_own_pattern_and_no_other() {
        for route in ROUTES {
            let path = route.pattern.replace("{id}", "some-id");
            match find(&route.method, &path) {
                Found::Route(found, id) => {
                    assert_eq!((&found.method, found.pattern), (&route.method, route.pattern));
                    assert_eq!(id.is_empty(), !route.pattern.contains("{id}"));
                }
                other => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn near_misses_are_nothing() {
        for path in [
            "/",
            "",
            "/health",
            "/healthz/",
            "//healthz",
            "/tasks//output",
            "/tasks/a/b/output",
            "/Events",
        ] {
            assert!(matches!(find(&Method::GET, path), Found::Nothing), "{path}");
        }
        assert!(matches!(find(&Method::PUT, "/events"), Found::WrongMethod));
    }
}
