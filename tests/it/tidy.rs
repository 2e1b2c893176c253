//! The house rules as tests: who imports whom, faces, one home per foreign
//! crate, lengths, heads, and what must not be in the source.
//!
//! The rules about components come from the tables of `ARCHITECTURE.md`. Every
//! checker is first tried on small bad inputs: a check that cannot fail is none.

mod budget;
mod docs;
mod imports;
mod source;
mod table;

use source::{Source, sources_below};

/// Panics with all findings, one per line, if there are any.
#[track_caller]
fn clean(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

/// Every Rust file of the package.
fn everything() -> Vec<Source> {
    ["src", "bin", "tests", "benches"].into_iter().flat_map(sources_below).collect()
}

#[test]
fn the_source_obeys_the_table_of_architecture_md() {
    let (table, sources) = (table::read(), sources_below("src"));
    let public = imports::public_modules(&sources);
    clean(sources.iter().flat_map(|f| imports::violations(f, &table, &public)).collect());
    clean(sources_below("bin").iter().flat_map(|f| imports::past_faces(f, &public)).collect());
}

#[test]
fn the_table_names_every_component_and_no_other() {
    clean(table::mismatch(&table::read(), &sources_below("src")));
}

#[test]
fn no_two_components_import_each_other() {
    clean(imports::mutual(&sources_below("src")));
}

#[test]
fn files_and_functions_are_short() {
    clean(everything().iter().flat_map(budget::too_long).collect());
}

#[test]
fn every_file_says_what_it_is() {
    clean(everything().iter().flat_map(budget::headless).collect());
}

#[test]
fn nothing_is_unfinished_or_silenced() {
    clean(everything().iter().flat_map(budget::unfinished).collect());
}

#[test]
fn tests_wait_for_conditions_not_for_times() {
    clean(sources_below("tests").iter().flat_map(budget::sleeps).collect());
}

#[test]
fn only_output_rs_prints() {
    clean(sources_below("src").iter().flat_map(budget::prints).collect());
}

#[test]
fn every_setting_every_topic_and_every_command_is_documented() {
    clean(docs::undocumented_settings());
    clean(docs::undocumented_topics());
    clean(docs::undocumented_commands());
}
