//! Paths in code: which components and crates a file reaches for.

use std::collections::BTreeSet;

use super::source::Source;
use super::table::Table;

/// Crates that are vocabulary everywhere.
const EVERYWHERE: &[&str] = &["std", "core", "alloc", "crate", "self", "super", "Self"];

/// A path as far as a rule needs it: `crate::store::Tx` is `["crate", "store", "Tx"]`.
#[derive(Debug, PartialEq, Eq)]
pub struct Path {
    pub segments: Vec<String>,
    pub offset: usize,
}

/// Modules that a face offers as a whole: component and name.
pub type Modules = BTreeSet<(String, String)>;

/// What the faces among `sources` declare with `pub mod`.
pub fn public_modules(sources: &[Source]) -> Modules {
    let faces = sources.iter().filter(|file| file.path.matches('/').count() == 1);
    let declared = faces.filter_map(|face| Some((face.component()?, face.shipped())));
    let modules = declared.flat_map(|(component, code)| {
        let names =
            code.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        names.map(|name| (component.to_owned(), name.to_owned()))
    });
    modules.collect()
}

/// Edges that the table does not have, reaches past a face, and crates away from home.
pub fn violations(file: &Source, table: &Table, public: &Modules) -> Vec<String> {
    let Some(own) = file.component() else { return Vec::new() };
    let mut findings = past_faces(file, public);
    // Tests may use more than what ships: a store test may well make a bus.
    for path in paths(file.shipped()) {
        let place = || file.at(path.offset);
        match path.segments.first().map(String::as_str) {
            Some("crate") => {
                let to = path.segments.get(1).map_or("", String::as_str);
                if !table.allows(own, to) {
                    findings.push(format!("{}: {own} may not import {to}", place()));
                }
            }
            Some(first) if !EVERYWHERE.contains(&first) => {
                if let Some(homes) = table.homes.get(first).filter(|homes| !homes.contains(own)) {
                    let homes = homes.iter().cloned().collect::<Vec<_>>().join(", ");
                    findings.push(format!("{}: {first} lives in {homes}, not in {own}", place()));
                }
            }
            _ => {}
        }
    }
    findings
}

/// Paths that go through another component's face into its innards:
/// `crate::store::writer::…` from anywhere but the store, `fleetd::store::writer::…`
/// from `bin`. Modules are lower case, what a face offers directly is a type, a
/// function (the last segment) or a public module of its own.
pub fn past_faces(file: &Source, public: &Modules) -> Vec<String> {
    let own = file.component();
    let reaches = |path: &Path| {
        let [root, component, inner, _beyond, ..] = path.segments.as_slice() else { return false };
        matches!(root.as_str(), "crate" | "fleetd")
            && own != Some(component)
            && inner.starts_with(|c: char| c.is_ascii_lowercase())
            && !public.contains(&(component.clone(), inner.clone()))
    };
    let found = paths(file.shipped()).into_iter().filter(reaches);
    found
        .map(|p| format!("{}: {} reaches past a face", file.at(p.offset), p.segments.join("::")))
        .collect()
}

/// Components that import each other.
pub fn mutual(sources: &[Source]) -> Vec<String> {
    let mut edges = BTreeSet::new();
    for file in sources {
        let Some(own) = file.component() else { continue };
        for path in paths(file.shipped()) {
            if let [root, to, ..] = path.segments.as_slice()
                && root == "crate"
                && to != own
            {
                edges.insert((own.to_owned(), to.clone()));
            }
        }
    }
    let both = |(a, b): &&(String, String)| a < b && edges.contains(&(b.clone(), a.clone()));
    edges.iter().filter(both).map(|(a, b)| format!("{a} and {b} import each other")).collect()
}

/// Every path with at least two segments, the trees of `use` spelled out.
pub fn paths(code: &str) -> Vec<Path> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(step) = code[at..].find("::") {
        let begin = path_start(code, at + step);
        let mut end = begin;
        tree(code, &mut end, &mut Vec::new(), &mut found);
        // A leading `::` or a qualified path has no name in front of it.
        at = end.max(at + step + 2);
    }
    found
}

/// Reads a path or a tree of paths at `at`, and leaves `at` behind it.
fn tree(code: &str, at: &mut usize, prefix: &mut Vec<String>, found: &mut Vec<Path>) {
    let offset = *at;
    let depth = prefix.len();
    loop {
        let name: String = code[*at..].chars().take_while(|c| is_name(*c)).collect();
        *at += name.len();
        if !name.is_empty() {
            prefix.push(name);
        }
        let rest = code[*at..].trim_start();
        if !rest.starts_with("::") {
            break;
        }
        *at += code[*at..].len() - rest.len() + 2;
        let rest = code[*at..].trim_start();
        let space = code[*at..].len() - rest.len();
        if rest.starts_with('{') {
            *at += space + 1;
            branches(code, at, prefix, found);
            prefix.truncate(depth);
            return;
        }
        if !rest.starts_with(is_name) {
            break;
        }
        *at += space;
    }
    if prefix.len() > 1 {
        found.push(Path { segments: prefix.clone(), offset });
    }
    prefix.truncate(depth);
}

/// Reads `a, b::{c, d}, *}` behind an opening brace.
fn branches(code: &str, at: &mut usize, prefix: &mut Vec<String>, found: &mut Vec<Path>) {
    while *at < code.len() {
        let rest = code[*at..].trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        *at = code.len() - rest.len();
        match rest.chars().next() {
            Some('}') | None => {
                *at += usize::from(!rest.is_empty());
                return;
            }
            Some(c) if is_name(c) => {
                tree(code, at, prefix, found);
                // `B as C`: the other name is no path.
                if let Some(rest) = code[*at..].trim_start().strip_prefix("as ") {
                    *at = code.len() - rest.trim_start_matches(is_name).len();
                }
            }
            Some(c) => *at += c.len_utf8(),
        }
    }
}

/// Where the name in front of the `::` at `colons` begins.
fn path_start(code: &str, colons: usize) -> usize {
    let name = code[..colons].trim_end().chars().rev().take_while(|c| is_name(*c));
    let length: usize = name.map(char::len_utf8).sum();
    code[..colons].trim_end().len() - length
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::table;

    fn rules() -> Table {
        table::parse(
            "<!-- tidy: components -->
| c | i | h |
|---|---|---|
| low | | toml |
| high | low | |
| top | | |

<!-- tidy: shared -->
| c | h | w |
|---|---|---|
| nix | low, high | both |
",
        )
    }

    fn of(path: &str, text: &str) -> Vec<String> {
        violations(&Source::new(path, text), &rules(), &Modules::new())
    }

    #[test]
    fn spells_out_trees() {
        let names = |code| -> Vec<String> {
            paths(code).into_iter().map(|path| path.segments.join("::")).collect()
        };
        assert_eq!(
            names("use crate::{low::{A, B as C}, high::*};\nfn f() -> nix::Error { x() }"),
            ["crate::low::A", "crate::low::B", "crate::high", "nix::Error"]
        );
        assert_eq!(names("Vec::<u8>::new(); a::b::c()"), ["a::b::c"]);
    }

    #[test]
    fn allows_what_the_table_has() {
        let text =
            "use crate::low::{A, b};\nfn f(x: crate::high::X) { nix::getpid(); toml_like::x() }";
        assert_eq!(of("src/high.rs", text), [""; 0]);
    }

    #[test]
    fn finds_an_edge_that_the_table_lacks_in_every_form() {
        for text in
            ["use crate::top::A;", "use crate::{low::B, top::A};", "fn f() { crate::top::g() }"]
        {
            let findings = of("src/high/inner.rs", text);
            assert_eq!(findings, ["src/high/inner.rs:1: high may not import top"], "{text}");
        }
    }

    #[test]
    fn does_not_mind_comments_strings_and_tests() {
        let text = "// crate::top::A\nconst A: &str = \"crate::top\";\n#[cfg(test)]\nmod tests { use crate::top::A; }";
        assert_eq!(of("src/high.rs", text), [""; 0]);
    }

    #[test]
    fn finds_a_crate_away_from_home() {
        assert_eq!(
            of("src/high.rs", "\nuse toml::de;"),
            ["src/high.rs:2: toml lives in low, not in high"]
        );
        assert_eq!(of("src/top.rs", "nix::x()").len(), 1);
    }

    #[test]
    fn finds_a_reach_past_a_face() {
        let public = public_modules(&[Source::new("src/low.rs", "mod inner;\npub mod open;\n")]);
        let of = |path, text| past_faces(&Source::new(path, text), &public);
        let found = of("src/high.rs", "use crate::low::inner::Thing;");
        assert_eq!(found, ["src/high.rs:1: crate::low::inner::Thing reaches past a face"]);
        assert_eq!(of("bin/x.rs", "fleetd::low::inner::go();").len(), 1);
        assert_eq!(of("src/low/a.rs", "use crate::low::inner::Thing;"), [""; 0]);
        let face = "use crate::low::{Thing, open::X}; crate::low::Enum::Variant; crate::low::go()";
        assert_eq!(of("src/high.rs", face), [""; 0]);
    }

    #[test]
    fn finds_a_mutual_pair() {
        let files = [
            Source::new("src/a.rs", "use crate::b::B;"),
            Source::new("src/b/x.rs", "fn f() { crate::a::g() }"),
            Source::new("src/c.rs", "use crate::a::A;"),
        ];
        assert_eq!(mutual(&files), ["a and b import each other"]);
    }
}
