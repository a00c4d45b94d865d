//! How moments and audio durations are kept in a file, so that a restart in mid-fault neither loses nor doubles bad
//! time.
//!
//! Moments count from boot. A file from before the last boot speaks of another clock: its reader compares with the
//! present moment first.

/// A [`Moment`](crate::clock::Moment) as its nanoseconds since boot.
pub(super) mod nanos {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::clock::Moment;

    pub(in crate::audio) fn serialize<S: Serializer>(
        moment: &Moment,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        moment.as_nanos().serialize(serializer)
    }

    pub(in crate::audio) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Moment, D::Error> {
        u64::deserialize(deserializer).map(Moment::from_nanos)
    }
}

/// The same where there may be none.
pub(super) mod nanos_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::clock::Moment;

    pub(in crate::audio) fn serialize<S: Serializer>(
        moment: &Option<Moment>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        moment.map(Moment::as_nanos).serialize(serializer)
    }

    pub(in crate::audio) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Moment>, D::Error> {
        Option::<u64>::deserialize(deserializer).map(|nanos| nanos.map(Moment::from_nanos))
    }
}

/// A span of time as its nanoseconds.
pub(super) mod span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::audio) fn serialize<S: Serializer>(
        span: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).serialize(serializer)
    }

    pub(in crate::audio) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_nanos)
    }
}
