//! Joining of two ends: behind NAT, with clocks that differ, with addresses that are used again.

use proptest::prelude::*;

use super::*;

const SECOND_US: u64 = 1_000_000;
const BEGIN_US: u64 = 1_000_000 * SECOND_US;

fn stream(ssrc: u8, direction: Direction, packets: u64) -> EndStream {
    EndStream { ssrc: [ssrc; 4], direction, media: Media::Audio, packets, announced: packets }
}

/// A leg of 60 s between two rooms; each behind NAT or not. A sent 3,000 packets of which 2,940 arrived, B 2,900 of
/// which all did.
fn pair(nat: (bool, bool), clocks_s: (i64, i64)) -> (LegEnd, LegEnd) {
    let public = ["198.51.100.1:50000", "203.0.113.9:50000"].map(|it| it.parse().unwrap());
    // The same private address on both sides, as homes have it.
    let private: SocketAddr = "192.168.1.7:50000".parse().unwrap();
    let end = |number: u8, is_behind: bool, clock_s: i64, streams: [EndStream; 2]| {
        let from_us = BEGIN_US.saturating_add_signed(clock_s * SECOND_US.cast_signed());
        let own: SocketAddr = public[usize::from(number)];
        LegEnd {
            endpoint: EndpointId([number; 16]),
            call: CallId(u64::from(number) + 100),
            leg: 0,
            local: if is_behind { private } else { own },
            remote: public[1 - usize::from(number)],
            reflexive: is_behind.then_some(own),
            from_us,
            until_us: from_us + 60 * SECOND_US,
            is_in_doubt: false,
            streams: streams.to_vec(),
        }
    };
    let out = |ssrc, packets| stream(ssrc, Direction::Egress, packets);
    let into = |ssrc, packets| stream(ssrc, Direction::Ingress, packets);
    (
        end(0, nat.0, clocks_s.0, [out(0xa, 3_000), into(0xb, 2_900)]),
        end(1, nat.1, clocks_s.1, [out(0xb, 2_900), into(0xa, 2_940)]),
    )
}

proptest! {
    #[test]
    fn ends_meet_through_nat_and_within_their_clocks(
        nat in any::<(bool, bool)>(),
        clocks_s in (-30i64..=30, -30i64..=30),
    ) {
        let (a, b) = pair(nat, clocks_s);
        let all = [a.clone(), b.clone()];
        prop_assert_eq!(a.far_end(&all), FarEnd::Found(&b));
        prop_assert_eq!(b.far_end(&all), FarEnd::Found(&a));
        let lost: Vec<_> = a.crossings(&b).map(|it| (it.direction, it.sent, it.lost())).collect();
        prop_assert_eq!(lost, [(Direction::Egress, 3_000, 60), (Direction::Ingress, 2_900, 0)]);
        // Both sides tell the same of each stream.
        let mut seen: Vec<_> = b.crossings(&a).map(|it| (it.ssrc, it.sent, it.arrived)).collect();
        seen.sort_unstable();
        prop_assert_eq!(seen, [([0xa; 4], 3_000, 2_940), ([0xb; 4], 2_900, 2_900)]);
    }

    /// 60 s of the leg and twice 30 s of the clocks: 121 s apart they cannot have met.
    #[test]
    fn what_is_too_far_apart_in_time_is_no_leg(apart_s in 121i64..10_000, nat in any::<(bool, bool)>()) {
        let (a, b) = pair(nat, (0, apart_s));
        prop_assert_eq!(a.far_end(std::slice::from_ref(&b)), FarEnd::None);
        prop_assert_eq!(b.far_end(std::slice::from_ref(&a)), FarEnd::None);
    }

    /// The same two addresses again within the clocks' uncertainty, with other streams.
    #[test]
    fn addresses_that_are_used_again_are_told_apart_by_ssrc(
        nat in any::<(bool, bool)>(),
        later_s in -30i64..=30,
    ) {
        let (a, b) = pair(nat, (0, 0));
        let (mut a2, mut b2) = pair(nat, (later_s, later_s));
        for (end, call) in [(&mut a2, 200), (&mut b2, 201)] {
            end.call = CallId(call);
            for stream in &mut end.streams {
                stream.ssrc[0] ^= 0xff;
            }
        }
        let all = [a.clone(), b.clone(), a2.clone(), b2.clone()];
        prop_assert_eq!(a.far_end(&all), FarEnd::Found(&b));
        prop_assert_eq!(b2.far_end(&all), FarEnd::Found(&a2));
    }

    #[test]
    fn other_addresses_are_other_legs(port in 1u16..=u16::MAX) {
        prop_assume!(port != 50_000);
        let (a, b) = pair((false, false), (0, 0));
        let is_far = |end: &LegEnd| a.mirrors(end);
        let moved = LegEnd { local: SocketAddr::new(b.local.ip(), port), ..b.clone() };
        let towards = LegEnd { remote: SocketAddr::new(b.remote.ip(), port), ..b.clone() };
        prop_assert_eq!([&moved, &towards, &b].map(is_far), [false, false, true]);
    }
}

#[test]
fn two_that_would_do_are_none() {
    let (a, b) = pair((true, false), (0, 0));
    let twin = LegEnd { endpoint: EndpointId([7; 16]), ..b.clone() };
    assert_eq!(a.far_end(&[b.clone(), twin]), FarEnd::Ambiguous);
    // The far end has two to choose from as well.
    let double = LegEnd { endpoint: EndpointId([8; 16]), ..a.clone() };
    assert_eq!(a.far_end(&[a.clone(), b.clone(), double]), FarEnd::Ambiguous);
    let own_other_call = LegEnd { call: CallId(9), ..b.clone() };
    assert_eq!(a.far_end(&[b, own_other_call]), FarEnd::Ambiguous);
}

#[test]
fn one_endpoint_is_never_its_own_far_end() {
    let (a, b) = pair((false, false), (0, 0));
    let same = LegEnd { endpoint: a.endpoint, ..b };
    assert_eq!(a.far_end(&[same]), FarEnd::None);
}

/// The sender's tap saw 2,990 of the 3,000 that its sequence numbers announce; the receiver's tap lost some too.
#[test]
fn taps_that_lost_packets_make_no_loss_of_the_network() {
    let (mut a, mut b) = pair((false, false), (0, 0));
    a.is_in_doubt = true;
    a.streams[0].packets = 2_990;
    b.is_in_doubt = true;
    let sent = a.crossings(&b).next().unwrap();
    assert_eq!((sent.sent, sent.lost(), sent.is_in_doubt), (3_000, 60, true));
}
