//! What must hold for any text that a collector sends, and for any file of what was kept: refused in one line that
//! names nothing of the machine, or used whole, with the machine's own file on top and nothing else touched.

use std::path::Path;

use roomtone_agent::config::Config;
use roomtone_agent::config::layers::{Local, Source, effective};
use roomtone_agent::configuration::Kept;
use roomtone_protocol::configuration::KEYS;
use roomtone_protocol::limits::CONFIGURATION_BYTES_MAX;

const OWN: &str = "\
[collector]
address = \"collector.example:4433\"
[audio]
stall = \"2s\"
[log]
level = \"warn\"
";

fn local() -> Local {
    Local::parse(OWN, Path::new("/etc/roomtone/agent.toml")).expect("a valid file")
}

fn check(local: &Local, text: &str) {
    let config = match local.with(text) {
        Ok(config) => config,
        Err(reason) => {
            assert!(!reason.is_empty() && !reason.contains(char::is_control), "{reason:?}");
            assert!(!reason.contains("agent.toml"), "{reason}");
            return;
        }
    };
    let own = local.config();
    assert_eq!(config.log, own.log);
    assert_eq!(config.audio.thresholds.stall, own.audio.thresholds.stall);
    let Config { collector, identity, context, .. } = &config;
    assert_eq!((collector, identity, context), (&own.collector, &own.identity, &own.context));
    assert_eq!(config.spool.directory, own.spool.directory);
    assert_eq!((&config.tap.interface, &config.tap.local), (&own.tap.interface, &own.tap.local));

    let normal = effective(&config);
    assert_eq!(local.with(&normal).as_ref(), Ok(&config), "{text:?} became {normal}");
    for setting in local.settings(Some(text)) {
        assert!(setting.source != Source::Collector || KEYS.contains(&setting.key));
    }
}

/// Input: a text of a collector, which is a file of what was kept too.
pub(crate) fn body(input: &[u8]) {
    let text: String = String::from_utf8_lossy(input)
        .chars()
        .scan(0, |length, c| {
            *length += c.len_utf8();
            (*length <= CONFIGURATION_BYTES_MAX).then_some(c)
        })
        .collect();
    check(&local(), &text);
    if let Ok(kept) = Kept::decode(input) {
        assert_eq!(Kept::decode(&kept.encode()), Ok(kept));
    }
}
