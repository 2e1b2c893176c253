//! Values for `{{name}}` in a prompt.

use std::collections::BTreeMap;

use crate::mcp::tools::Failure;

/// The prompt with every `{{name}}` replaced, once: values are not looked at
/// again. Without any values nothing is replaced.
///
/// # Errors
/// Names a name that has no value, or that is none.
pub fn apply(prompt: String, values: &BTreeMap<String, String>) -> Result<String, Failure> {
    if values.is_empty() {
        return Ok(prompt);
    }
    if let Some(wrong) = values.keys().find(|name| !is_name(name)) {
        let short: String = wrong.chars().take(64).collect();
        let message = format!("argument 'substitutions': '{short}' is not a name (A-Z a-z 0-9 _)");
        return Err(Failure::Argument(message));
    }
    let mut filled = String::with_capacity(prompt.len());
    let mut rest = prompt.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        match after.split_once("}}") {
            Some((name, after)) if is_name(name) => {
                let value = values.get(name).ok_or_else(|| {
                    let short: String = name.chars().take(64).collect();
                    Failure::Argument(format!(
                        "argument 'substitutions' has no value for '{short}'"
                    ))
                })?;
                filled.push_str(value);
                rest = after;
            }
            _ => {
                filled.push_str("{{");
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_replaced_once_and_none_is_forgotten() {
        let values = BTreeMap::from([("a", "{{b}}"), ("b", "2"), ("unused", "x")]);
        let values = values.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let apply = |prompt: &str| apply(prompt.to_owned(), &values).map_err(|e| e.to_string());
        assert_eq!(apply("{{a}}-{{b}} {{ b }} {{").unwrap(), "{{b}}-2 {{ b }} {{");
        assert!(apply("{{c}}").unwrap_err().contains("'c'"));
        let none = BTreeMap::new();
        assert_eq!(super::apply("{{c}}".to_owned(), &none).unwrap(), "{{c}}");
        let wrong = BTreeMap::from([(String::from("a b"), String::new())]);
        assert!(super::apply(String::new(), &wrong).is_err());
    }
}
