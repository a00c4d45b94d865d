//! Takes the relay's wrapping off a datagram (RFC 8656 section 12.4, ChannelData).

use super::stun;

/// Takes one layer of TURN off a datagram: ChannelData, or the DATA of a Send or Data message.
///
/// Returns what was captured of the inner datagram and its length on the wire; `None` where there is none inside.
#[must_use]
pub fn unwrap_channel_data(bytes: &[u8], wire_bytes: u16) -> Option<(&[u8], u16)> {
    let (head, inner) = bytes.split_first_chunk::<4>()?;
    let length = u16::from_be_bytes([head[2], head[3]]);
    // Over UDP padding is optional: up to three bytes may follow.
    let room = wire_bytes.checked_sub(4)?;
    if length > room || room - length > 3 {
        return None;
    }
    Some((&inner[..usize::from(length).min(inner.len())], length))
}

/// As [`unwrap_channel_data`], for STUN-framed relaying; the DATA attribute must fit into the datagram.
#[must_use]
pub fn unwrap_message(bytes: &[u8], wire_bytes: u16) -> Option<(&[u8], u16)> {
    stun::relayed(bytes).filter(|(_, inner)| *inner < wire_bytes)
}

#[cfg(test)]
mod tests {
    use super::unwrap_channel_data;

    #[test]
    fn channel_data_length_must_fit_the_datagram() {
        let bytes = [0x40, 0x01, 0x00, 0x05, 1, 2, 3, 4, 5, 0, 0, 0];
        assert_eq!(unwrap_channel_data(&bytes, 12), Some((&bytes[4..9], 5)));
        assert_eq!(unwrap_channel_data(&bytes, 9), Some((&bytes[4..9], 5)));
        assert_eq!(unwrap_channel_data(&bytes, 8), None, "longer than the datagram");
        assert_eq!(unwrap_channel_data(&bytes, 13), None, "more than padding behind it");
        assert_eq!(unwrap_channel_data(&bytes[..6], 9), Some((&bytes[4..6], 5)), "cut by the tap");
        assert_eq!(unwrap_channel_data(&bytes[..3], 3), None);
    }
}
