//! Which endpoint a person means: its id, its name, or a beginning of either that only one endpoint has.

use roomtone_protocol::id::EndpointId;

use crate::identity::standing::EndpointStanding;
use crate::store::EndpointFacts;

/// Something that is known by an endpoint's id and name.
pub trait Named {
    /// The id.
    fn endpoint(&self) -> EndpointId;
    /// The display name, empty where there is none.
    fn name(&self) -> &str;
}

impl Named for EndpointStanding {
    fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for EndpointFacts {
    fn endpoint(&self) -> EndpointId {
        self.endpoint
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// The most names that an ambiguity lists.
const EXAMPLES_MAX: usize = 3;

/// Why a word names no endpoint. Names come from peers: escape before printing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No endpoint in the store has such a name or id.
    #[error(
        "no endpoint `{given}` in the store: `roomtone-collector endpoints` lists what there is"
    )]
    Unknown {
        /// What was given.
        given: String,
    },
    /// More than one endpoint is meant.
    #[error("`{given}` names {count} endpoints ({examples}): give more of the name, or the id")]
    Ambiguous {
        /// What was given.
        given: String,
        /// How many.
        count: usize,
        /// Some of them, by name and id.
        examples: String,
    },
}

/// Finds the endpoint that `given` names.
///
/// A whole id or a whole name comes before a beginning; beginnings are compared without regard to case, ids without
/// regard to hyphens.
///
/// # Errors
/// [`NameError`] where it is none, or more than one.
pub fn resolve<'a, T: Named>(given: &str, endpoints: &'a [T]) -> Result<&'a T, NameError> {
    let id: Option<EndpointId> = given.parse().ok();
    let whole = |it: &&T| Some(it.endpoint()) == id || it.name() == given;
    let mut meant: Vec<&T> = endpoints.iter().filter(whole).collect();
    if meant.is_empty() && !given.is_empty() {
        let name = given.to_lowercase();
        let digits = name.replace('-', "");
        let begins = |it: &&T| {
            let id = it.endpoint().to_string().replace('-', "");
            it.name().to_lowercase().starts_with(&name)
                || (!digits.is_empty() && id.starts_with(&digits))
        };
        meant = endpoints.iter().filter(begins).collect();
    }
    meant.sort_by_key(|it| (it.name(), it.endpoint()));
    let given = given.to_owned();
    match meant[..] {
        [] => Err(NameError::Unknown { given }),
        [one] => Ok(one),
        _ => {
            let examples: Vec<String> = meant
                .iter()
                .take(EXAMPLES_MAX)
                .map(|it| format!("{} {}", it.name(), it.endpoint()))
                .collect();
            let more = if meant.len() > EXAMPLES_MAX { ", …" } else { "" };
            let examples = examples.join(", ") + more;
            Err(NameError::Ambiguous { given, count: meant.len(), examples })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::RecordCounts;

    fn endpoint(first: u8, name: &str) -> EndpointFacts {
        let mut id = [0; 16];
        id[0] = first;
        EndpointFacts {
            endpoint: EndpointId(id),
            name: name.to_owned(),
            agent_version: String::new(),
            link: None,
            first_seen_us: 0,
            last_seen_us: 0,
            connected: false,
            calls: 0,
            counts: RecordCounts::default(),
        }
    }

    fn found(given: &str) -> Result<u8, usize> {
        let endpoints = [
            endpoint(0xa1, "Oslo"),
            endpoint(0xa2, "Oslo 4"),
            endpoint(0xb3, "Tromsø 1"),
            endpoint(0xb4, "a1"),
        ];
        match resolve(given, &endpoints) {
            Ok(it) => Ok(it.endpoint.0[0]),
            Err(NameError::Unknown { .. }) => Err(0),
            Err(NameError::Ambiguous { count, .. }) => Err(count),
        }
    }

    #[test]
    fn whole_name_or_id_comes_before_a_beginning() {
        assert_eq!(found("Oslo"), Ok(0xa1));
        // The name of one endpoint and the beginning of another's id.
        assert_eq!(found("a1"), Ok(0xb4));
        assert_eq!(found("a1000000-0000-0000-0000-000000000000"), Ok(0xa1));
        assert_eq!(found("a1000000000000000000000000000000"), Ok(0xa1));
    }

    #[test]
    fn beginning_names_an_endpoint_where_only_one_has_it() {
        assert_eq!(found("TROM"), Ok(0xb3));
        assert_eq!(found("b300"), Ok(0xb3));
        assert_eq!(found("b3000000-0"), Ok(0xb3));
        assert_eq!(found("oslo"), Err(2));
        // Names none by name, two by id.
        assert_eq!(found("b"), Err(2));
    }

    #[test]
    fn nothing_and_hyphens_name_no_endpoint() {
        assert_eq!(found(""), Err(0));
        assert_eq!(found("-"), Err(0));
        assert_eq!(found("Bergen"), Err(0));
    }

    #[test]
    fn two_endpoints_of_one_name_are_told_apart_by_id_only() {
        let endpoints = [endpoint(1, "Oslo"), endpoint(2, "Oslo")];
        let error = resolve("Oslo", &endpoints).unwrap_err().to_string();
        assert_eq!(
            error,
            "`Oslo` names 2 endpoints (Oslo 01000000-0000-0000-0000-000000000000, \
             Oslo 02000000-0000-0000-0000-000000000000): give more of the name, or the id"
        );
    }
}
