//! One key of a configuration file, set or removed; every other byte stays.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};
use serde_json::Value;
use toml_edit::{DocumentMut, Item, Table};

use super::{Form, NAME, yaml};

/// Why a file is left alone.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EditError {
    #[error("it cannot be read: {0}; mend it first")]
    Unreadable(String),
    #[error("'{0}' in it is not what this client reads; mend it first")]
    Shape(String),
}

/// `text` with our entry under `container`.
///
/// # Errors
/// If the file cannot be read for certain.
pub fn set(form: Form, text: &str, container: &str, entry: &Value) -> Result<String, EditError> {
    match form {
        Form::Json => {
            let root = json_root(if text.trim().is_empty() { "{\n}\n" } else { text })?;
            let object = root.object_value().ok_or_else(|| shape("the file"))?;
            let servers =
                object.object_value_or_create(container).ok_or_else(|| shape(container))?;
            match servers.get(NAME) {
                Some(property) => property.set_value(json_value(entry)),
                None => drop(servers.append(NAME, json_value(entry))),
            }
            Ok(root.to_string())
        }
        Form::Toml => {
            let mut document = toml(text)?;
            let servers = document.entry(container).or_insert_with(|| {
                let mut table = Table::new();
                // `[mcp_servers.fleet]` says it all.
                table.set_implicit(true);
                Item::Table(table)
            });
            let servers = servers.as_table_like_mut().ok_or_else(|| shape(container))?;
            servers.insert(NAME, Item::Table(toml_table(entry)));
            Ok(document.to_string())
        }
        Form::YamlMap | Form::YamlList => yaml::set(text, container, form == Form::YamlList, entry),
    }
}

/// `text` without our entry; `None` if it has none.
///
/// # Errors
/// If the file cannot be read for certain.
pub fn remove(form: Form, text: &str, container: &str) -> Result<Option<String>, EditError> {
    match form {
        Form::Json => {
            let root = json_root(text)?;
            let Some(property) = json_servers(&root, container).and_then(|all| all.get(NAME))
            else {
                return Ok(None);
            };
            property.remove();
            Ok(Some(root.to_string()))
        }
        Form::Toml => {
            let mut document = toml(text)?;
            let servers = document.get_mut(container).and_then(Item::as_table_like_mut);
            let removed = servers.and_then(|servers| servers.remove(NAME));
            Ok(removed.map(|_| document.to_string()))
        }
        Form::YamlMap | Form::YamlList => yaml::remove(text, container, form == Form::YamlList),
    }
}

fn shape(what: &str) -> EditError {
    EditError::Shape(what.to_owned())
}

fn json_root(text: &str) -> Result<CstRootNode, EditError> {
    CstRootNode::parse(text, &ParseOptions::default())
        .map_err(|error| EditError::Unreadable(error.to_string()))
}

fn json_servers(root: &CstRootNode, container: &str) -> Option<CstObject> {
    root.object_value()?.object_value(container)
}

fn json_value(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(value) => CstInputValue::Bool(*value),
        Value::Number(number) => CstInputValue::Number(number.to_string()),
        Value::String(text) => CstInputValue::String(text.clone()),
        Value::Array(items) => CstInputValue::Array(items.iter().map(json_value).collect()),
        Value::Object(object) => {
            let members = object.iter().map(|(name, value)| (name.clone(), json_value(value)));
            CstInputValue::Object(members.collect())
        }
    }
}

fn toml(text: &str) -> Result<DocumentMut, EditError> {
    text.parse().map_err(|error: toml_edit::TomlError| EditError::Unreadable(error.to_string()))
}

fn toml_table(entry: &Value) -> Table {
    let members = entry.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.as_str(), toml_edit::value(toml_value(value)))).collect()
}

fn toml_value(value: &Value) -> toml_edit::Value {
    match value {
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => number.as_i64().unwrap_or_default().into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => toml_edit::Array::from_iter(items.iter().map(toml_value)).into(),
        Value::Object(object) => {
            let members = object.iter().map(|(name, value)| (name.as_str(), toml_value(value)));
            toml_edit::InlineTable::from_iter(members).into()
        }
        // No entry of ours holds one, and TOML has none.
        Value::Null => "".into(),
    }
}
