//! The tables of `ARCHITECTURE.md`.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, package};

/// Who may import whom, and where foreign crates live.
#[derive(Default)]
pub struct Table {
    /// Component -> components it may import, in the order of the table.
    pub may_import: Vec<(String, BTreeSet<String>)>,
    /// Foreign crate, with `_` -> its homes.
    pub homes: BTreeMap<String, BTreeSet<String>>,
}

impl Table {
    pub fn allows(&self, from: &str, to: &str) -> bool {
        let row = self.may_import.iter().find(|(name, _)| name == from);
        from == to || row.is_some_and(|(_, allowed)| allowed.contains(to))
    }
}

/// The tables as they stand in `ARCHITECTURE.md`.
pub fn read() -> Table {
    let text = std::fs::read_to_string(package().join("ARCHITECTURE.md"));
    parse(&text.expect("ARCHITECTURE.md is there"))
}

/// Reads both tables, each of which follows its `<!-- tidy: … -->` mark.
pub fn parse(text: &str) -> Table {
    let mut table = Table::default();
    for [component, imports, crates] in rows(text, "components") {
        for foreign in words(&crates) {
            table.homes.entry(foreign.replace('-', "_")).or_default().insert(component.clone());
        }
        table.may_import.push((component, words(&imports)));
    }
    for [foreign, homes, _reason] in rows(text, "shared") {
        table.homes.entry(foreign.replace('-', "_")).or_default().extend(words(&homes));
    }
    table
}

/// Components without a row, rows without a component, and rows that import upwards.
pub fn mismatch(table: &Table, sources: &[Source]) -> Vec<String> {
    let listed: BTreeSet<&str> = table.may_import.iter().map(|(name, _)| name.as_str()).collect();
    let there: BTreeSet<&str> = sources.iter().filter_map(Source::component).collect();
    let mut findings = Vec::new();
    findings.extend(there.difference(&listed).map(|name| format!("{name}: no row in the table")));
    findings.extend(listed.difference(&there).map(|name| format!("{name}: no such component")));
    for (at, (name, allowed)) in table.may_import.iter().enumerate() {
        let below: BTreeSet<&str> =
            table.may_import[..at].iter().map(|(n, _)| n.as_str()).collect();
        let upwards = allowed.iter().filter(|other| !below.contains(other.as_str()));
        findings.extend(upwards.map(|other| format!("{name}: '{other}' does not stand below it")));
    }
    findings
}

/// The rows of the table behind a mark, without its two heading lines.
fn rows(text: &str, mark: &str) -> Vec<[String; 3]> {
    let (_, rest) = text
        .split_once(&format!("<!-- tidy: {mark} -->"))
        .unwrap_or_else(|| panic!("ARCHITECTURE.md has lost its mark '{mark}'"));
    let lines = rest.lines().skip(1).take_while(|line| line.starts_with('|')).skip(2);
    let rows: Vec<[String; 3]> = lines
        .map(|line| {
            let cells: Vec<String> =
                line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
            cells.try_into().unwrap_or_else(|_| panic!("three cells are wanted: {line}"))
        })
        .collect();
    assert!(!rows.is_empty(), "the table behind '{mark}' is empty");
    rows
}

fn words(cell: &str) -> BTreeSet<String> {
    cell.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "\
<!-- tidy: components -->
| component | may import | the only home of |
|---|---|---|
| low | | |
| high | low, higher | tracing-appender |

<!-- tidy: shared -->
| crate | homes | why |
|---|---|---|
| nix | low, high | a reason |
";

    #[test]
    fn reads_both_tables() {
        let table = parse(SMALL);
        assert!(table.allows("high", "low") && !table.allows("low", "high"));
        assert_eq!(table.homes["tracing_appender"], BTreeSet::from(["high".to_owned()]));
        assert_eq!(table.homes["nix"].len(), 2);
    }

    #[test]
    fn finds_rows_that_do_not_fit() {
        let sources = [Source::new("src/low.rs", ""), Source::new("src/other/a.rs", "")];
        let findings = mismatch(&parse(SMALL), &sources);
        assert_eq!(
            findings,
            [
                "other: no row in the table",
                "high: no such component",
                "high: 'higher' does not stand below it"
            ]
        );
    }
}
