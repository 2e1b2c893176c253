//! The inventory of routes, read from the table that dispatch is driven by.

use crate::support::Request;

/// One row: method, a path that matches it, and whether it is public.
pub struct Route {
    pub method: String,
    pub path: String,
    pub public: bool,
}

impl Route {
    /// A request with a body where one is usual, without Host and token.
    pub fn request(&self) -> Request {
        let request = Request::new(&self.method, &self.path);
        if self.method == "POST" { request.body("application/json", b"{}") } else { request }
    }
}

/// Every route of `src/http/routes.rs`.
///
/// # Panics
/// If the table cannot be read: a test over no routes would hold for anything.
pub fn routes() -> Vec<Route> {
    let source = include_str!("../../../src/http/routes.rs");
    let (_, table) = source.split_once(" ROUTES: &[Route] = &[").expect("the table of routes");
    let (table, _) = table.split_once("];").expect("the end of the table");
    let table: String = table.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows: Vec<Route> = table.split("route(").skip(1).map(row).collect();
    assert!(rows.len() >= 9, "only {} routes found", rows.len());
    rows
}

fn row(text: &str) -> Route {
    let mut cells = text.trim().splitn(3, ',').map(str::trim);
    let mut next = || cells.next().unwrap_or_else(|| panic!("not a row: {text}"));
    let method = next().trim_start_matches("Method::").to_owned();
    let path = next().trim_matches('"').replace("{id}", "9b2d8a14-9d0c-4d1b-8f3e-6b1f0a4c2e7d");
    Route { method, path, public: next().contains("Public") }
}
