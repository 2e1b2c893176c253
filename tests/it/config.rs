//! The configuration file: R57.

use fleetd::config::{Config, ConfigError, parse};

use crate::support::Random;

const DEFAULT: &str = include_str!("../../config/fleetd.toml");

/// Every setting spelled out, so that mutations hit settings and not comments.
fn every_setting() -> String {
    let settings = DEFAULT.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if rest.contains(" = ") => rest,
        _ => line,
    });
    settings.collect::<Vec<_>>().join("\n")
}

/// A wrong file is refused with a place that exists in it.
fn check_place(text: &str, error: &ConfigError) {
    let shown = error.to_string();
    let mut parts = shown.splitn(4, ':');
    assert_eq!(parts.next(), Some("f.toml"), "{shown}");
    let mut number = || parts.next().and_then(|part| part.parse::<usize>().ok());
    let (line, column) = (number(), number());
    let (Some(line), Some(column)) = (line, column) else { panic!("no place in {shown}") };
    let lines: Vec<&str> = text.split('\n').collect();
    assert!((1..=lines.len()).contains(&line), "{shown}\n{text}");
    assert!((1..=lines[line - 1].chars().count() + 1).contains(&column), "{shown}\n{text}");
    let problem = parts.next().unwrap_or_default();
    assert!(problem.starts_with(' ') && problem.len() > 3, "no problem in {shown}");
}

#[test]
fn r57_a_thousand_mutated_files_load_or_say_where_they_are_wrong() {
    let original = every_setting();
    assert_eq!(parse(&original, "f.toml").expect("unmutated"), Config::default());
    let (mut loaded, mut refused) = (0, 0);
    for seed in 0..1000 {
        let text = mutate(&original, &mut Random::seeded(seed));
        match parse(&text, "f.toml") {
            Ok(_) => loaded += 1,
            Err(error) => {
                check_place(&text, &error);
                refused += 1;
            }
        }
    }
    // Both outcomes have to occur, or the mutations test nothing.
    assert!(loaded > 50 && refused > 200, "{loaded} loaded, {refused} refused");
}

#[test]
fn r57_no_key_is_taken_that_is_not_a_setting() {
    for line in every_setting().lines() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let wrong = every_setting().replace(line, &format!("{key}x = {value}"));
        let error = parse(&wrong, "f.toml").expect_err(key);
        assert!(error.to_string().contains(&format!("{key}x")), "{error}");
        check_place(&wrong, &error);
    }
}

fn mutate(text: &str, random: &mut Random) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=random.below(3) {
        let at = random.below(lines.len());
        match random.below(8) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, (*random.pick(&SCRAPS)).to_owned()),
            2 => lines[at] = lines[at].replace(" = ", EQUALS[random.below(EQUALS.len())]),
            3 => {
                let key = lines[at].split(" = ").next().unwrap_or_default().to_owned();
                lines[at] = format!("{key} = {}", random.pick(&SCRAPS));
            }
            4 => lines[at] = lines[at].chars().rev().collect(),
            5 => {
                let copy = lines[random.below(lines.len())].clone();
                lines.push(copy);
            }
            6 => {
                let cut = random.below(lines[at].chars().count() + 1);
                lines[at] = lines[at].chars().take(cut).collect();
            }
            _ => lines[at].push(*random.pick(&['\u{0}', '"', '\r', '[', 'é', '\u{2028}', '#'])),
        }
    }
    lines.join("\n")
}

/// What may stand where ` = ` should.
const EQUALS: [&str; 4] = [" ", " == ", " = = ", "="];

const SCRAPS: [&str; 14] = [
    "-1",
    "0",
    "18446744073709551616",
    "1e9",
    "\"text\"",
    "\"\"\"\nlong",
    "[journal]",
    "[[server]]",
    "{ a = 1 }",
    "true",
    "unknown = 1",
    "port = 70000",
    "durability = \"half\"",
    "1979-05-27",
];
