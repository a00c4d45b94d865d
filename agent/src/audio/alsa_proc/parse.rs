//! The text of `/proc/asound`, as `sound/core/pcm.c`, `init.c` and `sound/usb/proc.c` of the kernel write it.
//!
//! A core: bytes in, values out. Nothing here trusts the text: a driver chooses the names of its cards, a file may end
//! anywhere because its device left while it was read, and a later kernel may add lines. What is not understood is
//! `None` or left out, never a guess.

use crate::audio::function::PcmState;

/// Cards that are looked at, at most: the kernel's own default (`CONFIG_SND_MAX_CARDS`).
pub const CARDS_MAX: usize = 32;
/// The longest name that is kept, in bytes of UTF-8 (`snd_card.longname` has 80).
pub const NAME_BYTES_MAX: usize = 80;
/// The longest word that is kept of formats and access modes, in bytes.
const WORD_BYTES_MAX: usize = 24;

/// One card of `/proc/asound/cards`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its number.
    pub index: u8,
    /// Its id, unique among the cards that are present.
    pub id: String,
    /// Its driver.
    pub driver: String,
    /// Its short name.
    pub name: String,
}

/// What [`cards`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cards {
    /// The cards, by number.
    pub cards: Vec<Card>,
    /// How many more there are beyond [`CARDS_MAX`].
    pub beyond: usize,
}

/// Reads `/proc/asound/cards`.
#[must_use]
pub fn cards(text: &[u8]) -> Cards {
    let mut found = Cards::default();
    for card in text.split(|byte| *byte == b'\n').filter_map(card) {
        if found.cards.iter().any(|known| known.index == card.index) {
            continue;
        }
        if found.cards.len() == CARDS_MAX {
            found.beyond += 1;
        } else {
            found.cards.push(card);
        }
    }
    found.cards.sort_by_key(|card| card.index);
    found
}

/// One line as `" 0 [SimHeadset     ]: USB-Audio - Sim Headset"`; the second line of a card has no number.
fn card(line: &[u8]) -> Option<Card> {
    let open = line.iter().position(|byte| *byte == b'[')?;
    let close = open + line.get(open..)?.iter().position(|byte| *byte == b']')?;
    let index = str::from_utf8(line.get(..open)?).ok()?.trim().parse().ok()?;
    let id = clean(line.get(open + 1..close)?, NAME_BYTES_MAX);
    let rest = line.get(close + 1..)?.strip_prefix(b": ")?;
    let dash = rest.windows(3).position(|three| three == b" - ");
    let (driver, name) = match dash {
        Some(at) => (rest.get(..at)?, rest.get(at + 3..)?),
        None => (rest, &b""[..]),
    };
    let (driver, name) = (clean(driver, NAME_BYTES_MAX), clean(name, NAME_BYTES_MAX));
    (!id.is_empty()).then_some(Card { index, id, driver, name })
}

/// Which way a PCM goes, from the name of its folder: `pcm0c` is device 0, capture.
#[must_use]
pub fn pcm_folder(name: &[u8]) -> Option<(u8, bool)> {
    let rest = name.strip_prefix(b"pcm")?;
    let (number, side) = rest.split_at_checked(rest.len().checked_sub(1)?)?;
    let capture = match side {
        b"c" => true,
        b"p" => false,
        _ => return None,
    };
    let number = digits(number)?;
    (number < PCMS_MAX).then_some((number, capture))
}

/// The number of a sub-device, from the name of its folder: `sub0`.
#[must_use]
pub fn sub_folder(name: &[u8]) -> Option<u8> {
    digits(name.strip_prefix(b"sub")?)
}

/// The card and device of a node in `/dev/snd`, as `pcmC0D0c`; `true` for capture.
#[must_use]
pub fn pcm_node(name: &[u8]) -> Option<(u8, u8, bool)> {
    let rest = name.strip_prefix(b"pcmC")?;
    let at = rest.iter().position(|byte| *byte == b'D')?;
    let card = digits(rest.get(..at)?)?;
    let mut folder = b"pcm".to_vec();
    folder.extend_from_slice(rest.get(at + 1..)?);
    let (device, capture) = pcm_folder(&folder)?;
    Some((card, device, capture))
}

/// Digits alone: `from_str` would take a sign.
fn digits(text: &[u8]) -> Option<u8> {
    let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    plain.then(|| str::from_utf8(text).ok()?.parse().ok())?
}

/// Devices of a card, at most (`SNDRV_PCM_DEVICES`).
const PCMS_MAX: u8 = 32;

/// The name of a PCM, from its `info`.
#[must_use]
pub fn info_name(text: &[u8]) -> Option<String> {
    field(text, b"name").map(|name| clean(name, NAME_BYTES_MAX)).filter(|name| !name.is_empty())
}

/// A sub-device's `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nobody has it open.
    Closed,
    /// Somebody has.
    Open(Progress),
}

/// What an open sub-device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Its state.
    pub state: PcmState,
    /// The thread that opened it; `None` where the file names none.
    pub owner: Option<u32>,
    /// Frames that the hardware has gone through since it was prepared, modulo the ring's boundary.
    pub hw_ptr: u64,
}

/// Reads a `status`; `None` where it is torn or unknown.
#[must_use]
pub fn status(text: &[u8]) -> Option<Status> {
    if text.trim_ascii() == b"closed" {
        return Some(Status::Closed);
    }
    let state = match field(text, b"state")? {
        b"OPEN" => PcmState::Open,
        b"SETUP" => PcmState::Setup,
        b"PREPARED" => PcmState::Prepared,
        b"RUNNING" => PcmState::Running,
        b"XRUN" => PcmState::Xrun,
        b"DRAINING" => PcmState::Draining,
        b"PAUSED" => PcmState::Paused,
        b"SUSPENDED" => PcmState::Suspended,
        b"DISCONNECTED" => PcmState::Disconnected,
        _ => return None,
    };
    let owner = number(text, b"owner_pid").and_then(|pid| u32::try_from(pid).ok());
    let hw_ptr = match (number(text, b"hw_ptr"), state) {
        (Some(frames), _) => frames,
        // Before a format is agreed on there is no ring yet, and old kernels leave the pointers out.
        (None, PcmState::Open | PcmState::Setup) => 0,
        (None, _) => return None,
    };
    Some(Status::Open(Progress { state, owner: owner.filter(|pid| *pid != 0), hw_ptr }))
}

/// The agreed format of an open sub-device, from its `hw_params`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    /// The sample format as ALSA names it, for instance `S16_LE`.
    pub sample: String,
    /// Frames per second, at least 1.
    pub rate_hz: u32,
    /// Channels.
    pub channels: u32,
    /// Frames per period, at least 1.
    pub period_frames: u32,
    /// Frames of the whole ring.
    pub buffer_frames: u32,
}

/// Reads `hw_params`; `None` where nothing is agreed on (`closed`, `no setup`) or the text is torn.
#[must_use]
pub fn format(text: &[u8]) -> Option<Format> {
    let small = |name: &[u8]| number(text, name).and_then(|value| u32::try_from(value).ok());
    Some(Format {
        sample: clean(field(text, b"format")?, WORD_BYTES_MAX),
        rate_hz: small(b"rate").filter(|rate| *rate > 0)?,
        channels: small(b"channels")?,
        period_frames: small(b"period_size").filter(|frames| *frames > 0)?,
        buffer_frames: small(b"buffer_size")?,
    })
}

/// The thread group of a thread and its name, from `/proc/PID/status`.
#[must_use]
pub fn process(text: &[u8]) -> Option<(u32, String)> {
    let group = number(text, b"Tgid").and_then(|pid| u32::try_from(pid).ok())?;
    Some((group, clean(field(text, b"Name")?, NAME_BYTES_MAX)))
}

/// The value of the first line `name : value`, blanks around both left out.
///
/// A line without an end is torn and does not count: half a position would be another position.
fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    text.split_inclusive(|byte| *byte == b'\n').find_map(|line| {
        let line = line.strip_suffix(b"\n")?;
        let at = line.iter().position(|byte| *byte == b':')?;
        let (key, value) = line.split_at_checked(at)?;
        (key.trim_ascii() == name).then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// A value's leading digits: `rate` goes on with the exact fraction.
fn number(text: &[u8], name: &[u8]) -> Option<u64> {
    let value = field(text, name)?;
    let end = value.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(value.len());
    str::from_utf8(value.get(..end)?).ok()?.parse().ok()
}

/// Makes a name that fits on a line and on the wire, whatever bytes a driver chose.
///
/// Invalid UTF-8 becomes U+FFFD, control characters become escapes, blanks at the ends go, and what is beyond
/// `bytes_max` is cut between characters.
#[must_use]
pub fn clean(bytes: &[u8], bytes_max: usize) -> String {
    let head = bytes.get(..bytes_max.saturating_mul(2)).unwrap_or(bytes);
    let mut name = String::new();
    for c in String::from_utf8_lossy(head).trim().chars() {
        let hidden = c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
        let before = name.len();
        if hidden {
            name.extend(c.escape_unicode());
        } else {
            name.push(c);
        }
        if name.len() > bytes_max {
            name.truncate(before);
            break;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CARDS: &[u8] = b" 0 [SimHeadset     ]: USB-Audio - Sim Headset
                      roomtone Sim Headset at usb-vhci_hcd.0-1, full speed
10 [Loopback       ]: Loopback - Loopback
                      Loopback 1
";
    const RUNNING: &[u8] = b"state: RUNNING
owner_pid   : 412
trigger_time: 12.345678901
tstamp      : 0.000000000
delay       : 1200
avail       : 1200
avail_max   : 2400
-----
hw_ptr      : 48000
appl_ptr    : 46800
";
    const PARAMS: &[u8] = b"access: MMAP_INTERLEAVED
format: S16_LE
subformat: STD
channels: 1
rate: 48000 (48000/1)
period_size: 2400
buffer_size: 4800
";

    #[test]
    fn cards_are_read_with_their_names() {
        let found = cards(CARDS);
        let names = found.cards.iter().map(|c| (c.index, &*c.id, &*c.driver, &*c.name));
        let names: Vec<_> = names.collect();
        assert_eq!(
            names,
            [
                (0, "SimHeadset", "USB-Audio", "Sim Headset"),
                (10, "Loopback", "Loopback", "Loopback")
            ]
        );
        assert_eq!(cards(b"--- no soundcards ---\n"), Cards::default());
    }

    #[test]
    fn cards_beyond_the_limit_are_counted_and_doubles_are_not() {
        let line = |n: usize| format!("{n:2} [Card{n:<11}]: Dummy - Dummy {n}\n");
        let text: String = (0..40).chain(0..40).map(line).collect();
        let found = cards(text.as_bytes());
        // Of 40 cards 32 are kept. The second pass repeats those and counts the other 8 again.
        assert_eq!((found.cards.len(), found.beyond), (32, 16));
    }

    #[test]
    fn odd_bytes_in_names_are_shown_and_bounded() {
        let found = cards(b" 1 [Odd            ]: USB-Audio - \xff\x1b[31mMic\x07\n");
        assert_eq!(found.cards[0].name, "\u{fffd}\\u{1b}[31mMic\\u{7}");
        assert_eq!(clean("ä".repeat(100).as_bytes(), 5), "ää");
        assert_eq!(clean(b"\x01\x01", 7), "\\u{1}");
    }

    #[test]
    fn folders_and_nodes_are_taken_apart() {
        let folders: [(&[u8], _); 6] = [
            (b"pcm0c", Some((0, true))),
            (b"pcm31p", Some((31, false))),
            (b"pcm32p", None),
            (b"pcm+1p", None),
            (b"pcmp", None),
            (b"pcm", None),
        ];
        for (name, parts) in folders {
            assert_eq!(pcm_folder(name), parts, "{name:?}");
        }
        assert_eq!(pcm_node(b"pcmC12D3p"), Some((12, 3, false)));
        assert_eq!(pcm_node(b"controlC0"), None);
        assert_eq!(pcm_node(b"pcmC0"), None);
        assert_eq!(sub_folder(b"sub7"), Some(7));
        assert_eq!(sub_folder(b"sub256"), None);
    }

    #[test]
    fn status_tells_closed_from_open_and_torn() {
        let running = Progress { state: PcmState::Running, owner: Some(412), hw_ptr: 48_000 };
        assert_eq!(status(RUNNING), Some(Status::Open(running)));
        assert_eq!(status(b"closed\n"), Some(Status::Closed));
        // Cut before the pointers: better nothing than a position of 0, which would be a fault.
        assert_eq!(status(&RUNNING[..60]), None);
        assert_eq!(status(b"state: ON FIRE\nhw_ptr : 1\n"), None);
        assert_eq!(status(b""), None);
    }

    #[test]
    fn format_is_read_or_absent() {
        let found = format(PARAMS).unwrap();
        assert_eq!((&*found.sample, found.rate_hz, found.channels), ("S16_LE", 48_000, 1));
        assert_eq!((found.period_frames, found.buffer_frames), (2_400, 4_800));
        assert_eq!(format(b"closed\n"), None);
        assert_eq!(format(b"no setup\n"), None);
        let zero = String::from_utf8(PARAMS.to_vec()).unwrap().replace("rate: 48000", "rate: 0");
        assert_eq!(format(zero.as_bytes()), None);
    }

    #[test]
    fn thread_of_a_holder_leads_to_its_process() {
        let text = b"Name:\tteams-for-linux\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t77\n";
        assert_eq!(process(text), Some((77, "teams-for-linux".to_owned())));
        assert_eq!(process(b"Name:\tx\n"), None);
    }

    /// Text near the real one: a few edits of a good file.
    fn mangled(good: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
        let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8);
        (edits, any::<prop::sample::Index>()).prop_map(move |(edits, cut)| {
            let mut text = good.to_vec();
            for (at, byte) in edits {
                let at = at.index(text.len());
                text[at] = byte;
            }
            text.truncate(cut.index(text.len() + 1));
            text
        })
    }

    proptest! {
        #[test]
        fn mangled_cards_stay_within_bounds(text in mangled(CARDS)) {
            let found = cards(&text);
            prop_assert!(found.cards.len() <= CARDS_MAX);
            for card in &found.cards {
                for name in [&card.id, &card.driver, &card.name] {
                    prop_assert!(name.len() <= NAME_BYTES_MAX);
                    prop_assert!(!name.contains(char::is_control));
                }
            }
        }

        #[test]
        fn mangled_status_never_invents_a_rate_of_zero(text in mangled(PARAMS)) {
            if let Some(found) = format(&text) {
                prop_assert!(found.rate_hz > 0 && found.period_frames > 0);
            }
            let _ = status(&text);
        }

        #[test]
        fn cut_status_is_whole_or_nothing(cut in 0..RUNNING.len()) {
            let found = status(&RUNNING[..cut]);
            prop_assert!(found.is_none() || found == status(RUNNING));
        }

        #[test]
        fn any_bytes_are_answered(text in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let _ = (cards(&text), status(&text), format(&text), process(&text), info_name(&text));
            let _ = (pcm_folder(&text), pcm_node(&text), sub_folder(&text));
            prop_assert!(clean(&text, 80).len() <= 80);
        }
    }
}
