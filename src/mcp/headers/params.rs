//! Arguments that stand in headers too (2026-07-28, Streamable HTTP, "Custom
//! headers from tool parameters"): a property of a tool's input schema that is
//! annotated with `x-mcp-header: "Name"` is mirrored as `Mcp-Param-Name`.
//!
//! What routes on a header and what acts on the body have to see one value, so
//! the two are compared before anything runs. Only annotations that the
//! specification allows count; headers that no annotation names are ignored.

use http::{HeaderMap, HeaderName};
use serde_json::{Map, Number, Value};

use super::{decode, one};
use crate::mcp::refusal::Refusal;

const ANNOTATION: &str = "x-mcp-header";

/// The greatest integer that every client counts exactly (2^53 - 1).
const MOST_EXACT: f64 = 9_007_199_254_740_991.0;

/// Compares the arguments of a call with the headers that mirror them.
///
/// # Errors
/// 400 and -32020, naming the header that is missing, stands twice, cannot be
/// read or says something else than the argument.
pub fn check_params(
    headers: &HeaderMap,
    schema: &Map<String, Value>,
    arguments: Option<&Value>,
) -> Result<(), Refusal> {
    let Some(Value::Object(properties)) = schema.get("properties") else { return Ok(()) };
    for (name, property) in properties {
        let argument = arguments.and_then(|arguments| arguments.get(name));
        if let Some(header) = header_of(property) {
            check(headers, &header, name, argument)?;
        }
        // An annotation may lie deeper, along `properties` alone.
        if let Value::Object(nested) = property {
            check_params(headers, nested, argument)?;
        }
    }
    Ok(())
}

/// The header that an annotation names, if it may stand where it does.
fn header_of(property: &Value) -> Option<HeaderName> {
    let name = property.get(ANNOTATION)?.as_str().filter(|name| !name.is_empty())?;
    let mirrored = matches!(property.get("type")?.as_str()?, "string" | "integer" | "boolean");
    let header = HeaderName::from_bytes(format!("mcp-param-{name}").as_bytes()).ok();
    header.filter(|_| mirrored)
}

fn check(
    headers: &HeaderMap,
    header: &HeaderName,
    name: &str,
    argument: Option<&Value>,
) -> Result<(), Refusal> {
    let argument = argument.filter(|argument| !argument.is_null());
    match (one(headers, header)?, argument) {
        (None, None) => Ok(()),
        (None, Some(_)) => Err(Refusal::mismatch(format!(
            "header {header} is missing; it has to say what argument '{name}' says"
        ))),
        // Something between may have acted on a value that the call does not hold.
        (Some(_), None) => {
            Err(Refusal::mismatch(format!("header {header} stands without the argument '{name}'")))
        }
        (Some(text), Some(argument)) => {
            let text = decode(text).ok_or_else(|| {
                Refusal::mismatch(format!("header {header} is not base64 of a text"))
            })?;
            if says(&text, argument) {
                return Ok(());
            }
            let problem = format!("header {header} and argument '{name}' say different things");
            Err(Refusal::mismatch(problem))
        }
    }
}

/// Whether a header's text is the argument's value.
fn says(text: &str, argument: &Value) -> bool {
    match argument {
        Value::String(argument) => text == argument,
        Value::Bool(argument) => text == if *argument { "true" } else { "false" },
        Value::Number(argument) => text == argument.to_string() || same_number(text, argument),
        // Nothing of that kind is mirrored.
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// `42.0` is `42`; beyond what is exact, only the same digits are the same.
fn same_number(text: &str, argument: &Number) -> bool {
    let exact = |number: &f64| number.abs() <= MOST_EXACT;
    let told = text.parse::<f64>().ok().filter(exact);
    told.is_some() && told == argument.as_f64().filter(exact)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::refusal::code;
    use http::{HeaderValue, StatusCode};
    use serde_json::json;

    fn schema() -> Map<String, Value> {
        let schema = json!({
            "type": "object",
            "properties": {
                "region": { "type": "string", "x-mcp-header": "Region" },
                "count": { "type": "integer", "x-mcp-header": "Count" },
                "dry": { "type": "boolean", "x-mcp-header": "Dry" },
                "where": {
                    "type": "object",
                    "properties": { "rack": { "type": "string", "x-mcp-header": "Rack" } },
                },
                "plain": { "type": "string" },
                "ratio": { "type": "number", "x-mcp-header": "Ratio" },
                "blank": { "type": "string", "x-mcp-header": "" },
                "wild": { "type": "string", "x-mcp-header": "a b" },
                "list": {
                    "type": "array",
                    "items": { "type": "string", "x-mcp-header": "Item" },
                },
            },
        });
        schema.as_object().unwrap().clone()
    }

    fn check_with(pairs: &[(&str, &str)], arguments: Value) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        check_params(&headers, &schema(), Some(&arguments))
    }

    #[track_caller]
    fn refused(pairs: &[(&str, &str)], arguments: Value) {
        let refusal = check_with(pairs, arguments).unwrap_err();
        assert_eq!(
            (refusal.status, refusal.code),
            (StatusCode::BAD_REQUEST, code::HEADER_MISMATCH)
        );
    }

    #[test]
    fn what_is_annotated_has_to_be_mirrored() {
        for (header, value, arguments) in [
            ("Mcp-Param-Region", "us-west1", json!({"region": "us-west1"})),
            ("MCP-PARAM-REGION", "=?base64?w6k=?=", json!({"region": "é"})),
            ("mcp-param-region", "=?base64?w6k=", json!({"region": "=?base64?w6k="})),
            ("mcp-param-count", "42.0", json!({"count": 42})),
            ("mcp-param-count", "-7", json!({"count": -7})),
            ("mcp-param-count", "9007199254740993", json!({"count": 9_007_199_254_740_993_u64})),
            ("mcp-param-dry", "true", json!({"dry": true})),
            ("mcp-param-rack", "b4", json!({"where": {"rack": "b4"}})),
        ] {
            assert_eq!(check_with(&[(header, value)], arguments.clone()), Ok(()), "{arguments}");
            refused(&[], arguments);
        }
    }

    #[test]
    fn what_differs_or_cannot_be_read_is_refused() {
        refused(&[("mcp-param-region", "us-east1")], json!({"region": "us-west1"}));
        refused(&[("mcp-param-region", "US-WEST1")], json!({"region": "us-west1"}));
        refused(&[("mcp-param-region", "=?base64?w6k?=")], json!({"region": "é"}));
        refused(&[("mcp-param-region", "é")], json!({"region": "é"}));
        refused(&[("mcp-param-count", "43")], json!({"count": 42}));
        refused(&[("mcp-param-count", "many")], json!({"count": 42}));
        // One number to a counter in doubles, two to anybody else.
        refused(
            &[("mcp-param-count", "9007199254740992")],
            json!({"count": 9_007_199_254_740_993_u64}),
        );
        refused(&[("mcp-param-dry", "True")], json!({"dry": true}));
        refused(&[("mcp-param-region", "a"), ("mcp-param-region", "a")], json!({"region": "a"}));
        refused(&[("mcp-param-region", "a")], json!({}));
        refused(&[("mcp-param-region", "a")], json!({"region": null}));
    }

    #[test]
    fn what_is_absent_or_not_annotated_is_not_expected() {
        assert_eq!(check_with(&[], json!({})), Ok(()));
        assert_eq!(check_with(&[], json!({"region": null, "where": {}})), Ok(()));
        let others = json!({"plain": "a", "ratio": 0.5, "blank": "a", "wild": "a", "list": ["a"]});
        assert_eq!(check_with(&[], others.clone()), Ok(()));
        let unknown = [("mcp-param-plain", "x"), ("mcp-param-ratio", "7"), ("mcp-param-item", "x")];
        assert_eq!(check_with(&unknown, others), Ok(()));
        assert_eq!(check_params(&HeaderMap::new(), &schema(), None), Ok(()));
    }
}
