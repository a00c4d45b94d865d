//! Which capture and render devices there are, and what to call them.
//!
//! A core. A device is one side of one PCM of one card; its name joins what people read (the card's short name) with
//! what the kernel keeps unique (the card's id), in the form that `arecord -D` takes, so that the second of two equal
//! headsets is another device. Numbers of cards are places, not names: they change with the order of plugging.

use roomtone_protocol::device::DeviceSide;
use roomtone_protocol::limits::DEVICE_NAME_BYTES_MAX;

use super::alsa_proc::parse::{Cards, clean};
use super::constants::CARD_ID_BYTES_MAX;
use super::function::DeviceKey;

/// Devices that are watched, at most: 32 cards with a headset's two each and room for a few large ones.
pub const DEVICES_MAX: usize = 128;

/// Where a device's files lie at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The card's number.
    pub card: u8,
    /// The PCM's number on the card.
    pub pcm: u8,
    /// Whether it is the capture side.
    pub capture: bool,
}

impl Place {
    /// Microphone or loudspeaker.
    #[must_use]
    pub fn side(self) -> DeviceSide {
        if self.capture { DeviceSide::Capture } else { DeviceSide::Render }
    }
}

/// One PCM as its folder shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pcm {
    /// Where.
    pub place: Place,
    /// How many sub-devices it has.
    pub subs: u8,
    /// Its own name; `None` where the file cannot be read.
    pub name: Option<String>,
}

/// One capture or render device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its name, at most [`DEVICE_NAME_BYTES_MAX`] bytes; with the side it names the device wherever it is plugged in.
    pub name: String,
    /// Where it is now.
    pub place: Place,
    /// How many sub-devices it has.
    pub subs: u8,
    /// The card's id.
    pub card_id: String,
    /// The card's driver.
    pub driver: String,
    /// The PCM's own name.
    pub pcm_name: Option<String>,
}

impl Device {
    /// The name that stays when the device is plugged in elsewhere.
    #[must_use]
    pub fn key(&self) -> DeviceKey {
        let mut card = heapless::String::new();
        // The inventory cut the id to what fits.
        let _ = card.push_str(&self.card_id);
        DeviceKey { card, pcm: self.place.pcm, side: self.place.side() }
    }
}

/// All devices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// By place.
    pub devices: Vec<Device>,
    /// Cards and devices beyond the limits, which nobody watches.
    pub beyond: usize,
}

impl Inventory {
    /// Joins cards and their PCMs; what belongs to no card is left out, since the card left meanwhile.
    #[must_use]
    pub fn build(cards: &Cards, mut pcms: Vec<Pcm>) -> Self {
        pcms.sort_by_key(|pcm| pcm.place);
        pcms.dedup_by_key(|pcm| pcm.place);
        let mut inventory = Self { devices: Vec::new(), beyond: cards.beyond };
        for Pcm { place, subs, name } in pcms {
            let Some(card) = cards.cards.iter().find(|card| card.index == place.card) else {
                continue;
            };
            if inventory.devices.len() == DEVICES_MAX {
                inventory.beyond += 1;
                continue;
            }
            inventory.devices.push(Device {
                name: device_name(&card.name, &card.id, place.pcm),
                place,
                subs,
                card_id: clean(card.id.as_bytes(), CARD_ID_BYTES_MAX),
                driver: card.driver.clone(),
                pcm_name: name,
            });
        }
        inventory
    }

    /// The device at a place.
    #[must_use]
    pub fn at(&self, place: Place) -> Option<&Device> {
        self.devices.iter().find(|device| device.place == place)
    }
}

/// `Sim Headset (hw:SimHeadset,0)`. Where it is too long, the readable part is cut.
fn device_name(card_name: &str, card_id: &str, pcm: u8) -> String {
    let unique = format!("hw:{},{pcm}", clean(card_id.as_bytes(), CARD_ID_BYTES_MAX));
    let room = DEVICE_NAME_BYTES_MAX - unique.len() - " ()".len();
    let readable = clean(card_name.as_bytes(), room);
    if readable.is_empty() { unique } else { format!("{readable} ({unique})") }
}

#[cfg(test)]
mod tests {
    use super::super::alsa_proc::parse::cards;
    use super::*;

    fn pcm(card: u8, pcm: u8, capture: bool) -> Pcm {
        Pcm { place: Place { card, pcm, capture }, subs: 1, name: None }
    }

    #[test]
    fn two_equal_headsets_are_two_devices() {
        let cards = cards(
            b" 0 [Headset        ]: USB-Audio - Jabra Link\n 1 [Headset_1      ]: USB-Audio - Jabra Link\n",
        );
        let inventory = Inventory::build(&cards, vec![pcm(1, 0, true), pcm(0, 0, true)]);
        let names: Vec<&str> = inventory.devices.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["Jabra Link (hw:Headset,0)", "Jabra Link (hw:Headset_1,0)"]);
    }

    #[test]
    fn a_long_name_keeps_its_unique_part() {
        let text = format!(" 0 [Odd            ]: USB-Audio - {}\n", "é".repeat(90));
        let inventory = Inventory::build(&cards(text.as_bytes()), vec![pcm(0, 31, false)]);
        let name = &inventory.devices[0].name;
        assert!(name.ends_with(" (hw:Odd,31)") && name.len() <= DEVICE_NAME_BYTES_MAX, "{name}");
    }

    #[test]
    fn pcm_without_card_is_left_out_and_what_is_too_much_is_counted() {
        let cards = cards(b" 0 [A              ]: Dummy - A\n");
        // 256 places on one card, of which 128 are watched; card 1 has left.
        let pcms = (0..128).flat_map(|n| [pcm(0, n, true), pcm(0, n, false), pcm(1, n, true)]);
        let inventory = Inventory::build(&cards, pcms.collect());
        assert_eq!((inventory.devices.len(), inventory.beyond), (128, 128));
    }
}
