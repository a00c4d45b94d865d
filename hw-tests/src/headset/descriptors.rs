//! What the headset says that it is: the descriptors of a USB Audio Class 1 device.
//!
//! ```text
//! host ─► IT1 stereo ─► FU2 mute, volume ─► OT3 headset          interface 1, endpoint 0x01 (adaptive)
//! host ◄─ OT6        ◄─ FU5 mute, volume ◄─ IT4 microphone mono   interface 2, endpoint 0x82 (asynchronous)
//! host ◄─ status word "unit 5 changed"                          interface 0, endpoint 0x83 (interrupt)
//! ```
//! Section numbers are those of "Universal Serial Bus Device Class Definition for Audio Devices", release 1.0, and of
//! the USB 2.0 specification (chapter 9). Full speed: one packet a millisecond.

/// The endpoint that takes the loudspeaker's samples, without the direction bit.
pub const RENDER_ENDPOINT: u8 = 1;
/// The endpoint that yields the microphone's samples, without the direction bit.
pub const CAPTURE_ENDPOINT: u8 = 2;
/// The endpoint that tells of buttons, without the direction bit.
pub const STATUS_ENDPOINT: u8 = 3;
/// The direction bit of an endpoint address: towards the host.
pub const TO_HOST: u8 = 0x80;

/// The loudspeaker's mute and volume.
pub const RENDER_UNIT: u8 = 2;
/// The microphone's mute and volume.
pub const CAPTURE_UNIT: u8 = 5;

/// Channels of the loudspeaker.
pub const RENDER_CHANNELS: u8 = 2;
/// Channels of the microphone.
pub const CAPTURE_CHANNELS: u8 = 1;
/// Bytes of one sample of one channel: signed 16 bit, little endian.
pub const SAMPLE_BYTES: u32 = 2;
/// The rates that both directions offer, in Hz: what call applications open.
pub const RATES_HZ: [u32; 2] = [16_000, 48_000];

/// Descriptor types (USB 2.0 table 9-5; Audio 1.0 table A-4).
const DEVICE: u8 = 1;
const CONFIGURATION: u8 = 2;
const STRING: u8 = 3;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const CS_INTERFACE: u8 = 0x24;
const CS_ENDPOINT: u8 = 0x25;

const CLASS_AUDIO: u8 = 1;
const SUBCLASS_CONTROL: u8 = 1;
const SUBCLASS_STREAMING: u8 = 2;

/// Mute (D0) and volume (D1) in `bmaControls`, section 4.3.2.5.
const MUTE_AND_VOLUME: u8 = 0x03;

/// The device descriptor. Vendor 1d6b is the Linux Foundation's, whose product ids name devices made of software.
#[must_use]
pub fn device() -> Vec<u8> {
    vec![
        18, DEVICE, 0x10, 0x01, // USB 1.1
        0, 0, 0,  // class: see interfaces
        64, // packet size of endpoint 0
        0x6b, 0x1d, 0x77, 0x77, // vendor, product
        0x00, 0x01, // release 1.00
        1, 2, 3, // strings: manufacturer, product, serial number
        1, // configurations
    ]
}

/// The configuration with all that belongs to it, in the order of Audio 1.0 appendix B.
#[must_use]
pub fn configuration() -> Vec<u8> {
    let mut body = control_interface();
    body.extend(streaming_interface(1, 1, RENDER_CHANNELS, RENDER_ENDPOINT, ADAPTIVE));
    body.extend(streaming_interface(
        2,
        6,
        CAPTURE_CHANNELS,
        CAPTURE_ENDPOINT | TO_HOST,
        ASYNCHRONOUS,
    ));
    let [low, high] = length_of(&body, 9);
    // Three interfaces, bus powered, 100 mA.
    let mut all = vec![9, CONFIGURATION, low, high, 3, 1, 0, 0x80, 50];
    all.extend(body);
    all
}

/// String `index`; 0 names the one language, US English. `None` where there is no such string.
#[must_use]
pub fn string(index: u8, product: &str, serial: &str) -> Option<Vec<u8>> {
    let text = match index {
        0 => return Some(vec![4, STRING, 0x09, 0x04]),
        1 => "roomtone",
        2 => product,
        3 => serial,
        _ => return None,
    };
    // A length of one byte bounds a string to 126 UTF-16 units (USB 2.0 section 9.6.7).
    let units: Vec<u8> = text.encode_utf16().take(126).flat_map(u16::to_le_bytes).collect();
    let mut string = vec![u8::try_from(units.len() + 2).expect("126 units are 252 bytes"), STRING];
    string.extend(units);
    Some(string)
}

/// Synchronisation types of an isochronous endpoint's attributes (USB 2.0 table 9-13).
const ASYNCHRONOUS: u8 = 0x05;
const ADAPTIVE: u8 = 0x09;

/// Interface 0: the terminals and units, section 4.3.
fn control_interface() -> Vec<u8> {
    const INPUT_TERMINAL: u8 = 2;
    const OUTPUT_TERMINAL: u8 = 3;
    const FEATURE_UNIT: u8 = 6;
    let units: [&[u8]; 6] = [
        // IT1: USB streaming (0x0101), left and right.
        &[12, CS_INTERFACE, INPUT_TERMINAL, 1, 0x01, 0x01, 0, RENDER_CHANNELS, 0x03, 0, 0, 0],
        // FU2 of IT1: master, left, right.
        &[10, CS_INTERFACE, FEATURE_UNIT, RENDER_UNIT, 1, 1, MUTE_AND_VOLUME, 0, 0, 0],
        // OT3: headset (0x0402).
        &[9, CS_INTERFACE, OUTPUT_TERMINAL, 3, 0x02, 0x04, 0, RENDER_UNIT, 0],
        // IT4: microphone (0x0201).
        &[12, CS_INTERFACE, INPUT_TERMINAL, 4, 0x01, 0x02, 0, CAPTURE_CHANNELS, 0, 0, 0, 0],
        // FU5 of IT4: master, the one channel.
        &[9, CS_INTERFACE, FEATURE_UNIT, CAPTURE_UNIT, 4, 1, MUTE_AND_VOLUME, 0, 0],
        // OT6: USB streaming.
        &[9, CS_INTERFACE, OUTPUT_TERMINAL, 6, 0x01, 0x01, 0, CAPTURE_UNIT, 0],
    ];
    let units = units.concat();
    let [low, high] = length_of(&units, 10);
    let mut interface = vec![9, INTERFACE, 0, 0, 1, CLASS_AUDIO, SUBCLASS_CONTROL, 0, 0];
    // Header: Audio 1.00, two streaming interfaces, 1 and 2.
    interface.extend([10, CS_INTERFACE, 1, 0x00, 0x01, low, high, 2, 1, 2]);
    interface.extend(units);
    // Status words of two bytes, asked for every 8 ms (section 4.4.2).
    interface.extend([9, ENDPOINT, STATUS_ENDPOINT | TO_HOST, 3, 2, 0, 8, 0, 0]);
    interface
}

/// A streaming interface: silent as setting 0, PCM of 16 bit as setting 1 (section 4.5).
fn streaming_interface(
    interface: u8,
    terminal: u8,
    channels: u8,
    address: u8,
    sync: u8,
) -> Vec<u8> {
    let mut all = Vec::new();
    all.extend([9, INTERFACE, interface, 0, 0, CLASS_AUDIO, SUBCLASS_STREAMING, 0, 0]);
    all.extend([9, INTERFACE, interface, 1, 1, CLASS_AUDIO, SUBCLASS_STREAMING, 0, 0]);
    // AS_GENERAL: delay of one frame, PCM.
    all.extend([7, CS_INTERFACE, 1, terminal, 1, 0x01, 0x00]);
    // FORMAT_TYPE I: two-byte subframes of 16 bits, two discrete rates of three bytes each.
    all.extend([14, CS_INTERFACE, 2, 1, channels, 2, 16, 2]);
    for rate in RATES_HZ {
        all.extend(&rate.to_le_bytes()[..3]);
    }
    let [low, high] = packet_bytes_max(channels).to_le_bytes();
    all.extend([9, ENDPOINT, address, sync, low, high, 1, 0, 0]);
    // The sampling frequency can be set (section 4.6.1.2).
    all.extend([7, CS_ENDPOINT, 1, 0x01, 0, 0, 0]);
    all
}

/// A packet of one millisecond at 48 kHz, and one frame more: an asynchronous source may run fast.
const fn packet_bytes_max(channels: u8) -> u16 {
    (48 + 1) * 2 * channels as u16
}

fn length_of(body: &[u8], header: usize) -> [u8; 2] {
    u16::try_from(body.len() + header).expect("these descriptors are some 200 bytes").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_is_this_byte_for_byte() {
        // 9 + (9 + 71 + 9) + (9 + 9 + 7 + 14 + 9 + 7) * 2 = 208 = 0xd0; the units and their header 10 + 61 = 71 = 0x47.
        #[rustfmt::skip]
        let expected: &[u8] = &[
            9, 2, 0xd0, 0, 3, 1, 0, 0x80, 50,
            9, 4, 0, 0, 1, 1, 1, 0, 0,
            10, 0x24, 1, 0, 1, 0x47, 0, 2, 1, 2,
            12, 0x24, 2, 1, 1, 1, 0, 2, 3, 0, 0, 0,
            10, 0x24, 6, 2, 1, 1, 3, 0, 0, 0,
            9, 0x24, 3, 3, 2, 4, 0, 2, 0,
            12, 0x24, 2, 4, 1, 2, 0, 1, 0, 0, 0, 0,
            9, 0x24, 6, 5, 4, 1, 3, 0, 0,
            9, 0x24, 3, 6, 1, 1, 0, 5, 0,
            9, 5, 0x83, 3, 2, 0, 8, 0, 0,
            9, 4, 1, 0, 0, 1, 2, 0, 0,
            9, 4, 1, 1, 1, 1, 2, 0, 0,
            7, 0x24, 1, 1, 1, 1, 0,
            14, 0x24, 2, 1, 2, 2, 16, 2, 0x80, 0x3e, 0, 0x80, 0xbb, 0,
            9, 5, 0x01, 0x09, 196, 0, 1, 0, 0,
            7, 0x25, 1, 1, 0, 0, 0,
            9, 4, 2, 0, 0, 1, 2, 0, 0,
            9, 4, 2, 1, 1, 1, 2, 0, 0,
            7, 0x24, 1, 6, 1, 1, 0,
            14, 0x24, 2, 1, 1, 2, 16, 2, 0x80, 0x3e, 0, 0x80, 0xbb, 0,
            9, 5, 0x82, 0x05, 98, 0, 1, 0, 0,
            7, 0x25, 1, 1, 0, 0, 0,
        ];
        assert_eq!(configuration(), expected);
    }

    #[test]
    fn each_descriptor_begins_with_its_length_and_they_fill_the_whole() {
        for whole in [device(), configuration(), string(2, "Sim", "1").unwrap()] {
            let mut rest = whole.as_slice();
            while let Some(&length) = rest.first() {
                assert!(length >= 2, "a descriptor has a length and a type");
                rest = &rest[usize::from(length)..];
            }
        }
    }

    #[test]
    fn strings_are_utf16_and_cut_at_what_a_length_byte_can_say() {
        assert_eq!(string(2, "Aé", ""), Some(vec![6, 3, 0x41, 0, 0xe9, 0]));
        assert_eq!(string(3, "", &"x".repeat(300)).unwrap().len(), 254);
        assert_eq!(string(4, "", ""), None);
    }
}
