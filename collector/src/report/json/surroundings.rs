//! The JSON of the networks that a call went through, and of its client events.

use roomtone_protocol::client_event::{ClientEventValue, ClientEvents};
use roomtone_protocol::network::NetworkAttachment;
use serde::Serialize;

use crate::report::{ratio, words};
use crate::text::rfc3339;

/// One interface of an endpoint; names as of Graph `networkInfo` where it has them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    at: Option<String>,
    interface: String,
    connection_type: &'static str,
    ip_address: String,
    subnet: String,
    vpn: bool,
    default_route: bool,
    mtu: Option<u32>,
    link_speed_mbps: Option<u32>,
    wifi: Option<Wifi>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wifi {
    ssid: String,
    basic_service_set_identifier: String,
    frequency_mhz: u16,
    wifi_channel: Option<u16>,
    signal_dbm: Option<i16>,
    wifi_radio_type: &'static str,
}

/// The client events of a call, or of one leg of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Events {
    leg: Option<u16>,
    rules: u16,
    adjusted: bool,
    events: Vec<Event>,
}

/// One event: a ratio with its parts, a count, or no value and why.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    event: &'static str,
    value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    whole_us: Option<u64>,
    because: Option<&'static str>,
}

impl Network {
    /// The JSON of an interface.
    #[must_use]
    pub fn new(it: &NetworkAttachment) -> Self {
        Self {
            at: rfc3339(it.at.wall_us),
            interface: it.interface.as_str().to_owned(),
            connection_type: words::connection(it.connection),
            ip_address: it.address.to_string(),
            subnet: words::subnet(it.address, it.prefix),
            vpn: it.is_vpn,
            default_route: it.is_default_route,
            mtu: it.mtu,
            link_speed_mbps: it.speed_mbps,
            wifi: it.wifi.as_ref().map(|wifi| Wifi {
                ssid: wifi.ssid.as_str().to_owned(),
                basic_service_set_identifier: wifi
                    .bssid
                    .map(|byte| format!("{byte:02x}"))
                    .join(":"),
                frequency_mhz: wifi.frequency_mhz,
                wifi_channel: words::channel(wifi.frequency_mhz),
                signal_dbm: wifi.signal_dbm,
                wifi_radio_type: words::radio(wifi.radio),
            }),
        }
    }
}

impl Events {
    pub(super) fn new(it: &ClientEvents) -> Self {
        // The highest bit says that the operator adjusted a rule.
        let is_adjusted = it.rules & 0x8000 != 0;
        let events = it.events.iter().map(|event| {
            let (ratio_parts, value, because) = match event.value {
                ClientEventValue::Ratio(told) => {
                    let parts = (told.part_us(), told.whole_us());
                    let value = ratio(parts.0, parts.1);
                    (Some(parts), value, value.is_none().then_some("nothingObserved"))
                }
                ClientEventValue::Count(count) => (None, Some(f64::from(count)), None),
                ClientEventValue::Unknown(because) => (None, None, Some(words::because(because))),
            };
            Event {
                event: words::event(event.kind),
                value,
                part_us: ratio_parts.map(|(part_us, _)| part_us),
                whole_us: ratio_parts.map(|(_, whole_us)| whole_us),
                because,
            }
        });
        Self {
            leg: it.leg.map(|leg| leg.0),
            rules: it.rules & 0x7fff,
            adjusted: is_adjusted,
            events: events.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use roomtone_protocol::client_event::{ClientEvent, ClientEventKind, UnknownBecause};
    use roomtone_protocol::id::CallId;
    use roomtone_protocol::ratio::Ratio;
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_event_is_null_with_its_reason_and_a_ratio_stands_beside_its_parts() {
        let event = |kind, value| ClientEvent { kind, value };
        let events = ClientEvents {
            call: CallId(1),
            leg: None,
            rules: 0x8002,
            events: [
                event(
                    ClientEventKind::DeviceClipping,
                    ClientEventValue::Unknown(UnknownBecause::LevelsNotRead),
                ),
                event(
                    ClientEventKind::DeviceGlitches,
                    ClientEventValue::Ratio(Ratio::new(1, 4).unwrap()),
                ),
                event(ClientEventKind::DeviceEcho, ClientEventValue::Ratio(Ratio::UNOBSERVED)),
            ]
            .into_iter()
            .collect(),
        };
        let expected = json!({
            "leg": null, "rules": 2, "adjusted": true,
            "events": [
                {"event": "deviceClipping", "value": null, "because": "levelsNotRead"},
                {"event": "deviceGlitches", "value": 0.25, "partUs": 1, "wholeUs": 4, "because": null},
                {"event": "deviceEcho", "value": null, "partUs": 0, "wholeUs": 0,
                 "because": "nothingObserved"},
            ],
        });
        assert_eq!(serde_json::to_value(Events::new(&events)).unwrap(), expected);
    }
}
