//! An endpoint that was enrolled by token at a collector with an authority of its own, on a host of its own.
//!
//! Time passes by certificates: the one on disk is replaced by one of other times for the same key, signed by the same
//! authority, whose key lies in the collector's folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use roomtone_hw_tests::netns::TwoHosts;
use roomtone_hw_tests::pair::Place;
use roomtone_hw_tests::process::{Running, output};
use serde_json::Value;

/// In a network namespace of its own nobody else has a port.
const ADDRESS: &str = "127.0.0.1:4433";
/// What the machine calls itself in this trial.
pub(crate) const HOST_NAME: &str = "boardroom-oslo-4711";
const NAMED: &str = "hostname boardroom-oslo-4711 && exec \"$0\" \"$@\"";
const GUARD: Duration = Duration::from_secs(90);

/// A collector and an endpoint of it.
pub(crate) struct Site {
    pub(crate) place: Place,
    pub(crate) folder: tempfile::TempDir,
    _hosts: TwoHosts,
}

impl Site {
    /// Makes both; `None` without the right to, which is said. The collector runs while the endpoint is enrolled.
    pub(crate) fn make(label: &str) -> Option<(Self, Running)> {
        let hosts = TwoHosts::make(label).unwrap()?;
        let folder = tempfile::tempdir().unwrap();
        let prefix: Vec<&str> = hosts.prefix(0).to_vec();
        let prefix = [&prefix[..], &["unshare", "--uts", "sh", "-c", NAMED]].concat();
        let place = Place::new(folder.path()).unwrap().behind(&prefix);
        let mut init = place.program("roomtone-collector");
        init.args(["init", "--address", ADDRESS, "--directory"]).arg(folder.path());
        output(&mut init, [""; 0]).unwrap();
        let config = format!(
            "[collector]\naddress = \"{ADDRESS}\"\n\n[identity]\n\
             certificate = \"identity/endpoint.pem\"\nkey = \"identity/endpoint.pem\"\nca = \"identity/ca.pem\"\n\n\
             [spool]\ndirectory = \"spool\"\n\n[media]\ncall_idle = \"5s\"\n\n[context]\nsocket = \"\"\n"
        );
        fs::write(folder.path().join("agent.toml"), config).unwrap();
        let site = Self { place, folder, _hosts: hosts };
        let (collector, _) = site.place.start_collector().unwrap();
        site.enroll(&[]);
        Some((site, collector))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file with certificate and key.
    pub(crate) fn identity(&self) -> String {
        fs::read_to_string(self.path("identity/endpoint.pem")).unwrap()
    }

    pub(crate) fn agent(&self, linked: bool) -> Running {
        self.place.start_agent(ADDRESS, linked).unwrap()
    }

    /// Makes a token and enrols with it; returns the token.
    pub(crate) fn enroll(&self, more: &[&str]) -> String {
        let token = self.place.ask(&["token", "create"]).unwrap();
        let token = token["token"].as_str().expect("a token's text").to_owned();
        let mut enroll = self.place.program("roomtone-agent");
        enroll.args(["enroll", "--token", &token, "--config"]).arg(self.path("agent.toml"));
        enroll.arg("--directory").arg(self.path("identity"));
        output(&mut enroll, more).unwrap();
        token
    }

    /// What the registry says of the endpoints that were enrolled, in the order of enrolment.
    pub(crate) fn enrolled(&self) -> Vec<Value> {
        let listed = self.place.ask(&["endpoint", "list"]).unwrap();
        let mut endpoints = listed["endpoints"].as_array().expect("a list").clone();
        endpoints.sort_by_key(|it| it["enrolled"].as_str().map(str::to_owned));
        endpoints
    }

    /// Runs a command of the collector that prints nothing of interest.
    pub(crate) fn collector_does(&self, arguments: &[&str]) {
        let mut command = self.place.program("roomtone-collector");
        command.args(arguments).arg("--config").arg(self.path("collector.toml"));
        output(&mut command, [""; 0]).unwrap();
    }

    /// Lets the certificate on disk begin and end so many seconds from now.
    pub(crate) fn age(&self, begins_s: i64, ends_s: i64) {
        let text = self.identity();
        let key_text = &text[text.find("-----BEGIN PRIVATE KEY").unwrap()..];
        let key = KeyPair::from_pem(key_text).unwrap();
        let read = |name| fs::read_to_string(self.path(name)).unwrap();
        let authority_key = KeyPair::from_pem(&read("certificates/ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&read("certificates/ca.pem"), authority_key).unwrap();
        let mut params = CertificateParams::default();
        let known = self.enrolled();
        let endpoint = known.last().unwrap()["endpoint"].as_str().unwrap();
        let urn = format!("urn:uuid:{endpoint}");
        params.subject_alt_names = vec![SanType::URI(urn.as_str().try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let now = std::time::SystemTime::now();
        let at = |seconds: i64| {
            let by = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { (now - by).into() } else { (now + by).into() }
        };
        (params.not_before, params.not_after) = (at(begins_s), at(ends_s));
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let partial = self.path("identity/aged");
        fs::write(&partial, certificate.pem() + key_text).unwrap();
        fs::rename(&partial, self.path("identity/endpoint.pem")).unwrap();
    }

    /// Places a call between two sockets of this host.
    pub(crate) fn call(&self, seconds: u32) -> Command {
        let mut command = self.place.program("roomtone-agent");
        command.args(["rehearse", "--seconds", &seconds.to_string()]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command
    }

    /// Waits until the account of an endpoint's records satisfies `done`.
    pub(crate) fn account(
        &self,
        endpoint: &str,
        what: &str,
        done: impl Fn(&Value) -> bool,
    ) -> Value {
        let started = Instant::now();
        loop {
            let listed = self.place.ask(&["endpoints"]).unwrap();
            let found = listed["endpoints"].as_array().unwrap().iter();
            let found = found.clone().find(|it| it["id"] == endpoint).cloned().unwrap_or_default();
            if done(&found) {
                return found;
            }
            assert!(started.elapsed() < GUARD, "{what} did not happen: {listed:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// How often the collector turned somebody away for this reason.
    pub(crate) fn refusals(&self, reason: &str) -> u64 {
        let status = self.place.ask(&["status"]).unwrap();
        status["refusals"][reason].as_u64().unwrap_or(0)
    }

    /// Nothing that was accepted is missing.
    pub(crate) fn nothing_is_missing(account: &Value) {
        for key in ["recordsMissing", "recordsReportedLost"] {
            assert_eq!(account[key], 0, "{key}: {account:#}");
        }
    }
}

/// Lines of a log that contain `text`.
pub(crate) fn lines(log: &Path, text: &str) -> Vec<String> {
    let log = fs::read_to_string(log).unwrap();
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}
