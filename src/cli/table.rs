//! Tables for people.

use comfy_table::{ContentArrangement, Table, presets};

use super::text;

/// Rows under a head, without lines. Cells are foreign text.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>, width: u16) -> String {
    let mut table = plain(width);
    table.set_header(head);
    for row in rows {
        table.add_row(row.iter().map(|cell| text::one_line(cell, 200)));
    }
    trimmed(&table)
}

/// Names and values, one below the other.
pub fn facts<'a>(pairs: impl IntoIterator<Item = (&'a str, String)>, width: u16) -> String {
    let mut table = plain(width);
    for (name, value) in pairs {
        table.add_row([name.to_owned(), text::one_line(&value, 1000)]);
    }
    trimmed(&table)
}

fn plain(width: u16) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if width < u16::MAX {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table
}

/// Cells are padded on both sides; lines of a listing should begin at the edge
/// and end with their text.
fn trimmed(table: &Table) -> String {
    let rendered = table.to_string();
    let lines = rendered.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// `17 ms`, `1.2 s`, `3 min 4 s`, `2 h 5 min`, `3 d 4 h`.
pub fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..60 => format!("{}.{} s", seconds, millis % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// About how long ago, short enough for a column: `45s`, `3m`, `2h`, `5d`.
pub fn age(millis: u64) -> String {
    match millis / 1000 {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..86_400 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// `17 B`, `1.2 KiB`, `3.4 GiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = bytes.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// An RFC 3339 time of ours to the second: `2026-11-20 10:00:00Z`.
pub fn time(rfc3339: &str) -> String {
    match rfc3339.split_once('T') {
        Some((date, clock)) if clock.len() > 8 && clock.is_ascii() => {
            format!("{date} {}Z", &clock[..8])
        }
        _ => rfc3339.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(duration(17), "17 ms");
        assert_eq!(duration(1_234), "1.2 s");
        assert_eq!(duration(184_000), "3 min 4 s");
        assert_eq!(duration(7_500_000), "2 h 5 min");
        assert_eq!(duration(273_600_000), "3 d 4 h");
        assert_eq!([45_900, 200_000, 7_500_000, 500_000_000].map(age), ["45s", "3m", "2h", "5d"]);
        assert_eq!(bytes(17), "17 B");
        assert_eq!(bytes(1_300), "1.2 KiB");
        assert_eq!(bytes(u64::MAX), "1638.3 PiB");
        assert_eq!(time("2026-11-20T10:00:00.123Z"), "2026-11-20 10:00:00Z");
        assert_eq!(time("odd"), "odd");
    }

    #[test]
    fn a_table_has_no_frills_and_no_foreign_sequences() {
        let rows = vec![vec!["a".to_owned(), "x\u{1b}[2Jy\nz".to_owned()]];
        assert_eq!(table(&["ID", "COMMAND"], rows, u16::MAX), "ID  COMMAND\na   xy z");
    }
}
