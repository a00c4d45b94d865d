//! Networks and client events of a call, for people.

use roomtone_protocol::client_event::{ClientEventValue, ClientEvents};
use roomtone_protocol::network::NetworkAttachment;

use super::{WIDE, compact, percent, plain, right, seconds, text};
use crate::report::words;

/// An interface in one line, unescaped.
pub(in crate::report) fn network(it: &NetworkAttachment) -> String {
    let subnet = words::subnet(it.address, it.prefix);
    let vpn = if it.is_vpn { ", VPN" } else { "" };
    format!(
        "{}, {}{vpn}, {} in {subnet}",
        it.interface,
        words::connection(it.connection),
        it.address
    )
}

/// Its Wi-Fi in one line, unescaped.
pub(in crate::report) fn wifi(it: &NetworkAttachment) -> Option<String> {
    let wifi = it.wifi.as_ref()?;
    let channel = words::channel(wifi.frequency_mhz).map(|it| format!(" (channel {it})"));
    let signal = wifi.signal_dbm.map(|dbm| format!(", {dbm} dBm"));
    Some(format!(
        "{} MHz{}{}, {}, {}",
        wifi.frequency_mhz,
        channel.unwrap_or_default(),
        signal.unwrap_or_default(),
        words::radio(wifi.radio),
        wifi.ssid,
    ))
}

/// All client events of a call.
pub(super) fn events(all: &[ClientEvents]) -> String {
    let mut table =
        plain(&["CLIENT EVENT", "LEG", "VALUE", "OBSERVED", "NOT KNOWN, BECAUSE"], WIDE);
    right(&mut table, &[1, 2, 3]);
    for events in all {
        let leg = events.leg.map_or("-".to_owned(), |leg| leg.0.to_string());
        for event in &events.events {
            let dash = || "-".to_owned();
            let [value, whole, because] = match event.value {
                ClientEventValue::Ratio(ratio) => {
                    let (part, whole) = (ratio.part_us(), ratio.whole_us());
                    let why = if whole == 0 { "nothingObserved" } else { "" };
                    [percent(part, whole), seconds(whole), why.to_owned()]
                }
                ClientEventValue::Count(count) => {
                    [compact(u64::from(count)), dash(), String::new()]
                }
                ClientEventValue::Unknown(why) => [dash(), dash(), words::because(why).to_owned()],
            };
            table.add_row([
                words::event(event.kind).to_owned(),
                leg.clone(),
                value,
                whole,
                because,
            ]);
        }
    }
    text(&table)
}
