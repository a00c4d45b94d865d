//! Makes what a new collector needs: an authority, a server's certificate and a config file.
//!
//! ```text
//! collector.toml                                            beside the rest, or where the packages have it
//! certificates/ca.pem, certificates/ca.key                  the authority; whoever has ca.key can pose as anybody
//! certificates/collector.pem, certificates/collector.key    the server; renewed by `serve`
//! ```
//! Nothing is overwritten: where one of the files is there, none is made. Keys have mode 0600, and the authority's is
//! read by `serve` and `token create` only. The server's certificate is made last: its arrival starts the service.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::authority::{Authority, AuthorityError};
use super::reach::Reach;
use crate::private_file;

/// The config file's name.
pub const CONFIG: &str = "collector.toml";
/// The config file where the packages have it.
pub const SYSTEM_CONFIG: &str = "/etc/roomtone/collector.toml";
/// Where the packages have everything else.
const SYSTEM_STATE: &str = "/var/lib/roomtone-collector";
/// The folder of certificates, as the config's defaults have it.
const CERTIFICATES: &str = "certificates";

/// Why nothing was made, or not all.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A collector is here already.
    #[error("{} is there already: nothing was changed, choose another directory", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be written.
    #[error("cannot make {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// Where a collector's files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The config file.
    pub config: PathBuf,
    /// The folder of certificates and store.
    pub state: PathBuf,
}

impl Layout {
    /// As the packages and their unit have it.
    #[must_use]
    pub fn system() -> Self {
        Self { config: SYSTEM_CONFIG.into(), state: SYSTEM_STATE.into() }
    }

    /// All in one folder.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { config: folder.join(CONFIG), state: folder.to_owned() }
    }

    /// A path of the state as the config is to say it, whose relative paths count from its own folder.
    fn say(&self, path: &str) -> String {
        if self.config.parent() == Some(&self.state) {
            return path.to_owned();
        }
        self.state.join(path).display().to_string()
    }
}

/// What a collector is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where agents reach it.
    pub reach: Reach,
    /// Further names and addresses of it.
    pub names: Vec<String>,
    /// Where the store goes, from the folder of the state.
    pub store: String,
}

/// Makes a collector's files; returns them in the order in which they were made.
///
/// # Errors
/// [`InitError`]; after `Exists` nothing was made.
pub fn init(layout: &Layout, plan: &Plan, now_us: u64) -> Result<Vec<PathBuf>, InitError> {
    let folder = layout.state.join(CERTIFICATES);
    let [ca, ca_key, server, server_key, config] = [
        folder.join("ca.pem"),
        folder.join("ca.key"),
        folder.join("collector.pem"),
        folder.join("collector.key"),
        layout.config.clone(),
    ];
    for path in [&ca, &ca_key, &server, &server_key, &config] {
        if path.symlink_metadata().is_ok() {
            return Err(InitError::Exists { path: path.clone() });
        }
    }
    for path in [layout.config.parent().unwrap_or(Path::new("")), &layout.state, &folder] {
        make_folder(path).map_err(|source| InitError::File { path: path.to_owned(), source })?;
    }
    let mut names = vec![plan.reach.host.clone()];
    names.extend(plan.names.iter().filter(|name| **name != plan.reach.host).cloned());
    let (authority, pair) = Authority::generate(&format!("roomtone {}", plan.reach.host), now_us)?;
    let shown = authority.issue_server(None, &names, now_us)?;
    let mut made = Vec::new();
    for (path, text, mode) in [
        (ca_key, &pair.key, 0o600),
        (ca, &pair.certificate, 0o644),
        (server_key, &shown.key, 0o600),
        (config, &config_text(layout, plan), 0o644),
        (server, &shown.certificate, 0o644),
    ] {
        private_file::write(&path, text, mode)
            .map_err(|source| InitError::File { path: path.clone(), source })?;
        made.push(path);
    }
    Ok(made)
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Ok(()) => private_file::give_to_folder_owner(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
            fs::DirBuilder::new().mode(0o755).create(path)
        }
        Err(error) => Err(error),
    }
}

fn config_text(layout: &Layout, plan: &Plan) -> String {
    let reach = &plan.reach;
    let say = |path: &str| toml::Value::from(layout.say(path));
    format!(
        r#"# roomtone-collector. Every key with its default and range: roomtone-collector serve --help

[listen]
# UDP. Agents come here; let it through the firewall.
address = "[::]:{port}"

[tls]
# Made by `init`, for the names given to it. `serve` renews the certificate before it ends.
certificate = {certificate}
key = {key}
client_ca = {authority}

[identity]
# Where agents reach this collector: goes into tokens.
address = "{reach}"
# The authority's key. Whoever has it can pose as any endpoint; keep a copy offline.
authority_key = {authority_key}
# Only endpoints that were enrolled here are heard.
required = true

[store]
# What is measured, one file a day, and the registry of tokens and endpoints.
directory = {store}
retention_days = 30
"#,
        port = reach.port,
        certificate = say("certificates/collector.pem"),
        key = say("certificates/collector.key"),
        authority = say("certificates/ca.pem"),
        authority_key = say("certificates/ca.key"),
        store = say(&plan.store),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Config;
    use crate::identity::standing::Required;

    /// 2026-11-22T15:00:00Z.
    const NOW_US: u64 = 1_795_359_600_000_000;

    fn plan() -> Plan {
        Plan {
            reach: "rooms.example.test:4433".parse().unwrap(),
            names: vec!["192.0.2.7".to_owned()],
            store: "store".to_owned(),
        }
    }

    #[test]
    fn made_files_fit_together_and_keys_are_closed_to_others() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("a/collector");
        let made = init(&Layout::in_folder(&directory), &plan(), NOW_US).unwrap();
        for path in &made {
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            let is_key = path.extension().is_some_and(|it| it == "key");
            assert_eq!(mode, if is_key { 0o600 } else { 0o644 }, "{}", path.display());
        }
        let config = Config::load(&directory.join(CONFIG)).unwrap();
        assert_eq!(config.required, Required::Yes);
        assert_eq!(config.reach, Some(plan().reach));
        let key = config.authority_key.unwrap();
        Authority::load(&config.client_ca, &key).unwrap();
    }

    #[test]
    fn config_apart_from_its_state_finds_it_and_the_certificate_comes_last() {
        let top = tempfile::tempdir().unwrap();
        let layout =
            Layout { config: top.path().join("etc/c.toml"), state: top.path().join("a \"state\"") };
        let made = init(&layout, &plan(), NOW_US).unwrap();
        assert_eq!(made.last(), Some(&layout.state.join("certificates/collector.pem")));
        let config = Config::load(&layout.config).unwrap();
        assert_eq!(config.certificate, layout.state.join("certificates/collector.pem"));
        assert_eq!(config.store, layout.state.join("store"));
        Authority::load(&config.client_ca, &config.authority_key.unwrap()).unwrap();
    }

    #[test]
    fn nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::in_folder(directory.path());
        let made = init(&layout, &plan(), NOW_US).unwrap();
        let before: Vec<_> = made.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(matches!(init(&layout, &plan(), NOW_US), Err(InitError::Exists { .. })));
        let after: Vec<_> = made.iter().map(|path| fs::read(path).unwrap()).collect();
        assert_eq!(before, after);
        fs::remove_file(directory.path().join(CONFIG)).unwrap();
        assert!(matches!(init(&layout, &plan(), NOW_US), Err(InitError::Exists { .. })));
        assert!(!directory.path().join(CONFIG).exists());
    }
}
