//! Medians, percentiles and the lines that show them.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::Duration;

/// Rounds of every figure.
pub const ROUNDS: usize = 5;

pub fn median(values: &[f64]) -> f64 {
    percentile(values, 50.0)
}

/// The value that `percent` of `values` do not exceed; NaN if there is none.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1) as f64;
    sorted.get((last * percent / 100.0).round() as usize).copied().unwrap_or(f64::NAN)
}

pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// One figure: what, how much, and what was hoped for.
pub fn line(what: &str, value: f64, unit: &str, goal: &str) {
    println!("{what:<58} {value:>12.2} {unit:<8} goal {goal}");
}

/// A figure with its floor and the ratio of the two.
pub fn beside(what: &str, value: f64, floor: f64, unit: &str, goal: &str) {
    println!(
        "{what:<58} {value:>12.2} {unit:<8} floor {floor:>10.2}  ratio {:>6.2}  goal {goal}",
        value / floor
    );
}
