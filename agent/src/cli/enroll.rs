//! `roomtone-agent enroll`: a token in, an identity on disk, and a config that names the collector.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::clock::system;
use crate::config::{Config, ConfigError};
use crate::enroll::{self, Enrolled, Existing};
use crate::identity::certificate::Age;
use crate::identity::folder::{DIRECTORY, Folder};
use crate::identity::issuer::Issuer;
use crate::show::rfc3339;

/// What `enroll` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The token that the collector's `token create` printed; `-` reads it from stdin. Without it the variable
    /// ROOMTONE_TOKEN is read: neither of these two shows the token in the list of processes
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// The config file that `run` will be given; written where there is none
    #[arg(long, value_name = "FILE", default_value = "/etc/roomtone/agent.toml")]
    config: PathBuf,
    /// Where the certificate, its key and the authority are kept
    #[arg(long, value_name = "DIR", default_value = DIRECTORY)]
    directory: PathBuf,
    /// Replace the identity that is there
    #[arg(long)]
    force: bool,
}

/// The variable that holds the token where no option does.
const TOKEN_VARIABLE: &str = "ROOMTONE_TOKEN";
/// A token has 537 characters at most; a file with more around it is another file.
const STDIN_BYTES_MAX: u64 = 4096;

/// Enrols and says what there is now, and what is left to do.
pub(super) fn run(options: &Options) -> anyhow::Result<()> {
    let text = token(options)?;
    let folder = Folder::new(std::path::absolute(&options.directory)?);
    let existing = if options.force { Existing::Replace } else { Existing::Keep };
    let (now, wall) = system::now_and_wall();
    let enrolled = enroll::enroll(&text, &folder, existing, wall.stamp(now).wall_us)
        .context("cannot enrol")?;
    let wanted = Wanted::new(&enrolled, &folder);
    let mut out = std::io::stdout().lock();
    writeln!(out, "enrolled as {} until {}", enrolled.endpoint, rfc3339(enrolled.not_after_us))?;
    writeln!(out, "identity in {}", folder.path().display())?;
    match enrolled.age {
        Age::Valid => {}
        Age::NotYetValid | Age::Expired => writeln!(
            out,
            "this machine's clock is wrong by more than a day: set it, or no collector will take the certificate"
        )?,
    }
    writeln!(out, "{}", wanted.settle(&options.config, &enrolled))?;
    Ok(())
}

fn token(options: &Options) -> anyhow::Result<String> {
    match options.token.as_deref() {
        Some("-") => {
            let mut text = String::new();
            std::io::stdin()
                .take(STDIN_BYTES_MAX)
                .read_to_string(&mut text)
                .context("cannot read the token from stdin")?;
            Ok(text)
        }
        Some(text) => Ok(text.to_owned()),
        None => std::env::var(TOKEN_VARIABLE).map_err(|_| super::NoToken.into()),
    }
}

/// What the config must say, and must not, for `run` to work with the new identity.
struct Wanted {
    target: String,
    server_name: String,
    folder: Folder,
    text: String,
}

impl Wanted {
    fn new(enrolled: &Enrolled, folder: &Folder) -> Self {
        let Issuer { address, server_name } = enrolled.issuer.clone();
        let mut text = String::new();
        if folder.path() != Path::new(DIRECTORY) {
            let file = |path: PathBuf| quoted(&path.display().to_string());
            let (own, authority) = (file(folder.endpoint_file()), file(folder.authority_file()));
            text = format!("[identity]\ncertificate = {own}\nkey = {own}\nca = {authority}\n");
        }
        Self { target: address, server_name, folder: folder.clone(), text }
    }

    /// Writes the config where there is none, and says what is left to do.
    fn settle(&self, path: &Path, enrolled: &Enrolled) -> String {
        let shown = path.display();
        let run = format!("`roomtone-agent run --config {shown}`");
        match Config::load(path) {
            Ok(config) if self.suits(&config, enrolled) => {
                format!(
                    "{shown} fits; the service starts now, or takes it up within a minute; without one: {run}"
                )
            }
            Err(ConfigError::Unreadable { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                match self.write(path) {
                    Ok(()) => {
                        format!(
                            "{shown} written; the service starts now, or takes it up within a minute; without one: {run}"
                        )
                    }
                    Err(error) => format!(
                        "{shown} cannot be written ({error}); put this there:\n\n{HEAD}{}",
                        self.text
                    ),
                }
            }
            Ok(_) | Err(_) => format!(
                "{shown} is there and says something else; take collector.address, collector.server_name and \
                 identity.endpoint out of it{}, and restart the agent{}{}",
                if self.text.is_empty() { "" } else { ", make it say this" },
                if self.text.is_empty() { "" } else { ":\n\n" },
                self.text
            ),
        }
    }

    fn suits(&self, config: &Config, enrolled: &Enrolled) -> bool {
        let own = self.folder.endpoint_file();
        config.collector.target() == self.target
            && config.collector.server_name == self.server_name
            && config.identity.certificate == own
            && config.identity.key == own
            && config.identity.ca == self.folder.authority_file()
            && config.identity.endpoint.is_none_or(|endpoint| endpoint == enrolled.endpoint)
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::options().write(true).create_new(true).open(path)?;
        file.write_all(format!("{HEAD}{}", self.text).as_bytes())?;
        file.sync_all()
    }
}

/// What stands at the top of a config that was written here.
const HEAD: &str =
    "# Written by `roomtone-agent enroll`; `roomtone-agent run --help` lists all keys.\n";

/// A basic string of TOML. Hosts hold no quotes; a folder's name may.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
