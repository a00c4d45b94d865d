//! Bytes of a file to rows of fields: a row is a line, its fields stand between TABs or commas, quoted or not.
//!
//! A line is given to the state machine of `csv-core` by itself, so a quote that never ends costs its own line and
//! not the rest of the file. The price: no field holds a line break. This is the only file that knows `csv-core`.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};

use super::finding::{Findings, What};

/// The longest line, in bytes: 15 columns of 256 characters of four bytes, each quoted, are 15,404.
pub(super) const LINE_BYTES_MAX: usize = 32 << 10;

/// The most columns that are kept of a line; those beyond are counted.
const COLUMNS_KEPT: usize = 16;

/// How many lines tell what stands between columns.
const LINES_LOOKED_AT: usize = 100;

/// A row of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    /// The number of its line, from 1.
    pub line: u32,
    /// Whether no row stands before it.
    pub is_first: bool,
    /// How many fields it has.
    pub columns: usize,
    buffer: &'a [u8],
    ends: &'a [usize],
}

impl<'a> Row<'a> {
    /// A field, counted from 0, without its quotes; empty where the row has none there.
    pub(super) fn field(&self, at: usize) -> &'a [u8] {
        let begin = at.checked_sub(1).and_then(|it| self.ends.get(it)).copied().unwrap_or(0);
        let end = self.ends.get(at).copied().unwrap_or(begin);
        self.buffer.get(begin..end).unwrap_or_default()
    }
}

/// Hands each row of `file` to `take`; a line that is none becomes a finding, an empty one nothing.
pub(super) fn each(
    file: &[u8],
    findings: &mut Findings,
    mut take: impl FnMut(Row<'_>, &mut Findings),
) {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let mut reader =
        ReaderBuilder::new().delimiter(separator(file)).terminator(Terminator::Any(b'\n')).build();
    // A byte more than fields can take: a buffer that is full would end a line early.
    let mut buffer = vec![0; LINE_BYTES_MAX + 1];
    let mut is_first = true;
    for (index, bytes) in file.split(|byte| *byte == b'\n').enumerate() {
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        // A file has fewer lines than bytes, and fewer bytes than this can count.
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        findings.count_row();
        let mut ends = [0; COLUMNS_KEPT];
        match split(&mut reader, bytes, &mut buffer, &mut ends) {
            Ok(columns) => {
                let ends = &ends[..columns.min(COLUMNS_KEPT)];
                take(Row { line, is_first, columns, buffer: &buffer, ends }, findings);
            }
            Err(wrong) => findings.drop_row(line, None, wrong),
        }
        is_first = false;
    }
}

/// Splits a line; returns how many fields it has.
fn split(
    reader: &mut Reader,
    line: &[u8],
    buffer: &mut [u8],
    ends: &mut [usize; COLUMNS_KEPT],
) -> Result<usize, What> {
    if line.len() > LINE_BYTES_MAX {
        return Err(What::LineTooLong { found: line.len(), most: LINE_BYTES_MAX });
    }
    // Where those fields end that are counted only.
    let mut beyond = [0; COLUMNS_KEPT];
    let (mut columns, mut written) = (0, 0);
    for part in [line, b"\n".as_slice()] {
        let mut rest = part;
        while !rest.is_empty() {
            let room = match ends.get_mut(columns..) {
                Some(room) if !room.is_empty() => room,
                Some(_) | None => &mut beyond,
            };
            let (result, read, wrote, ended) =
                reader.read_record(rest, &mut buffer[written..], room);
            rest = &rest[read..];
            written += wrote;
            columns += ended;
            match result {
                ReadRecordResult::Record => return Ok(columns),
                ReadRecordResult::InputEmpty | ReadRecordResult::OutputEndsFull => {}
                // Fields are never longer than their line, so there is room; and End takes an empty input.
                ReadRecordResult::OutputFull | ReadRecordResult::End => break,
            }
        }
    }
    reader.reset();
    Err(What::QuoteNeverEnds)
}

/// TAB where the first lines hold more of them than of commas: a name may hold a comma, hardly ever a TAB.
fn separator(file: &[u8]) -> u8 {
    let end = file
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .nth(LINES_LOOKED_AT - 1)
        .map_or(file.len(), |(at, _)| at);
    let count = |wanted: u8| file[..end].iter().filter(|byte| **byte == wanted).count();
    if count(b'\t') > count(b',') { b'\t' } else { b',' }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &[u8]) -> (Vec<Vec<String>>, Vec<u32>) {
        let (mut findings, mut rows) = (Findings::default(), Vec::new());
        each(file, &mut findings, |row, _| {
            let fields = (0..row.columns.min(COLUMNS_KEPT)).map(|at| row.field(at));
            rows.push(fields.map(|it| String::from_utf8_lossy(it).into_owned()).collect());
        });
        (rows, findings.finish().findings.iter().map(|it| it.line).collect())
    }

    #[test]
    fn tabs_commas_quotes_and_marks_are_understood() {
        let expected = vec![vec!["a".to_owned(), "b, \"c\"".to_owned(), String::new()]];
        assert_eq!(read(b"a,\"b, \"\"c\"\"\",\n").0, expected);
        assert_eq!(read(b"\xef\xbb\xbfa\tb, \"c\"\t\r\n\r\n").0, expected);
        assert_eq!(read(b"a\t\"b, \"\"c\"\"\"\t").0, expected);
    }

    #[test]
    fn open_quote_costs_its_own_line_and_no_other() {
        let (rows, told) = read(b"a,\"b\n\"c\",d\n\"e,f\ng,h");
        assert_eq!(rows, [["c", "d"], ["g", "h"]]);
        assert_eq!(told, [1, 3]);
    }

    #[test]
    fn giant_line_is_one_finding_and_the_next_line_is_read() {
        let mut file = vec![b'x'; 10 * LINE_BYTES_MAX];
        file.extend(b"\na,b\n");
        file.extend(vec![b','; 1_000_000]);
        file.extend(b"\nc,d");
        assert_eq!(
            read(&file),
            (vec![vec!["a".into(), "b".into()], vec!["c".into(), "d".into()]], vec![1, 3])
        );
    }

    #[test]
    fn line_as_long_as_may_be_is_read_to_its_last_column() {
        for length in LINE_BYTES_MAX - 2..=LINE_BYTES_MAX + 1 {
            let mut file = vec![b','; length];
            file.extend(b"\na,b");
            let (mut findings, mut columns) = (Findings::default(), Vec::new());
            each(&file, &mut findings, |row, _| columns.push(row.columns));
            // n commas are n + 1 columns.
            let expected = if length <= LINE_BYTES_MAX { vec![length + 1, 2] } else { vec![2] };
            assert_eq!(columns, expected, "{length} bytes");
        }
    }

    #[test]
    fn field_as_long_as_a_line_may_be_is_read_whole() {
        for length in LINE_BYTES_MAX - 1..=LINE_BYTES_MAX + 1 {
            let mut file = vec![b'x'; length];
            file.extend(b"\na,b");
            let (rows, told) = read(&file);
            let expected = if length <= LINE_BYTES_MAX { (2, length, 0) } else { (1, 1, 1) };
            assert_eq!((rows.len(), rows[0][0].len(), told.len()), expected, "{length} bytes");
        }
    }
}
