//! JSON Schemas of the tools (2020-12), derived from the types that serve them.
//!
//! Every byte of them stands in the context of every model that is offered the
//! tools, so what a reader does not need is taken out.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Object;

/// The schema of what a tool takes.
pub fn input<A: JsonSchema>() -> Object {
    let mut schema = derive::<A>(SchemaSettings::draft2020_12().for_deserialize());
    // What `arguments::check_names` refuses, also where a type is made of several.
    schema.insert(String::from("additionalProperties"), Value::Bool(false));
    schema
}

/// The schema of what a tool gives. Bounds and defaults are for those who write.
pub fn output<R: JsonSchema>() -> Object {
    let mut object = derive::<R>(SchemaSettings::draft2020_12().for_serialize());
    visit(&mut object, &mut |schema| {
        schema.remove("minimum");
        schema.remove("default");
        // A nested type's doc; what its fields mean stands at the fields.
        let nested = schema.get("type").is_some_and(|kind| kind == "object");
        if nested && schema.contains_key("properties") {
            schema.remove("description");
        }
    });
    object
}

/// Everything inline: a model reads a schema from top to bottom, and some
/// clients resolve no references.
fn derive<T: JsonSchema>(settings: SchemaSettings) -> Object {
    let schema = settings
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .into_generator()
        .into_root_schema_for::<T>();
    let mut object = match schema.to_value() {
        Value::Object(object) => object,
        _ => Object::new(),
    };
    // The type's name and doc are for readers of the source.
    object.remove("title");
    object.remove("description");
    object.entry("properties").or_insert_with(|| Object::new().into());
    visit(&mut object, &mut |schema| {
        trim(schema);
        flatten(schema);
    });
    object
}

/// Removes `format` of numbers: `uint64` and its like are no formats of the
/// specification, and strict clients complain about each.
fn trim(object: &mut Object) {
    let plain = |format: &Value| {
        format
            .as_str()
            .is_some_and(|f| f.starts_with("uint") || f.starts_with("int") || f == "double")
    };
    if object.get("format").is_some_and(plain) {
        object.remove("format");
    }
}

/// Names of a choice in one list: spelt out one by one, with what each means, they
/// are ten times as long, and some clients cannot read them.
fn flatten(object: &mut Object) {
    let Some(Value::Array(choices)) = object.get("oneOf") else { return };
    let names = choices.iter().map(|choice| match (choice.get("const"), choice.get("enum")) {
        (Some(Value::String(name)), None) => Some(vec![Value::from(name.as_str())]),
        (None, Some(Value::Array(names))) => Some(names.clone()),
        _ => None,
    });
    let Some(names) = names.collect::<Option<Vec<_>>>() else { return };
    object.remove("oneOf");
    object.insert("type".to_owned(), "string".into());
    object.insert("enum".to_owned(), names.concat().into());
}

/// Calls `change` for every schema in `object`, the innermost first.
fn visit(object: &mut Object, change: &mut impl FnMut(&mut Object)) {
    for (keyword, value) in object.iter_mut() {
        match (keyword.as_str(), value) {
            // Names of fields, not keywords.
            ("properties", Value::Object(fields)) => {
                fields.values_mut().for_each(|field| visit_value(field, change));
            }
            ("default" | "const" | "enum", _) => {}
            (_, value) => visit_value(value, change),
        }
    }
    change(object);
}

fn visit_value(value: &mut Value, change: &mut impl FnMut(&mut Object)) {
    match value {
        Value::Object(object) => visit(object, change),
        Value::Array(items) => items.iter_mut().for_each(|item| visit_value(item, change)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A thing.
    #[derive(JsonSchema, serde::Serialize)]
    struct Thing {
        /// How many.
        minimum: u64,
        state: crate::model::TaskState,
    }

    #[derive(JsonSchema, serde::Serialize)]
    struct Result {
        thing: Thing,
    }

    #[test]
    fn a_schema_says_no_more_than_it_has_to() {
        let thing = Value::from(output::<Result>())["properties"]["thing"].take();
        let count = json!({ "type": "integer", "description": "How many." });
        assert_eq!(thing["properties"]["minimum"], count, "a field may be called like a keyword");
        let state = &thing["properties"]["state"];
        assert!(state["type"] == "string" && state.get("oneOf").is_none(), "{state}");
        let names = state["enum"].as_array().unwrap();
        assert!(names.len() == 7 && names.contains(&json!("queued")), "{state}");
        assert!(thing.get("description").is_none() && thing["required"].is_array());
        assert_eq!(Value::from(input::<Thing>())["properties"]["minimum"]["minimum"], 0);
    }
}
