//! Checking arguments, so that a misspelt option is never silently ignored.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Failure, Object, schema};

/// How alike two names have to be (Jaro-Winkler, 0 to 1) to suggest one for the other.
const ALIKE: f64 = 0.75;

/// Checks that the schema knows every argument.
///
/// # Errors
/// Names the first that it does not, and the nearest that it does.
pub fn check_names(arguments: &Object, schema: &Object) -> Result<(), Failure> {
    let known = || schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    for name in arguments.keys() {
        if known().any(|(other, _)| other == name) {
            continue;
        }
        let short: String = name.chars().take(64).collect();
        let advice = match nearest(name, known().map(|(name, _)| name.as_str())) {
            Some(near) => format!("did you mean '{near}'?"),
            None if known().next().is_none() => String::from("it takes none"),
            None => {
                let names: Vec<_> = known().map(|(name, _)| name.as_str()).collect();
                format!("it takes {}", names.join(", "))
            }
        };
        return Err(Failure::Argument(format!("unknown argument '{short}'; {advice}")));
    }
    Ok(())
}

/// Reads arguments.
///
/// # Errors
/// Names the argument that is wrong by its path, and what it has to be.
pub fn read<A: DeserializeOwned>(arguments: Value) -> Result<A, Failure> {
    serde_path_to_error::deserialize(arguments).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        Failure::Argument(match path.as_str() {
            "." => inner.to_string(),
            path => format!("argument '{path}': {inner}"),
        })
    })
}

/// Checks the names of `arguments` and reads them.
///
/// # Errors
/// As [`check_names`] and [`read`].
pub fn read_object<A: DeserializeOwned + JsonSchema>(arguments: Object) -> Result<A, Failure> {
    check_names(&arguments, &schema::input::<A>())?;
    read(arguments.into())
}

/// The candidate that `name` was probably meant to be.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A long name is no slip of the pen, and comparing costs its square.
    if name.len() > 64 {
        return None;
    }
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tools::{ExecuteCommand, NoArguments};
    use serde_json::json;

    fn check<A: JsonSchema>(arguments: Value) -> String {
        let arguments = arguments.as_object().unwrap();
        check_names(arguments, &schema::input::<A>()).unwrap_err().to_string()
    }

    #[test]
    fn a_misspelt_argument_is_named_with_the_right_one() {
        let said = check::<ExecuteCommand>(json!({"command": "ls", "timout_s": 3}));
        assert_eq!(said, "unknown argument 'timout_s'; did you mean 'timeout_s'?");
        let said = check::<ExecuteCommand>(json!({"zzz": 3}));
        assert!(said.contains("it takes") && said.contains("run_from"), "{said}");
        let said = check::<NoArguments>(json!({"zzz": 3}));
        assert_eq!(said, "unknown argument 'zzz'; it takes none");
    }

    #[test]
    fn a_wrong_type_is_named_by_its_path() {
        let said = |arguments| read::<ExecuteCommand>(arguments).unwrap_err().to_string();
        assert!(said(json!({"command": 7})).starts_with("argument 'command': invalid type"));
        let nested = said(json!({"command": "ls", "env": {"A": 1}}));
        assert!(nested.starts_with("argument 'env.A': invalid type"), "{nested}");
        assert_eq!(said(json!({})), "missing field `command`");
    }
}
