//! What stands behind the `?`: known names only, so that a typing error is told
//! and not silently a broader answer.

use std::borrow::Cow;

use super::problem::Problem;

/// A decoded query.
#[derive(Debug)]
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Decodes `raw` (`application/x-www-form-urlencoded`).
    ///
    /// # Errors
    /// Names a parameter that is not one of `known`.
    pub fn parse(raw: &'a str, known: &[&str]) -> Result<Self, Problem> {
        let pairs: Vec<_> = form_urlencoded::parse(raw.as_bytes()).collect();
        for (name, _) in &pairs {
            if !known.contains(&name.as_ref()) {
                let name: String = name.chars().take(64).collect();
                let known = known.join(", ");
                return Err(Problem::invalid(format!(
                    "'{name}' is not a parameter here; there are: {known}"
                )));
            }
        }
        Ok(Self(pairs))
    }

    /// The last value of `name` that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// The last value of `name`, also if it is empty: for what must not be
    /// taken for left out.
    pub fn given(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_ref())
    }

    /// A flag: absent, `0` or `1`.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Problem> {
        match self.get(name) {
            None => Ok(default),
            Some("1" | "true") => Ok(true),
            Some("0" | "false") => Ok(false),
            Some(_) => Err(Problem::invalid(format!("{name} has to be 0 or 1"))),
        }
    }

    /// A number from 0.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(number)),
            _ => Err(Problem::invalid(format!("{name} has to be a number"))),
        }
    }
}

/// Whether a query has a parameter of this name.
pub fn names(raw: &str, name: &str) -> bool {
    form_urlencoded::parse(raw.as_bytes()).any(|(key, _)| key == name)
}

/// Whether a query tries to carry a token. Such a request is refused whatever
/// else it says, and its query is never logged: a URL ends up in histories.
pub fn carries_token(raw: &str) -> bool {
    form_urlencoded::parse(raw.as_bytes()).any(|(name, _)| {
        matches!(name.as_ref(), "token" | "access_token" | "bearer" | "authorization")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_names_and_decodes_its_values() {
        let query = Query::parse(
            "types=task.*%2Ccustom.%3E&follow=1&offset=12",
            &["types", "follow", "offset"],
        )
        .unwrap();
        assert_eq!(query.get("types"), Some("task.*,custom.>"));
        assert!(query.flag("follow", false).unwrap());
        assert_eq!(query.number("offset").unwrap(), Some(12));
        assert!(Query::parse("typo=1", &["types"]).is_err());
        assert!(Query::parse("offset=+1", &["offset"]).unwrap().number("offset").is_err());
        assert!(Query::parse("follow=yes", &["follow"]).unwrap().flag("follow", false).is_err());
    }

    #[test]
    fn a_token_in_the_query_is_seen_however_it_is_spelt() {
        assert!(carries_token("a=1&token=x"));
        assert!(carries_token("to%6ben=x"));
        assert!(!carries_token("tokens=x"));
    }
}
