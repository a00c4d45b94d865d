//! One measured figure, as `make bench` reports it.

use std::path::Path;

use serde::Serialize;

/// A figure with what it is measured against.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The promise, in the same unit; for a ratio figure the least ratio.
    pub(crate) target: Option<f64>,
    /// What it is compared with.
    pub(crate) peer: Option<&'static str>,
    /// Peer's cost over ours in the same run; above 1 we are cheaper.
    pub(crate) ratio: Option<f64>,
}

/// Prints the figures and writes them down.
pub(crate) fn write(file: &Path, figures: &[Figure]) {
    for figure in figures {
        let peer = match (figure.peer, figure.ratio) {
            (Some(peer), Some(ratio)) => format!("  ({ratio:.1} x {peer})"),
            _ => String::new(),
        };
        let target = figure.target.map_or(String::new(), |target| format!("  target {target}"));
        println!("{:<44} {:>12.2} {}{peer}{target}", figure.name, figure.value, figure.unit);
    }
    let text = serde_json::to_string_pretty(figures).expect("figures are plain values");
    std::fs::create_dir_all(file.parent().expect("a file lies in a folder"))
        .expect("target is writable");
    std::fs::write(file, text + "\n").expect("target is writable");
}
