//! A check of values against JSON Schema, for just the keywords that our schemas
//! use. An unknown keyword fails, so that nothing passes unchecked.

use serde_json::Value;

pub fn check(schema: &Value, value: &Value, path: &str) {
    let schema = match schema {
        Value::Bool(true) => return,
        schema => schema.as_object().unwrap_or_else(|| panic!("{path}: no schema: {schema}")),
    };
    for (keyword, said) in schema {
        match keyword.as_str() {
            "description" | "default" | "title" => {}
            "type" => {
                let types = said.as_array().cloned().unwrap_or_else(|| vec![said.clone()]);
                assert!(types.iter().any(|name| is(value, name)), "{path}: {value} is no {said}");
            }
            "properties" => {
                for (name, schema) in said.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        check(schema, member, &format!("{path}.{name}"));
                    }
                }
            }
            "required" if !value.is_object() => {}
            "required" => {
                for name in said.as_array().unwrap() {
                    let name = name.as_str().unwrap();
                    assert!(value.get(name).is_some(), "{path}: lacks {name}");
                }
            }
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(said, item, &format!("{path}[{at}]"));
                }
            }
            "enum" => assert!(said.as_array().unwrap().contains(value), "{path}: {value}"),
            "const" => assert_eq!(said, value, "{path}"),
            "anyOf" | "oneOf" => {
                let fits = |schema: &Value| {
                    std::panic::catch_unwind(|| check(schema, value, path)).is_ok()
                };
                assert!(said.as_array().unwrap().iter().any(fits), "{path}: {value} fits none");
            }
            "minimum" => assert!(value.as_f64().is_none_or(|n| n >= said.as_f64().unwrap())),
            "maximum" => assert!(value.as_f64().is_none_or(|n| n <= said.as_f64().unwrap())),
            other => panic!("{path}: the keyword {other} is not checked here; teach this file"),
        }
    }
}

fn is(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}
