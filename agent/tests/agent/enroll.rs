//! `roomtone-agent enroll` over real QUIC on loopback, against a collector of this test's own and things that are none.

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use roomtone_agent::config::Config;
use roomtone_agent::enroll::{EnrollError, Existing, enroll, quic};
use roomtone_agent::identity::digest::sha256;
use roomtone_agent::identity::folder::{Folder, Found};
use roomtone_protocol::enroll::{
    AuthorityFingerprint, Der, EnrollRefusal, EnrollReply, EnrollRequest, TokenId, TokenSecret,
};
use roomtone_protocol::frame::{decode, encode_link};
use roomtone_protocol::id::EndpointId;
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;
use roomtone_protocol::token::Token;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::sync::oneshot;

const ENDPOINT: EndpointId = EndpointId([0x5a; 16]);
/// 2026-11-22 as microseconds since 1970: day 20,779.
const NOW_US: u64 = 20_779 * 86_400 * 1_000_000;

#[test]
fn token_becomes_an_identity_and_a_config_that_run_takes() {
    let collector = Double::start(Manner::Enrols);
    let bench = Bench::new();
    let done = bench.enroll(&["--token", &collector.token()]);
    let said = bench.said(&done);
    assert!(done.status.success(), "{said}");
    assert!(said.contains(&format!("enrolled as {ENDPOINT}")), "{said}");
    let Found::Identity(identity) = bench.folder().find() else { panic!("{said}") };
    assert_eq!(identity.endpoint, ENDPOINT);
    let config = Config::load(&bench.config()).unwrap();
    assert_eq!(config.collector.target(), collector.target());
    assert_eq!(config.collector.server_name, "collector.test");
    assert_eq!((config.identity.endpoint, config.identity.key), (None, bench.key_file()));
    let asked = collector.asked.lock().unwrap();
    assert_eq!((asked.len(), asked[0].secret == TokenSecret([0xa5; 32])), (1, true));
    assert!(!asked[0].host_name.is_empty());
}

#[test]
fn token_comes_from_stdin_or_the_environment_too() {
    let collector = Double::start(Manner::Enrols);
    let bench = Bench::new();
    let mut child = bench
        .command(&["--token", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!("  {}\n", collector.token());
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());

    let bench = Bench::new();
    let done = bench.command(&[]).env("ROOMTONE_TOKEN", collector.token()).output().unwrap();
    assert!(done.status.success(), "{}", bench.said(&done));

    let bench = Bench::new();
    let done = bench.enroll(&[]);
    assert_eq!(done.status.code(), Some(2));
    assert!(bench.said(&done).contains("no token given"));
}

#[test]
fn identity_that_is_there_stays_without_force_and_the_token_is_not_spent() {
    let collector = Double::start(Manner::Enrols);
    let bench = Bench::new();
    assert!(bench.enroll(&["--token", &collector.token()]).status.success());
    let before = fs::read(bench.key_file()).unwrap();
    let again = bench.enroll(&["--token", &collector.token()]);
    let said = bench.said(&again);
    assert_eq!(again.status.code(), Some(1));
    assert!(said.contains("enrolled already") && said.contains("--force"), "{said}");
    assert_eq!(fs::read(bench.key_file()).unwrap(), before);
    assert_eq!(collector.asked.lock().unwrap().len(), 1);

    let forced = bench.enroll(&["--token", &collector.token(), "--force"]);
    let said = bench.said(&forced);
    assert!(forced.status.success() && said.contains("fits"), "{said}");
    assert_ne!(fs::read(bench.key_file()).unwrap(), before, "a key is never used twice");
}

#[test]
fn torn_identity_is_told_and_force_mends_it() {
    let collector = Double::start(Manner::Enrols);
    let bench = Bench::new();
    fs::create_dir_all(bench.folder().path()).unwrap();
    fs::write(bench.key_file(), "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
    let said = bench.said(&bench.enroll(&["--token", &collector.token()]));
    assert!(said.contains("of no use") && said.contains("--force"), "{said}");
    assert!(bench.enroll(&["--token", &collector.token(), "--force"]).status.success());
}

#[test]
fn config_that_says_something_else_is_kept_and_the_lines_are_shown() {
    let collector = Double::start(Manner::Enrols);
    let bench = Bench::new();
    let own = "[collector]\naddress = \"elsewhere.test:1\"\n";
    fs::write(bench.config(), own).unwrap();
    let done = bench.enroll(&["--token", &collector.token()]);
    let said = bench.said(&done);
    assert!(done.status.success() && said.contains("take collector.address"), "{said}");
    assert_eq!(fs::read_to_string(bench.config()).unwrap(), own);

    fs::write(bench.config(), "[log]\nlevel = \"warn\"\n").unwrap();
    let said = bench.said(&bench.enroll(&["--token", &collector.token(), "--force"]));
    assert!(said.contains("make it say this") && said.contains("[identity]"), "{said}");
}

#[test]
fn mistyped_token_is_told_before_anything_is_sent_or_made() {
    let collector = Double::start(Manner::Enrols);
    let bench = Bench::new();
    let mut token = collector.token();
    token.replace_range(40..41, if &token[40..41] == "a" { "b" } else { "a" });
    let done = bench.enroll(&["--token", &token]);
    let said = bench.said(&done);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains("wrong character, copy it again"), "{said}");
    assert!(collector.asked.lock().unwrap().is_empty() && !bench.folder().path().exists());
}

#[test]
fn each_refusal_has_its_own_advice_and_leaves_nothing() {
    let table = [
        (EnrollRefusal::UnknownToken, "knows no such token"),
        (EnrollRefusal::ExpiredToken, "time is over"),
        (EnrollRefusal::UsedToken, "used as often as it may be"),
        (EnrollRefusal::RevokedToken, "was revoked"),
        (EnrollRefusal::BadRequest, "does not understand"),
        (EnrollRefusal::Busy, "try again in a minute"),
        (EnrollRefusal::OtherCollector, "made by another collector"),
        (EnrollRefusal::NotEnrolling, "enrols nobody"),
    ];
    for (refusal, expected) in table {
        let collector = Double::start(Manner::Refuses(refusal));
        expect(&collector.token(), expected);
    }
}

#[test]
fn other_authority_gets_no_token() {
    let (collector, other) = (Double::start(Manner::Enrols), Double::start(Manner::Enrols));
    let token = token(other.fingerprint, collector.port);
    expect(&token, "is not the collector that made this token");
    assert!(collector.asked.lock().unwrap().is_empty());
}

#[test]
fn authority_that_is_shown_but_did_not_issue_the_certificate_is_refused() {
    // Whoever knows the authority's certificate, which is public, can show it.
    let collector = Double::start(Manner::Impostor);
    expect(&collector.token(), "is not acceptable");
    assert!(collector.asked.lock().unwrap().is_empty());
}

#[test]
fn wrong_clock_is_told_with_both_times() {
    for (manner, expected) in [
        (Manner::ValidFrom(2090, 2100), "is good from 2090-01-01T00:00:00"),
        (Manner::ValidFrom(1990, 2000), "is good until 2000-01-01T00:00:00"),
    ] {
        let collector = Double::start(manner);
        let said = expect(&collector.token(), expected);
        assert!(said.contains("this machine's clock says 20"), "{said}");
    }
}

#[test]
fn certificate_for_other_names_and_other_services_are_told() {
    let collector = Double::start(Manner::OtherName);
    expect(&collector.token(), "is for other names than \"127.0.0.1\"");
    let collector = Double::start(Manner::OtherProtocol);
    expect(&collector.token(), "does not speak roomtone-enroll/1");
    let collector = Double::start(Manner::Garbage);
    expect(&collector.token(), "answered with something else");
    let collector = Double::start(Manner::Leaves);
    expect(&collector.token(), "without an answer");
    let collector = Double::start(Manner::OtherKey);
    expect(&collector.token(), "for another key");
}

#[test]
fn silence_a_closed_port_and_an_unknown_host_are_told_apart() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let fingerprint = AuthorityFingerprint([0; 32]);
    let ask = |host: &str, port| {
        let token = Token::new(fingerprint, TokenId([1; 8]), TokenSecret([0xa5; 32]), host, port);
        let request = EnrollRequest {
            token: TokenId([1; 8]),
            secret: TokenSecret([0xa5; 32]),
            authority: fingerprint,
            csr: Der::new(),
            host_name: heapless::String::new(),
            agent_version: heapless::String::new(),
        };
        quic::ask(&token.unwrap(), request, Duration::from_millis(200)).unwrap_err().to_string()
    };
    let said = ask("127.0.0.1", silent.local_addr().unwrap().port());
    assert!(said.contains("no answer from 127.0.0.1:"), "{said}");
    // An address of its own, so that no other test takes the port between.
    let closed = UdpSocket::bind("127.77.0.2:0").unwrap().local_addr().unwrap();
    let said = ask("127.77.0.2", closed.port());
    assert!(said.contains("nothing listens on UDP port"), "{said}");
    let said = ask("no-such-host.invalid", 4433);
    assert!(said.contains("cannot be resolved"), "{said}");
}

/// Enrols against a token's collector, expects one line with these words, and that nothing was kept.
fn expect(token: &str, words: &str) -> String {
    let top = tempfile::tempdir().unwrap();
    let folder = Folder::new(top.path().join("identity"));
    let error = enroll(token, &folder, Existing::Keep, NOW_US).unwrap_err();
    let said = error.to_string();
    assert!(said.contains(words) && !said.contains('\n') && !said.ends_with('.'), "{said}");
    assert!(!said.contains(token), "{said}");
    assert!(!matches!(error, EnrollError::Folder { .. }));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{said}");
    said
}

fn token(authority: AuthorityFingerprint, port: u16) -> String {
    let secret = TokenSecret([0xa5; 32]);
    let token = Token::new(authority, TokenId([1; 8]), secret, "127.0.0.1", port).unwrap();
    token.to_text().as_str().to_owned()
}

/// A machine to be enrolled.
struct Bench {
    top: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { top: tempfile::tempdir().unwrap() }
    }

    fn folder(&self) -> Folder {
        Folder::new(self.top.path().join("identity"))
    }

    fn key_file(&self) -> PathBuf {
        self.folder().endpoint_file()
    }

    fn config(&self) -> PathBuf {
        self.top.path().join("agent.toml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roomtone-agent"));
        command.arg("enroll").arg("--config").arg(self.config());
        command.arg("--directory").arg(self.folder().path()).args(arguments);
        command.env_remove("ROOMTONE_TOKEN").env("ROOMTONE_LOG", "trace");
        command
    }

    fn enroll(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// All that was said, which holds neither token nor key; errors are one line.
    fn said(&self, output: &Output) -> String {
        let text = [&output.stdout[..], &output.stderr[..]].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(output.stderr.iter().filter(|byte| **byte == b'\n').count() <= 1, "{text}");
        assert!(!text.contains("rt1-") && !text.contains("PRIVATE"), "{text}");
        for line in fs::read_to_string(self.key_file()).unwrap_or_default().lines() {
            assert!(line.starts_with("-----") || !text.contains(line), "{text}");
        }
        text
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Enrols,
    Refuses(EnrollRefusal),
    /// A certificate for another key than was asked for.
    OtherKey,
    /// Shows the authority beside a certificate that it did not issue.
    Impostor,
    ValidFrom(i32, i32),
    OtherName,
    OtherProtocol,
    Garbage,
    /// Closes without an answer.
    Leaves,
}

/// A collector in a thread of its own.
struct Double {
    port: u16,
    fingerprint: AuthorityFingerprint,
    asked: Arc<Mutex<Vec<EnrollRequest>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Double {
    fn start(manner: Manner) -> Self {
        let authority = authority();
        let fingerprint = AuthorityFingerprint(sha256(authority.der()));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let config = server_config(manner, &authority);
        let asked: Arc<Mutex<Vec<EnrollRequest>>> = Arc::default();
        let noted = Arc::clone(&asked);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let endpoint = quinn::Endpoint::new(
                    quinn::EndpointConfig::default(),
                    Some(config),
                    socket,
                    Arc::new(quinn::TokioRuntime),
                )
                .unwrap();
                let serving = async {
                    while let Some(incoming) = endpoint.accept().await {
                        let Ok(connection) = incoming.await else { continue };
                        serve(&connection, manner, &authority, &noted).await;
                    }
                };
                tokio::select! {
                    _ = stopped => {}
                    () = serving => {}
                }
            });
        });
        Self { port, fingerprint, asked, stop: Some(stop), thread: Some(thread) }
    }

    fn token(&self) -> String {
        token(self.fingerprint, self.port)
    }

    fn target(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn server_config(manner: Manner, shown: &Authority) -> quinn::ServerConfig {
    let name = if manner == Manner::OtherName { "127.0.0.9" } else { "127.0.0.1" };
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let (from, until) =
        if let Manner::ValidFrom(from, until) = manner { (from, until) } else { (2020, 2100) };
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let own = authority();
    let issuer = if manner == Manner::Impostor { &own } else { shown };
    let leaf = params.signed_by(&key, issuer).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf, shown.der().clone()], key)
        .unwrap();
    let other = manner == Manner::OtherProtocol;
    tls.alpn_protocols = vec![if other { b"h3".to_vec() } else { b"roomtone-enroll/1".to_vec() }];
    quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()))
}

async fn serve(
    connection: &quinn::Connection,
    manner: Manner,
    authority: &Authority,
    asked: &Mutex<Vec<EnrollRequest>>,
) {
    let Ok((mut send, mut recv)) = connection.accept_bi().await else { return };
    let Ok(bytes) = recv.read_to_end(FRAME_BYTES_MAX).await else { return };
    let Some(Message::EnrollRequest(request)) = decode(&bytes).unwrap().0.message else {
        panic!("the agent sent {bytes:?}")
    };
    let reply = match manner {
        Manner::Leaves => return connection.close(4u32.into(), b"\x1b[2Jno\n"),
        Manner::Garbage => b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
        Manner::Refuses(refusal) => frame(EnrollReply::Refused(refusal)),
        Manner::Enrols
        | Manner::OtherKey
        | Manner::Impostor
        | Manner::ValidFrom(..)
        | Manner::OtherName
        | Manner::OtherProtocol => frame(issue(manner, authority, &request)),
    };
    asked.lock().unwrap().push(request);
    send.write_all(&reply).await.unwrap();
    send.finish().unwrap();
    connection.closed().await;
}

fn issue(manner: Manner, authority: &Authority, request: &EnrollRequest) -> EnrollReply {
    let request = CertificateSigningRequestParams::from_der(&request.csr.to_vec().into()).unwrap();
    let mut params = CertificateParams::default();
    let urn = format!("urn:uuid:{ENDPOINT}");
    params.subject_alt_names = vec![SanType::URI(urn.as_str().try_into().unwrap())];
    let other = KeyPair::generate().unwrap();
    let certificate = if manner == Manner::OtherKey {
        params.signed_by(&other, authority)
    } else {
        params.signed_by(&request.public_key, authority)
    };
    EnrollReply::Enrolled {
        endpoint: ENDPOINT,
        certificate: Der::from_slice(certificate.unwrap().der()).unwrap(),
        authority: Der::from_slice(authority.der()).unwrap(),
        server_name: "collector.test".try_into().unwrap(),
    }
}

fn frame(reply: EnrollReply) -> Vec<u8> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let length = encode_link(&Message::EnrollReply(reply), &mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}
