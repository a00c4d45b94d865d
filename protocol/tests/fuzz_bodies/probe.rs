//! Arbitrary bytes as a datagram of the path watch: what is read is written again in the bytes that it was read from.

use roomtone_protocol::probe::{DATAGRAM_BYTES_MAX, Datagram, ProbeError};

/// Takes the bytes as they are.
pub(crate) fn run(bytes: &[u8]) {
    match Datagram::decode(bytes) {
        Ok(datagram) => {
            let mut buffer = [0; DATAGRAM_BYTES_MAX];
            let length = datagram.encode(&mut buffer).expect("the largest datagram fits");
            // All but the flags, of which unknown ones are not kept.
            assert_eq!((buffer[0], &buffer[2..length]), (bytes[0], &bytes[2..length]));
            assert_eq!(buffer[1] & !bytes[1], 0, "a flag that nobody set");
            assert_eq!(Datagram::decode(&buffer[..length]), Ok(datagram));
        }
        Err(ProbeError::Kind { found }) => assert_eq!(found, bytes.first().copied()),
        Err(ProbeError::Short { found, needed, .. }) => {
            assert_eq!(found, bytes.len());
            assert!(found < needed && needed <= DATAGRAM_BYTES_MAX);
        }
    }
}
