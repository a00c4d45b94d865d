//! What must hold for any frame, and for one without its link header: the head lies inside of it, and one byte less
//! never makes it longer.

use roomtone_agent::clock::Moment;
use roomtone_agent::tap::SkipReason;
use roomtone_agent::tap::link::{LinkType, dissect, network};

/// Input: link type, bytes that the capture cut (2, big-endian), frame.
pub(crate) fn body(input: &[u8]) {
    let [link, cut_high, cut_low, frame @ ..] = input else { return };
    const NUMBERS: [u32; 10] = [1, 113, 276, 12, 14, 101, 228, 229, 0, 108];
    let number = NUMBERS[usize::from(*link) % NUMBERS.len()];
    let link = LinkType::from_number(number).expect("each of these numbers is known");
    let cut = u32::from(u16::from_be_bytes([*cut_high, *cut_low]));
    let original = frame.len() as u32 + cut;

    for ether_type in [0x0800, 0x86dd, 0x8100, 0x88a8] {
        if let Ok(head) = network(ether_type, frame, original) {
            assert!(head.payload_start <= head.payload_end && head.payload_end <= frame.len());
        }
    }
    match dissect(link, frame, original) {
        Ok(head) => {
            assert!(head.payload_start <= head.payload_end && head.payload_end <= frame.len());
            let datagram = head.datagram(Moment::ORIGIN, frame);
            assert_eq!(datagram.payload, &frame[head.payload_start..head.payload_end]);
            assert!(datagram.payload.len() <= usize::from(datagram.wire_bytes));
            assert_eq!(datagram.source.is_ipv4(), datagram.destination.is_ipv4());
            // Exactly the head is enough; one byte less is not.
            let exact = dissect(link, &frame[..head.payload_start], original.max(65_536 + 200));
            assert_eq!(
                exact.map(|exact| (exact.source, exact.wire_bytes)),
                Ok((head.source, head.wire_bytes))
            );
            let short = dissect(link, &frame[..head.payload_start - 1], original);
            assert_eq!(short, Err(SkipReason::TruncatedHead));
        }
        Err(SkipReason::TruncatedHead) => assert!(cut > 0),
        Err(reason) => {
            assert!(SkipReason::ALL[..8].contains(&reason), "{reason:?} is a reason of files");
        }
    }
}
