//! Each text of a file kept once: a country that a million rows name costs its letters and four bytes a row.

use std::collections::HashMap;

use super::FILE_BYTES_MAX;

// Texts come out of a file's bytes, with a separator between them: their number and their length fit.
const _: () = assert!(FILE_BYTES_MAX < u32::MAX as usize);

/// Stands for a text in a [`Texts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TextId(u32);

/// Texts while a file is read: at most as many bytes as the file has, and for each different text an entry of the map.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    ids: HashMap<Box<str>, TextId>,
}

impl Gathering {
    /// The id of a text, a new one where it was not seen before.
    pub(super) fn id(&mut self, text: &str) -> TextId {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = TextId(u32::try_from(self.ids.len()).expect("fewer texts than bytes in a file"));
        self.ids.insert(text.into(), id);
        id
    }

    /// Puts the texts one behind the other.
    pub(super) fn finish(self) -> Texts {
        let mut ordered: Vec<(Box<str>, TextId)> = self.ids.into_iter().collect();
        ordered.sort_unstable_by_key(|(_, TextId(id))| *id);
        let mut texts = Texts {
            all: String::with_capacity(ordered.iter().map(|(text, _)| text.len()).sum()),
            ends: Vec::with_capacity(ordered.len()),
        };
        for (text, _) in ordered {
            texts.all += &text;
            texts.ends.push(u32::try_from(texts.all.len()).expect("no longer than the file"));
        }
        texts
    }
}

/// Texts of a file that was read: their letters, and four bytes each.
#[derive(Debug, Default)]
pub(super) struct Texts {
    all: String,
    /// Where each text ends in `all`, in bytes.
    ends: Vec<u32>,
}

impl Texts {
    /// The text of an id that [`Gathering::id`] gave out; the empty one for any other.
    pub(super) fn of(&self, TextId(id): TextId) -> &str {
        let at = id as usize;
        let begin = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied();
        let end = self.ends.get(at).copied().unwrap_or(0);
        self.all.get(begin.unwrap_or(0) as usize..end as usize).unwrap_or_default()
    }

    /// The bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.all.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_kept_once_and_each_comes_back() {
        let mut gathering = Gathering::default();
        let given = ["Oslo", "", "Tromsø", "Oslo", "東京", ""];
        let ids: Vec<_> = given.iter().map(|text| gathering.id(text)).collect();
        let texts = gathering.finish();
        for (id, text) in ids.iter().zip(given) {
            assert_eq!(texts.of(*id), text);
        }
        assert_eq!((ids[0], ids[1]), (ids[3], ids[5]));
        // Oslo 4, Tromsø 7 and 東京 6 bytes; four different texts.
        assert_eq!((texts.all.len(), texts.ends.len()), (17, 4));
    }
}
