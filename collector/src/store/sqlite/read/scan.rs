//! Going through all calls of the day files page by page, in the order in which they were last heard of.

use roomtone_protocol::id::{CallId, EndpointId};

use super::super::day::Day;
use super::SqliteReader;
use crate::call::CallFacts;
use crate::store::StoreError;

/// A place in the order of calls: by last receipt, endpoint and call.
///
/// A call that was heard of on several days has a place on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallPlace {
    /// When its latest record of a day came, microseconds since 1970, collector's clock.
    pub received_us: u64,
    /// Whose.
    pub endpoint: EndpointId,
    /// Which.
    pub call: CallId,
}

impl CallPlace {
    /// The place before all that were heard of at or after this moment.
    #[must_use]
    pub fn before(received_us: u64) -> Self {
        let received_us = received_us.saturating_sub(1);
        // Ids are compared as SQLite has them: this one is the highest.
        Self { received_us, endpoint: EndpointId([0xff; 16]), call: CallId(i64::MAX as u64) }
    }

    fn order(&self) -> (u64, [u8; 16], i64) {
        (self.received_us, self.endpoint.0, self.call.0 as i64)
    }
}

impl SqliteReader {
    /// The next places after one, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn calls_after(
        &self,
        after: &CallPlace,
        limit: usize,
    ) -> Result<Vec<CallPlace>, StoreError> {
        let (received_us, endpoint, call) = after.order();
        let received_us = i64::try_from(received_us).unwrap_or(i64::MAX);
        let limit_sql = i64::try_from(limit).unwrap_or(i64::MAX);
        let found = self.ask(Day::of(after.received_us), |connection| {
            connection
                .prepare_cached(
                    "SELECT c.last_received_us, e.id, c.call FROM call AS c JOIN endpoint AS e ON e.key = c.endpoint \
                     WHERE (c.last_received_us, e.id, c.call) > (?1, ?2, ?3) \
                     ORDER BY c.last_received_us, e.id, c.call LIMIT ?4",
                )?
                .query_map(rusqlite::params![received_us, endpoint, call, limit_sql], |row| {
                    Ok(CallPlace {
                        received_us: row.get::<_, i64>(0)? as u64,
                        endpoint: EndpointId(row.get(1)?),
                        call: CallId(row.get::<_, i64>(2)? as u64),
                    })
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut places: Vec<CallPlace> = found.into_iter().flatten().collect();
        places.sort_unstable_by_key(CallPlace::order);
        places.truncate(limit);
        Ok(places)
    }

    /// All that one endpoint said of one call; `None` where there is nothing any more.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub fn call_of(
        &self,
        endpoint: EndpointId,
        call: CallId,
    ) -> Result<Option<CallFacts>, StoreError> {
        self.facts(endpoint, call)
    }
}
