//! Columns of a row as the values that they stand for.

use heapless::String as Bounded;
use roomtone_protocol::id::{Epoch, RecordId, Sequence};
use roomtone_protocol::ratio::Ratio;
use roomtone_protocol::time::Stamp;

use crate::store::code::Code;

pub(super) fn read_id(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<RecordId> {
    Ok(RecordId { epoch: Epoch(row.get(column)?), sequence: Sequence(row.get(column + 1)?) })
}

pub(super) fn read_stamp(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Stamp> {
    Ok(Stamp {
        wall_us: row.get::<_, i64>(column)? as u64,
        uptime_us: row.get::<_, i64>(column + 1)? as u64,
    })
}

pub(super) fn read_ratio(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Ratio> {
    let (part, whole): (i64, i64) = (row.get(column)?, row.get(column + 1)?);
    Ratio::new(part as u64, whole as u64).ok_or_else(|| unreadable(row, column))
}

pub(super) fn read_optional_ratio(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<Ratio>> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    read_ratio(row, column).map(Some)
}

pub(super) fn read_code<T: Code>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T> {
    T::from_code(row.get(column)?).ok_or_else(|| unreadable(row, column))
}

pub(super) fn read_text<const N: usize>(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<Bounded<N>> {
    Bounded::try_from(row.get_ref(column)?.as_str()?).map_err(|_| unreadable(row, column))
}

pub(super) fn read_parsed<T: std::str::FromStr>(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(|_| unreadable(row, column))
}

/// A value that no collector of this schema writes.
pub(super) fn unreadable(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Error {
    let name = row.as_ref().column_name(column).unwrap_or("?").to_owned();
    let kind = row.get_ref(column).map_or(rusqlite::types::Type::Null, |value| value.data_type());
    rusqlite::Error::InvalidColumnType(column, name, kind)
}

pub(super) fn read_optional_parsed<T: std::str::FromStr>(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    read_parsed(row, column).map(Some)
}

pub(super) fn read_optional_code<T: Code>(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<Option<T>> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    read_code(row, column).map(Some)
}
