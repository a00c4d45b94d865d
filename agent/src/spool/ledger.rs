//! What the spool has promised and decided: epochs, watermarks, lost ranges.
//!
//! A core: it holds the state and turns it into the bytes of one slot and back; the two-slot file is drawn at the head
//! of [`spool`](super). Every decision that cannot be read off the segments themselves is in here, and is on disk
//! before anything acts on it: an ack before the unlink, a loss before the shedding, the durable end before the send.
//!
//! Limits: [`LIVES_MAX`] epochs, [`LOSSES_MAX`] lost ranges that are not yet known to be reported.

use std::ops::Range;

use roomtone_protocol::id::{Epoch, RecordId, Sequence};
use roomtone_protocol::loss::{LossCause, LossReceipt};
use roomtone_protocol::time::Stamp;

use super::segment::checksum;

/// The room of one slot in the ledger file, in bytes: one page, so that a torn write spoils one slot only.
pub(super) const SLOT_BYTES: usize = 4096;
/// The most epochs that are remembered. One begins when the ledger was lost or 2^32 records were written, so that
/// more than a few with unsent records are a sign of a disk that forgets.
pub(super) const LIVES_MAX: usize = 32;
/// The most lost ranges that wait for the ack of their receipts. Shed ranges touch each other and merge into one.
pub(super) const LOSSES_MAX: usize = 32;

const MAGIC: [u8; 4] = *b"RTSL";
const FORMAT_VERSION: u8 = 1;
const HEAD_BYTES: usize = 20;
const LIFE_BYTES: usize = 12;
const LOSS_BYTES: usize = 38;
const _: () = assert!(LOSSES_MAX >= LIVES_MAX, "two of too many losses are of one life");
const _: () = assert!(
    HEAD_BYTES + LIVES_MAX * LIFE_BYTES + LOSSES_MAX * LOSS_BYTES + 4 <= SLOT_BYTES,
    "a full ledger fits into its slot"
);

/// One epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    /// Its name.
    pub epoch: Epoch,
    /// All below is acknowledged.
    pub acked: u32,
    /// All below was made durable; nothing from here on was ever sent.
    pub end: u32,
}

/// Records that were accepted and cannot be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    /// Their epoch.
    pub epoch: Epoch,
    /// The first of them.
    pub first: u32,
    /// One past the last of them.
    pub end: u32,
    /// Why.
    pub cause: LossCause,
    /// When it was noticed.
    pub noticed: Stamp,
    /// The record that reports it, once that is written.
    pub receipt: Option<RecordId>,
}

impl Loss {
    /// What the collector is told.
    pub(super) fn report(&self) -> LossReceipt {
        LossReceipt {
            epoch: self.epoch,
            first: Sequence(self.first),
            last: Sequence(self.end - 1),
            cause: self.cause,
            noticed: self.noticed,
        }
    }

    fn holds(&self, id: RecordId) -> bool {
        self.epoch == id.epoch && (self.first..self.end).contains(&id.sequence.0)
    }
}

/// Why the bytes of a slot are not a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LedgerError {
    /// A version that this agent does not know.
    Version,
    /// Not the magic, not the checksum, or contents that contradict themselves.
    Damaged,
}

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ledger {
    /// Counts the writes; the higher one of two good slots is valid.
    pub generation: u64,
    lives: Vec<Life>,
    losses: Vec<Loss>,
}

impl Ledger {
    /// The ledger put together from an `outdated` one, the lives that it does not know (oldest first), and a new epoch.
    ///
    /// Where there are too many lives the oldest are left out.
    pub(super) fn rebuilt(outdated: Option<Self>, strange: Vec<Life>, epoch: Epoch) -> Self {
        let mut ledger =
            outdated.unwrap_or(Self { generation: 0, lives: Vec::new(), losses: Vec::new() });
        ledger.lives.extend(strange);
        ledger.lives.push(Life { epoch, acked: 0, end: 0 });
        let excess = ledger.lives.len().saturating_sub(LIVES_MAX);
        ledger.lives.drain(..excess);
        let lives = &ledger.lives;
        ledger.losses.retain(|loss| lives.iter().any(|life| life.epoch == loss.epoch));
        ledger
    }

    /// The life that is being written.
    pub(super) fn current(&self) -> Life {
        *self.lives.last().expect("a ledger is made with one life and never loses its last")
    }

    /// As [`current`](Self::current), to be changed.
    pub(super) fn current_mut(&mut self) -> &mut Life {
        self.lives.last_mut().expect("a ledger is made with one life and never loses its last")
    }

    /// The life of that name.
    pub(super) fn life(&self, epoch: Epoch) -> Option<Life> {
        self.lives.iter().copied().find(|life| life.epoch == epoch)
    }

    /// As [`life`](Self::life), to be changed.
    pub(super) fn life_mut(&mut self, epoch: Epoch) -> Option<&mut Life> {
        self.lives.iter_mut().find(|life| life.epoch == epoch)
    }

    /// All lives, oldest first.
    pub(super) fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// The lost ranges whose receipts are not acknowledged.
    pub(super) fn losses(&self) -> &[Loss] {
        &self.losses
    }

    /// How old an epoch is: 0 for the oldest; `None` for one that is not known.
    pub(super) fn rank(&self, epoch: Epoch) -> Option<usize> {
        self.lives.iter().position(|life| life.epoch == epoch)
    }

    /// Whether another epoch may begin, after forgetting the oldest one that `held` does not name and no loss is of.
    pub(super) fn make_room_for_life(&mut self, held: impl Fn(Epoch) -> bool) -> bool {
        if self.lives.len() < LIVES_MAX {
            return true;
        }
        let owes = |epoch| self.losses.iter().any(|loss| loss.epoch == epoch);
        match self.lives.iter().position(|life| !held(life.epoch) && !owes(life.epoch)) {
            Some(at) => {
                self.lives.remove(at);
                true
            }
            None => false,
        }
    }

    /// Begins an epoch; the caller has made room.
    pub(super) fn begin(&mut self, epoch: Epoch) {
        assert!(self.lives.len() < LIVES_MAX, "room was made for the new epoch");
        self.lives.push(Life { epoch, acked: 0, end: 0 });
    }

    /// Moves an epoch's watermark; it never goes back.
    ///
    /// A loss whose receipt is acknowledged counts as delivered once all before it is: the watermark steps over it and
    /// it is forgotten.
    pub(super) fn acknowledge(&mut self, epoch: Epoch, next: u32) {
        if let Some(life) = self.life_mut(epoch) {
            life.acked = life.acked.max(next);
        }
        while let Some(at) = self.losses.iter().position(|loss| self.is_delivered(loss)) {
            let loss = self.losses.remove(at);
            if let Some(life) = self.life_mut(loss.epoch) {
                life.acked = life.acked.max(loss.end.min(life.end));
            }
        }
    }

    fn is_delivered(&self, loss: &Loss) -> bool {
        let acked = |epoch| self.life(epoch).map_or(u32::MAX, |life| life.acked);
        loss.receipt.is_some_and(|id| id.sequence.0 < acked(id.epoch))
            && loss.first <= acked(loss.epoch)
    }

    /// Gives records up. A range that touches one of the same cause grows it, and is reported as a whole again.
    ///
    /// Where there is no room for another range, the two of one epoch that are closest become one. What is between them
    /// is given up too: it is reported and not sent any more, which is less than to lose count.
    pub(super) fn lose(&mut self, lost: Loss) {
        assert!(lost.first < lost.end, "a loss holds at least one record");
        let joined = self.losses.iter().position(|loss| {
            loss.epoch == lost.epoch
                && loss.cause == lost.cause
                && loss.first <= lost.end
                && lost.first <= loss.end
        });
        match joined {
            Some(at) => self.join(at, lost),
            None => self.losses.push(lost),
        }
        if self.losses.len() > LOSSES_MAX {
            let (at, with) = self.closest();
            // `with` is behind `at`.
            let lost = self.losses.remove(with);
            self.join(at, lost);
        }
        let spans: Vec<Loss> = self.losses.clone();
        // A receipt among the lost is written again.
        for loss in &mut self.losses {
            if loss.receipt.is_some_and(|id| spans.iter().any(|span| span.holds(id))) {
                loss.receipt = None;
            }
        }
    }

    fn join(&mut self, at: usize, lost: Loss) {
        let loss = &mut self.losses[at];
        loss.first = loss.first.min(lost.first);
        loss.end = loss.end.max(lost.end);
        loss.cause = lost.cause;
        loss.noticed = lost.noticed;
        loss.receipt = None;
    }

    /// The two losses of one epoch with the fewest records between them.
    fn closest(&self) -> (usize, usize) {
        let pairs = (0..self.losses.len()).flat_map(|at| (0..at).map(move |before| (before, at)));
        let gap = |&(a, b): &(usize, usize)| {
            let (a, b) = (&self.losses[a], &self.losses[b]);
            a.first.max(b.first).saturating_sub(a.end.min(b.end))
        };
        pairs
            .filter(|(a, b)| self.losses[*a].epoch == self.losses[*b].epoch)
            .min_by_key(gap)
            .expect("there are more losses than lives, and each is of one of the lives")
    }

    /// The oldest loss that has no receipt yet, and its place for [`reported`](Self::reported).
    pub(super) fn unreported(&self) -> Option<(usize, Loss)> {
        let at = self.losses.iter().position(|loss| loss.receipt.is_none())?;
        Some((at, self.losses[at]))
    }

    /// Notes the receipt of the loss at that place.
    pub(super) fn reported(&mut self, at: usize, receipt: RecordId) {
        self.losses[at].receipt = Some(receipt);
    }

    /// Forgets the receipts of `epoch` from `next` on: they were written but did not outlive a power cut.
    pub(super) fn unreport_from(&mut self, epoch: Epoch, next: u32) {
        for loss in &mut self.losses {
            if loss.receipt.is_some_and(|id| id.epoch == epoch && id.sequence.0 >= next) {
                loss.receipt = None;
            }
        }
    }

    /// The first record from `sequence` on that is not known to be lost.
    pub(super) fn lost_until(&self, epoch: Epoch, sequence: u32) -> u32 {
        let mut at = sequence;
        // Ranges of different causes may touch: each pass steps over one of them.
        while let Some(loss) =
            self.losses.iter().find(|loss| loss.holds(RecordId { epoch, sequence: Sequence(at) }))
        {
            at = loss.end;
        }
        at
    }

    /// The records of a life that are neither acknowledged, nor lost, nor in one of the ranges `held` (in order).
    pub(super) fn unaccounted(&self, life: Life, held: &[Range<u32>]) -> Vec<Range<u32>> {
        let mut missing = Vec::new();
        let mut at = life.acked;
        while at < life.end {
            let known = self.lost_until(life.epoch, at);
            let known = held
                .iter()
                .fold(known, |known, range| if range.contains(&known) { range.end } else { known });
            if known > at {
                at = known;
                continue;
            }
            let starts = held.iter().map(|range| range.start);
            let losses = self.losses.iter().filter(|loss| loss.epoch == life.epoch);
            let next =
                starts.chain(losses.map(|loss| loss.first)).filter(|first| *first > at).min();
            let next = next.unwrap_or(life.end).min(life.end);
            missing.push(at..next);
            at = next;
        }
        missing
    }

    /// The bytes of its slot, at most [`SLOT_BYTES`].
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        bytes.extend_from_slice(&MAGIC);
        let length = length_of(self.lives.len(), self.losses.len());
        bytes.extend_from_slice(&[FORMAT_VERSION, 0]);
        // A full ledger fits into SLOT_BYTES, and LIVES_MAX and LOSSES_MAX are below 256.
        bytes.extend_from_slice(&(length as u16).to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&[self.lives.len() as u8, self.losses.len() as u8, 0, 0]);
        for life in &self.lives {
            for word in [life.epoch.0, life.acked, life.end] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        for loss in &self.losses {
            for word in [loss.epoch.0, loss.first, loss.end] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.push(cause_code(loss.cause));
            bytes.extend_from_slice(&loss.noticed.wall_us.to_le_bytes());
            bytes.extend_from_slice(&loss.noticed.uptime_us.to_le_bytes());
            bytes.push(u8::from(loss.receipt.is_some()));
            let id = loss.receipt.unwrap_or(NO_RECEIPT);
            bytes.extend_from_slice(&id.epoch.0.to_le_bytes());
            bytes.extend_from_slice(&id.sequence.0.to_le_bytes());
        }
        let crc = checksum(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads one slot.
    pub(super) fn decode(slot: &[u8]) -> Result<Self, LedgerError> {
        use LedgerError::{Damaged, Version};
        let mut reader = Reader(slot);
        if reader.take::<4>().ok_or(Damaged)? != MAGIC {
            return Err(Damaged);
        }
        let [version, _, low, high] = reader.take().ok_or(Damaged)?;
        let length = usize::from(u16::from_le_bytes([low, high]));
        let crc = slot.get(length..length + 4).ok_or(Damaged)?;
        if checksum(&slot[..length]).to_le_bytes() != crc {
            return Err(Damaged);
        }
        // Only a slot that is whole can be of a later version: a torn write leaves any number there.
        if version != FORMAT_VERSION {
            return Err(Version);
        }
        let mut read = || -> Option<Self> {
            let generation = reader.u64()?;
            let [lives, losses, _, _] = reader.take()?;
            let (lives, losses) = (usize::from(lives), usize::from(losses));
            if lives == 0 || lives > LIVES_MAX || losses > LOSSES_MAX {
                return None;
            }
            if length != length_of(lives, losses) {
                return None;
            }
            let lives = (0..lives).map(|_| reader.life()).collect::<Option<Vec<_>>>()?;
            let losses = (0..losses).map(|_| reader.loss()).collect::<Option<Vec<_>>>()?;
            let known = |loss: &Loss| lives.iter().any(|life: &Life| life.epoch == loss.epoch);
            losses.iter().all(known).then_some(())?;
            Some(Self { generation, lives, losses })
        };
        read().ok_or(Damaged)
    }

    /// Reads the ledger file: the good slot with the higher generation.
    ///
    /// # Errors
    /// [`LedgerError::Version`] where a later agent wrote one of them: an older slot beside it is out of date.
    pub(super) fn latest(file: &[u8]) -> Result<Self, LedgerError> {
        let slots = [file.get(..SLOT_BYTES).unwrap_or(file), file.get(SLOT_BYTES..).unwrap_or(&[])];
        let mut latest: Option<Self> = None;
        for slot in slots {
            match Self::decode(slot) {
                Ok(read) if latest.as_ref().is_none_or(|l| l.generation < read.generation) => {
                    latest = Some(read);
                }
                Ok(_) | Err(LedgerError::Damaged) => {}
                Err(LedgerError::Version) => return Err(LedgerError::Version),
            }
        }
        latest.ok_or(LedgerError::Damaged)
    }
}

const fn length_of(lives: usize, losses: usize) -> usize {
    HEAD_BYTES + lives * LIFE_BYTES + losses * LOSS_BYTES
}

const NO_RECEIPT: RecordId = RecordId { epoch: Epoch(0), sequence: Sequence(0) };

/// The causes' numbers in this file, which need not be the wire's.
fn cause_code(cause: LossCause) -> u8 {
    match cause {
        LossCause::Shed => 0,
        LossCause::Corrupt => 1,
        LossCause::Torn => 2,
        LossCause::WriteFailed => 3,
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn life(&mut self) -> Option<Life> {
        let life = Life { epoch: Epoch(self.u32()?), acked: self.u32()?, end: self.u32()? };
        (life.acked <= life.end).then_some(life)
    }

    fn loss(&mut self) -> Option<Loss> {
        let (epoch, first, end) = (Epoch(self.u32()?), self.u32()?, self.u32()?);
        let cause = match self.take()? {
            [0] => LossCause::Shed,
            [1] => LossCause::Corrupt,
            [2] => LossCause::Torn,
            [3] => LossCause::WriteFailed,
            [_] => return None,
        };
        let noticed = Stamp { wall_us: self.u64()?, uptime_us: self.u64()? };
        let [written] = self.take()?;
        let id = RecordId { epoch: Epoch(self.u32()?), sequence: Sequence(self.u32()?) };
        let receipt = (written == 1).then_some(id);
        (first < end).then_some(Loss { epoch, first, end, cause, noticed, receipt })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Epoch = Epoch(0xa);
    const NOTICED: Stamp = Stamp { wall_us: 5, uptime_us: 6 };

    fn new_ledger() -> Ledger {
        Ledger::rebuilt(None, Vec::new(), A)
    }

    fn loss(first: u32, end: u32, cause: LossCause) -> Loss {
        Loss { epoch: A, first, end, cause, noticed: NOTICED, receipt: None }
    }

    fn id(sequence: u32) -> RecordId {
        RecordId { epoch: A, sequence: Sequence(sequence) }
    }

    #[test]
    fn full_ledger_survives_the_round_trip() {
        let mut ledger = new_ledger();
        ledger.generation = 77;
        for n in 1..LIVES_MAX as u32 {
            ledger.begin(Epoch(0xa + n));
            *ledger.current_mut() = Life { epoch: Epoch(0xa + n), acked: n, end: 2 * n };
        }
        for n in 0..LOSSES_MAX as u32 {
            ledger.lose(loss(n * 10, n * 10 + 3, LossCause::Torn));
            if n % 2 == 0 {
                ledger.reported(n as usize, id(1000 + n));
            }
        }
        let bytes = ledger.encode();
        assert!(bytes.len() <= SLOT_BYTES);
        assert_eq!(Ledger::decode(&bytes), Ok(ledger));
    }

    #[test]
    fn flip_or_cut_anywhere_is_refused() {
        let mut ledger = new_ledger();
        ledger.lose(loss(1, 2, LossCause::Shed));
        let bytes = ledger.encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Ledger::decode(&flipped).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(Ledger::decode(&bytes[..cut]), Err(LedgerError::Damaged), "cut at {cut}");
        }
    }

    #[test]
    fn higher_generation_of_two_slots_wins_and_a_torn_one_falls_back() {
        let mut older = new_ledger();
        older.generation = 4;
        let mut newer = older.clone();
        newer.generation = 5;
        newer.current_mut().end = 9;
        let mut file = older.encode();
        file.resize(SLOT_BYTES, 0);
        file.extend(newer.encode());
        assert_eq!(Ledger::latest(&file), Ok(newer));
        file.truncate(file.len() - 1);
        assert_eq!(Ledger::latest(&file), Ok(older));
    }

    #[test]
    fn slot_of_a_later_version_makes_the_other_one_out_of_date() {
        let mut later = new_ledger().encode();
        later[4] = 2;
        let length = later.len() - 4;
        let crc = checksum(&later[..length]);
        later[length..].copy_from_slice(&crc.to_le_bytes());
        let mut file = new_ledger().encode();
        file.resize(SLOT_BYTES, 0);
        file.extend(later);
        assert_eq!(Ledger::latest(&file), Err(LedgerError::Version));
    }

    #[test]
    fn torn_version_byte_is_damage_and_no_later_version() {
        let mut file = new_ledger().encode();
        file.resize(SLOT_BYTES, 0);
        file.extend(*b"RTSL\0\0\0\0");
        assert_eq!(Ledger::latest(&file), Ok(new_ledger()));
    }

    #[test]
    fn touching_losses_of_one_cause_are_one_and_reported_again() {
        let mut ledger = new_ledger();
        ledger.lose(loss(0, 5, LossCause::Shed));
        ledger.reported(0, id(90));
        ledger.lose(loss(5, 8, LossCause::Shed));
        ledger.lose(loss(8, 9, LossCause::Torn));
        let ranges: Vec<_> = ledger.losses().iter().map(|l| (l.first, l.end, l.receipt)).collect();
        assert_eq!(ranges, [(0, 8, None), (8, 9, None)]);
        assert_eq!(ledger.lost_until(A, 3), 9);
        assert_eq!(ledger.lost_until(A, 9), 9);
    }

    #[test]
    fn lost_receipt_is_written_again_until_it_is_acknowledged() {
        let mut ledger = new_ledger();
        ledger.lose(loss(0, 5, LossCause::Corrupt));
        ledger.reported(0, id(20));
        ledger.lose(loss(18, 25, LossCause::Shed));
        assert_eq!(ledger.unreported().map(|(at, loss)| (at, loss.first)), Some((0, 0)));
        ledger.reported(0, id(30));
        ledger.reported(1, id(31));
        ledger.acknowledge(A, 31);
        assert_eq!(ledger.losses().iter().map(|loss| loss.first).collect::<Vec<_>>(), [18]);
    }

    #[test]
    fn closest_ranges_become_one_where_there_is_no_room() {
        let mut ledger = new_ledger();
        for n in 0..LOSSES_MAX as u32 {
            ledger.lose(loss(n * 100, n * 100 + 1, LossCause::Torn));
        }
        assert_eq!(ledger.losses().len(), LOSSES_MAX);
        // 550 is 49 behind 500..501 and 49 before 600..601, all others are 99 apart: the first such pair is joined.
        ledger.lose(loss(550, 551, LossCause::Corrupt));
        assert_eq!(ledger.losses().len(), LOSSES_MAX);
        assert_eq!(ledger.lost_until(A, 500), 551);
        assert_eq!(ledger.lost_until(A, 551), 551);
        assert_eq!(ledger.lost_until(A, 600), 601);
    }

    #[test]
    fn what_no_segment_holds_and_no_loss_names_is_unaccounted() {
        let mut ledger = new_ledger();
        ledger.lose(loss(12, 14, LossCause::Torn));
        let life = Life { epoch: A, acked: 3, end: 30 };
        // 3..5 and 10..12 are missing before and between, 14..20 behind the loss, 25..30 at the end.
        let missing = ledger.unaccounted(life, &[5..10, 20..25]);
        assert_eq!(missing, [3..5, 10..12, 14..20, 25..30]);
        assert_eq!(ledger.unaccounted(life, std::slice::from_ref(&(0..40))), []);
    }
}
