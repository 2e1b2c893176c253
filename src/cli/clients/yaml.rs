//! One block of a YAML file. There is no editor for YAML that keeps comments
//! and can be trusted, so this adds and removes whole lines in the plainest of
//! files, and leaves every other one alone.

use serde_json::Value;

use super::NAME;
use super::edit::EditError;

/// `text` with our block under `container`, a mapping or a list.
///
/// # Errors
/// If the file is not plain enough to be sure.
pub fn set(text: &str, container: &str, list: bool, entry: &Value) -> Result<String, EditError> {
    let text = match remove(text, container, list)? {
        Some(without) => without,
        None => text.to_owned(),
    };
    let Some(section) = Section::find(&text, container)? else {
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let block = block("  ", list, entry);
        return Ok(format!("{text}{gap}{container}:\n{block}"));
    };
    let block = block(section.indent.as_deref().unwrap_or("  "), list, entry);
    let (before, after) = text.split_at(section.begin);
    let gap = if before.ends_with('\n') { "" } else { "\n" };
    Ok(format!("{before}{gap}{block}{after}"))
}

/// `text` without our block; `None` if it has none.
///
/// # Errors
/// As [`set`].
pub fn remove(text: &str, container: &str, list: bool) -> Result<Option<String>, EditError> {
    let Some(section) = Section::find(text, container)? else { return Ok(None) };
    let Some(indent) = &section.indent else { return Ok(None) };
    let first = if list {
        [format!("{indent}- name: {NAME}"), format!("{indent}- name: \"{NAME}\"")]
    } else {
        [format!("{indent}{NAME}:"), format!("{indent}\"{NAME}\":")]
    };
    let mut ours: Option<(usize, usize)> = None;
    for (at, line) in lines(text, section.begin, section.end) {
        let plain = line.trim_end();
        match &mut ours {
            None if first.iter().any(|first| plain == first) => ours = Some((at, at + line.len())),
            None => {}
            // Everything that stands deeper belongs to it.
            Some((_, end)) => {
                let deeper = line
                    .strip_prefix(indent.as_str())
                    .is_some_and(|rest| rest.starts_with(' ') && !rest.trim().is_empty());
                if !deeper {
                    break;
                }
                *end = at + line.len();
            }
        }
    }
    Ok(ours.map(|(begin, end)| format!("{}{}", &text[..begin], &text[end..])))
}

/// What stands below a key of the outermost mapping.
struct Section {
    /// Behind the key's own line.
    begin: usize,
    end: usize,
    /// Of its children, if it has any.
    indent: Option<String>,
}

impl Section {
    fn find(text: &str, container: &str) -> Result<Option<Self>, EditError> {
        let unsure = |why: &str| EditError::Unreadable(why.to_owned());
        if text.contains('\t') {
            return Err(unsure("it has tabs"));
        }
        let key = format!("{container}:");
        let (mut found, mut documents): (Option<Self>, usize) = (None, 0);
        for (at, line) in lines(text, 0, text.len()) {
            let plain = line.trim_end();
            documents += usize::from(plain == "---" || plain.starts_with("--- "));
            if (documents > 0 && at > 0 && plain.starts_with("---")) || documents > 1 {
                return Err(unsure("it has several documents"));
            }
            if plain.starts_with(['{', '[', '?', '&', '*', '!']) {
                return Err(unsure("it is not written in plain blocks"));
            }
            let outermost = !plain.is_empty() && !line.starts_with([' ', '#']);
            let item = plain.starts_with("- ") || plain == "-";
            if let Some(rest) = plain.strip_prefix(&key) {
                if found.is_some() {
                    return Err(EditError::Shape(container.to_owned()));
                }
                let rest = rest.trim();
                if !rest.is_empty() && !rest.starts_with('#') {
                    return Err(unsure(&format!("'{container}' is written in one line")));
                }
                let begin = at + line.len();
                found = Some(Self { begin, end: begin, indent: None });
            } else if let Some(section) = &mut found {
                // A list may stand as far left as its key.
                if outermost && !item && section.end != usize::MAX {
                    section.end = section.end.max(section.begin);
                    return Ok(found);
                }
                if !plain.is_empty() && !plain.trim_start().starts_with('#') {
                    let indent = &line[..line.len() - line.trim_start().len()];
                    section.indent.get_or_insert_with(|| indent.to_owned());
                    section.end = at + line.len();
                }
            }
        }
        Ok(found)
    }
}

/// Lines with their ends and places.
fn lines(text: &str, begin: usize, end: usize) -> impl Iterator<Item = (usize, &str)> {
    let mut at = begin;
    text[begin..end].split_inclusive('\n').map(move |line| {
        let place = at;
        at += line.len();
        (place, line)
    })
}

/// Our entry as a block. Values are JSON, which is YAML.
fn block(indent: &str, list: bool, entry: &Value) -> String {
    let mut block = String::new();
    let mut inner = format!("{indent}  ");
    if list {
        block.push_str(&format!("{indent}- name: {NAME}\n"));
    } else {
        if indent.is_empty() {
            inner = "  ".to_owned();
        }
        block.push_str(&format!("{indent}{NAME}:\n"));
    }
    push_members(&mut block, &inner, entry, list);
    block
}

fn push_members(block: &mut String, indent: &str, entry: &Value, named: bool) {
    for (name, value) in entry.as_object().into_iter().flatten() {
        match value {
            // It stands in the first line.
            _ if named && name == "name" => {}
            Value::Object(_) => {
                block.push_str(&format!("{indent}{name}:\n"));
                push_members(block, &format!("{indent}  "), value, false);
            }
            _ => block.push_str(&format!("{indent}{name}: {value}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_block_comes_and_goes_and_nothing_else_moves() {
        let entry = json!({"name": "fleet", "cmd": "fleetctl", "args": ["mcp"]});
        for (text, list) in [
            ("# mine\nextensions:\n  # tools\n  other:\n    cmd: x\n\nlast: 1\n", false),
            ("extensions:\n- name: other\n  cmd: x\nlast: 1 # end\n", true),
            ("extensions:\n    - name: other\n      cmd: x", true),
        ] {
            let with = set(text, "extensions", list, &entry).unwrap();
            assert!(with.contains("cmd: \"fleetctl\"\n") && with.contains("other"), "{with}");
            assert_eq!(set(&with, "extensions", list, &entry).unwrap(), with);
            assert_eq!(remove(&with, "extensions", list).unwrap().as_deref(), Some(text));
            assert_eq!(remove(text, "extensions", list).unwrap(), None);
        }
    }

    #[test]
    fn what_is_not_plain_is_left_alone() {
        for text in ["extensions: {}\n", "a:\n\tb: 1\n", "---\na: 1\n---\nb: 2\n", "{a: 1}\n"] {
            assert!(set(text, "extensions", false, &json!({})).is_err(), "{text}");
        }
    }
}
