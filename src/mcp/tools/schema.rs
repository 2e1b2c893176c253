//! JSON Schemas of the tools (2020-12), derived from the types that serve them.

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

/// The schema of what a tool gives.
pub fn output<R: JsonSchema>() -> Object {
    derive::<R>(SchemaSettings::draft2020_12().for_serialize())
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
    trim(&mut object);
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
    for value in object.values_mut() {
        trim_value(value);
    }
}

fn trim_value(value: &mut Value) {
    match value {
        Value::Object(object) => trim(object),
        Value::Array(items) => items.iter_mut().for_each(trim_value),
        _ => {}
    }
}
