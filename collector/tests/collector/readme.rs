//! The README's table of the config file is the collector's own reference; `ROOMTONE_GOLDEN=write` puts it there.

use std::fmt::Write as _;

use roomtone_collector::config::{Kind, REFERENCE};

fn table() -> String {
    let mut table =
        String::from("| key | unit | default | range | what |\n|---|---|---|---|---|\n");
    for option in REFERENCE {
        let (form, default, range) = match option.kind {
            Kind::Address(default) => (
                "address:port",
                format!("\"{default}\""),
                "an IP address (IPv6 in brackets) and a port".to_owned(),
            ),
            Kind::Path(default) => {
                ("path", format!("\"{default}\""), "from the config file's folder".to_owned())
            }
            Kind::StorePath(default) => {
                ("path", format!("\"{default}\""), "from store.directory".to_owned())
            }
            Kind::Number { default, min, max } => {
                ("count", default.to_string(), format!("{min} to {max}"))
            }
            Kind::Bytes { default, min, max } => {
                ("bytes", format!("\"{default}\""), format!("{min} to {max}"))
            }
            Kind::Word { default, words } => ("word", format!("\"{default}\""), words.join(", ")),
            Kind::OptionalPath => (
                "path",
                "\"\"".to_owned(),
                "from the config file's folder; empty for none".to_owned(),
            ),
            Kind::OptionalAddress => (
                "address:port",
                "\"\"".to_owned(),
                "an IP address and a port; empty for none".to_owned(),
            ),
            Kind::OptionalReach => ("host:port", "\"\"".to_owned(), "empty for none".to_owned()),
            Kind::Rules(default) => (
                "rule set",
                format!("\"{default}\""),
                "an id, or a file from the config file's folder".to_owned(),
            ),
            Kind::Flag(default) => ("boolean", default.to_string(), "true or false".to_owned()),
        };
        let unit = if option.unit.is_empty() { form } else { option.unit };
        let _ = writeln!(
            table,
            "| `{}` | {unit} | `{default}` | {range} | {} |",
            option.key, option.help
        );
    }
    table
}

#[test]
fn readme_tells_of_every_key() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(file).unwrap();
    let (begin, end) = ("<!-- collector keys -->\n", "<!-- end of collector keys -->");
    let (head, rest) = readme.split_once(begin).expect("the README has the first marker");
    let (found, tail) = rest.split_once(end).expect("the README has the second marker");
    if std::env::var_os("ROOMTONE_GOLDEN").is_some_and(|value| value == "write") {
        return std::fs::write(file, [head, begin, &table(), end, tail].concat()).unwrap();
    }
    assert_eq!(found, table(), "write the table anew with ROOMTONE_GOLDEN=write");
}
