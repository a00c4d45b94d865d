//! The config file from an operator's side: what is taken, what is refused, and in which words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use roomtone_agent::audio::constants::Thresholds;
use roomtone_agent::config::{Config, Level, REFERENCE, help, markdown};

const MINIMAL: &str = "\
[collector]
address = \"collector.example:4433\"
";

const PATH: &str = "/etc/roomtone/agent.toml";

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new(PATH)).map_err(|error| error.to_string())
}

/// The minimal config with further lines.
fn with(lines: &str) -> Result<Config, String> {
    parse(&format!("{MINIMAL}{lines}"))
}

#[test]
fn one_key_is_enough() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(
        (config.collector.host.as_str(), config.collector.port),
        ("collector.example", 4433)
    );
    assert_eq!(config.collector.server_name, "collector.example");
    // The certificate says who this is; it and its key are one file, as `enroll` writes them.
    let identity = PathBuf::from("/var/lib/roomtone/identity");
    assert_eq!(config.identity.endpoint, None);
    assert_eq!(config.identity.certificate, identity.join("endpoint.pem"));
    assert_eq!(config.identity.key, config.identity.certificate);
    assert_eq!(config.identity.ca, identity.join("ca.pem"));
    assert_eq!(config.spool.bytes_max, 100 * 1024 * 1024);
    assert_eq!(config.tap.block_timeout, Duration::from_millis(250));
    assert_eq!(config.media.call_idle, Duration::from_secs(15));
    assert_eq!(config.log.level, Level::Info);
}

#[test]
fn without_an_address_it_is_the_collector_that_enrolled_this_endpoint() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    let own = "[identity]\ncertificate = \"id/endpoint.pem\"\n";
    let parse = |text: &str| Config::parse(text, &file).map_err(|error| error.to_string());
    let error = parse(own).unwrap_err();
    assert!(error.contains("roomtone-agent enroll") && !error.contains('\n'), "{error}");

    std::fs::create_dir(folder.path().join("id")).unwrap();
    let enrolment = folder.path().join("id/collector.toml");
    std::fs::write(&enrolment, "address = \"[2001:db8::1]:443\"\nserver_name = \"rooms.test\"\n")
        .unwrap();
    let found = parse(own).unwrap().collector;
    assert_eq!(
        (found.target().as_str(), found.server_name.as_str()),
        ("[2001:db8::1]:443", "rooms.test")
    );
    // What the operator writes goes before it, each key for itself; another address has its own name.
    let found = parse(&format!("{own}[collector]\nserver_name = \"other.test\"\n")).unwrap();
    assert_eq!((found.collector.port, found.collector.server_name.as_str()), (443, "other.test"));
    let found = parse(&format!("{own}[collector]\naddress = \"elsewhere.test:1\"\n")).unwrap();
    assert_eq!(found.collector.server_name, "elsewhere.test");
    // A file that somebody edited is held against the same rules.
    std::fs::write(&enrolment, "address = \"nowhere\"\nserver_name = \"\"\n").unwrap();
    assert!(parse(own).unwrap_err().contains("collector.address = \"nowhere\" is not allowed"));
}

#[test]
fn defaults_written_out_are_the_defaults() {
    let mut text = String::new();
    let mut last = "";
    for option in REFERENCE {
        let (section, key) = option.key.split_once('.').unwrap();
        if section != last {
            text.push_str(&format!("[{section}]\n"));
        }
        last = section;
        // Empty, it is what enrolment said, and here is no enrolment.
        let is_address = option.key == "collector.address";
        let value = if is_address { "\"collector.example:4433\"" } else { option.default };
        text.push_str(&format!("{key} = {value}\n"));
    }
    assert_eq!(parse(&text), parse(MINIMAL));
}

#[test]
fn every_key_changes_something() {
    let given = "\
[collector]
address = \"[2001:db8::1]:443\"
server_name = \"collector.test\"
[identity]
endpoint = \"ffffffffffffffffffffffffffffffff\"
certificate = \"a.crt\"
key = \"a.key\"
ca = \"a.ca\"
[spool]
directory = \"s\"
bytes_max = \"1MiB\"
headroom = \"0\"
inodes_min = 0
[tap]
interface = \"eth0\"
snap_bytes = \"1KiB\"
ring_bytes = \"64MiB\"
block_timeout = \"1s\"
local = [\"192.0.2.1\", \"2001:db8::2\"]
[media]
call_idle = \"1m\"
[audio]
watch = false
levels = true
stall = \"2s\"
never_started = \"4s\"
suspended = \"5s\"
zero_signal = \"6s\"
constant_signal = \"7s\"
episode_healthy = \"20s\"
[path]
probe = false
reflector = \"[2001:db8::3]:862\"
[host]
watch = false
[context]
socket = \"room.sock\"
[health]
interval = \"30s\"
[log]
level = \"trace\"
";
    let keys = given.lines().filter(|line| line.contains('=')).count();
    assert_eq!(keys, REFERENCE.len(), "a key is missing in this test");
    let (config, minimal) = (parse(given).unwrap(), parse(MINIMAL).unwrap());
    assert_eq!(config.collector.target(), "[2001:db8::1]:443");
    assert_eq!(config.spool.directory, PathBuf::from("/etc/roomtone/s"));
    assert_eq!(config.tap.ring_bytes, 64 << 20);
    assert_eq!(config.media.call_idle, Duration::from_secs(60));
    let judged = &config.audio.thresholds;
    let secs = [judged.stall, judged.never_started, judged.suspended, judged.zero_signal];
    assert_eq!(secs.map(|it| it.as_secs()), [2, 4, 5, 6]);
    assert_eq!((judged.constant_signal.as_secs(), judged.episode_healthy.as_secs()), (7, 20));
    assert_eq!(
        minimal.audio.thresholds,
        Thresholds::default(),
        "the table tells the detector's own"
    );
    let Config { collector, identity, spool, tap, media, audio, path, host, context, health, log } =
        config;
    assert_ne!(collector, minimal.collector);
    assert_ne!(identity, minimal.identity);
    assert_ne!(spool, minimal.spool);
    assert_ne!(tap, minimal.tap);
    assert_ne!(media, minimal.media);
    assert_ne!(audio, minimal.audio);
    assert_ne!(path, minimal.path);
    assert_ne!(host, minimal.host);
    assert_ne!(context, minimal.context);
    assert_ne!(health, minimal.health);
    assert_ne!(log, minimal.log);
}

#[test]
fn relative_paths_count_from_the_file_and_absolute_ones_stay() {
    let identity = with("[identity]\ncertificate = \"endpoint.pem\"\nca = \"/srv/ca.crt\"\n")
        .unwrap()
        .identity;
    assert_eq!(identity.certificate, PathBuf::from("/etc/roomtone/endpoint.pem"));
    assert_eq!(identity.ca, PathBuf::from("/srv/ca.crt"));
}

#[test]
fn misspelt_keys_are_named_with_line_and_nearest_key() {
    let table = [
        ("[colector]\n", "unknown key \"colector\" at line 3; did you mean \"collector\"?"),
        (
            "[spool]\nbyte_max = \"1MiB\"\n",
            "unknown key \"spool.byte_max\" at line 4; did you mean \"spool.bytes_max\"?",
        ),
        (
            "[tap]\nblock_time_out = \"1s\"\n",
            "unknown key \"tap.block_time_out\" at line 4; did you mean \"tap.block_timeout\"?",
        ),
        ("[zzz]\n", "unknown key \"zzz\" at line 3; roomtone-agent run --help lists all keys"),
    ];
    for (lines, expected) in table {
        let error = with(lines).unwrap_err();
        assert_eq!(error, format!("config {PATH:?}: {expected}"));
    }
    let error = parse("spool = 3\n").unwrap_err();
    assert!(error.ends_with("spool is a section, write [spool] on a line of its own"), "{error}");
}

#[test]
fn bad_values_are_named_with_key_value_and_range() {
    let table = [
        ("[spool]\nbytes_max = \"1KiB\"", "spool.bytes_max = \"1KiB\"", "1MiB to 64GiB"),
        ("[spool]\nbytes_max = \"100MB\"", "spool.bytes_max = \"100MB\"", "1MiB to 64GiB"),
        ("[spool]\nbytes_max = 100", "spool.bytes_max = 100", "1MiB to 64GiB"),
        ("[spool]\ninodes_min = -1", "spool.inodes_min = -1", "0 to 1000000"),
        ("[spool]\ndirectory = \"\"", "spool.directory = \"\"", "a directory"),
        ("[tap]\nblock_timeout = \"1h\"", "tap.block_timeout = \"1h\"", "10ms to 1s"),
        ("[tap]\nblock_timeout = \"soon\"", "tap.block_timeout = \"soon\"", "10ms to 1s"),
        ("[tap]\nlocal = [\"192.0.2\"]", "tap.local = \"192.0.2\"", "up to 64 addresses"),
        ("[tap]\nlocal = [1]", "tap.local = ", "up to 64 addresses"),
        ("[tap]\ninterface = \"a/b\"", "tap.interface = \"a/b\"", "1 to 15 characters"),
        ("[log]\nlevel = \"loud\"", "log.level = \"loud\"", "off, error"),
        ("[log]\nlevel = [\n1,\n2]", "log.level = [\\n1,\\n2]", "off, error"),
    ];
    for (lines, value, range) in table {
        let error = with(lines).unwrap_err();
        let named = error.contains(value) && error.contains("is not allowed; give");
        assert!(named && error.contains(range), "{error}");
        assert!(!error.contains('\n'), "{error:?}");
    }
}

#[test]
fn broken_toml_is_one_line_with_its_number() {
    for text in ["[collector]\naddress = \n", "[collector]\n[collector]\n", "[collector\n"] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(&format!("config {PATH:?}, line ")), "{error}");
        assert!(!error.contains('\n'), "{error:?}");
    }
}

#[test]
fn long_foreign_text_does_not_flood_the_error() {
    let error = with(&format!("[log]\nlevel = \"{}\"\n", "x".repeat(10_000))).unwrap_err();
    assert!(error.len() < 300, "{error}");
    let error = with(&format!("{} = 1\n", "y".repeat(10_000))).unwrap_err();
    assert!(error.len() < 300, "{error}");
}

#[test]
fn unusable_files_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("huge"), "#".repeat(1024 * 1024 + 1)).unwrap();
    std::fs::write(path("binary"), b"# \xff\xfe").unwrap();
    std::fs::write(path("good"), MINIMAL).unwrap();
    assert!(Config::load(&path("good")).is_ok());
    let table = [
        ("absent", "cannot be read: No such file"),
        ("", "is a directory"),
        ("huge", "is larger than 1 MiB"),
        ("binary", "is not UTF-8 text (byte 2)"),
    ];
    for (name, expected) in table {
        let error = Config::load(&path(name)).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn help_and_readme_table_name_every_key() {
    let (help, markdown) = (help(), markdown());
    for option in REFERENCE {
        assert!(help.contains(option.key) && help.contains(option.range), "{}", option.key);
        assert!(markdown.contains(&format!("| `{}` |", option.key)), "{}", option.key);
    }
    // Head and rule, then one row per key.
    assert_eq!(markdown.lines().count(), REFERENCE.len() + 2);
}
