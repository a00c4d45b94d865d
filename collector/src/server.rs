//! `serve`: connects listener, admin socket, writer and store, and stops them in an orderly manner.
//!
//! Order of stopping: the admin socket goes, connections flush and get their last acks, the listener closes, what the
//! fleet said last is written, the writer's queue runs dry, the store closes, and with it the judge ends. A
//! second signal is not needed: the whole takes a few seconds at most.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin::socket::{AdminError, AdminSocket, Desk};
use crate::classify::rules::RuleSet;
use crate::clock;
use crate::config::Config;
use crate::fleet::book::{self, Book, BookError};
use crate::fleet::live::{Fleet, Rounds};
use crate::identity::authority::{Authority, AuthorityError};
use crate::identity::refusal::Refusals;
use crate::identity::registrar::{Registrar, Settings};
use crate::identity::registry::{Registry, RegistryError};
use crate::identity::server_renewal::ServerRenewal;
use crate::ingest::downlink::Downlinks;
use crate::ingest::headroom::{Headroom, Space};
use crate::ingest::pacer::Pacer;
use crate::ingest::quic::{Links, ListenError, QuicListener, Surroundings};
use crate::ingest::tls::{self, ServerCertificate, TlsConfig, TlsError, TlsFiles};
use crate::ingest::writer::{self, Measure, WriterQueue};
use crate::judge::ChoiceError;
use crate::judge::again::{AgainError, Bench};
use crate::judge::shelf::Shelf;
use crate::judge::touched::{self, Touches};
use crate::judge::{book as verdicts, live};
use crate::reflector::{ReflectError, Reflector};
use crate::store::StoreError;
use crate::store::sqlite::{SqliteReader, SqliteStore};
use crate::systemd::Supervisor;

/// Why `serve` ended without being told to. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The authority cannot be used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The registry cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rules cannot be used.
    #[error(transparent)]
    Rules(#[from] ChoiceError),
    /// The address cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The reflector's address cannot be used.
    #[error(transparent)]
    Reflect(#[from] ReflectError),
    /// The admin socket cannot be used.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The system gives no thread, runtime or signal.
    #[error("the system refuses {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The writer thread panicked: a defect of this program.
    #[error("the store's writer ended unexpectedly ({}), see the log above", directory.display())]
    Writer {
        /// The store's directory.
        directory: PathBuf,
    },
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`ServeError`] where it cannot start, or where the writer died.
pub fn serve(config: &Config) -> Result<(), ServeError> {
    let mut supervisor = Supervisor::from_environment();
    let keys = Keys::load(config)?;
    let rules = config.rules.load()?;
    // The registry lies beside the store, whose folder may not be there before.
    let store = SqliteStore::open(&config.store, config.retention_days, clock::wall_us())?;
    let registry = Registry::open(&config.registry)?;
    let downlinks = Downlinks::default();
    let fleet = Arc::new(open_fleet(config, &downlinks));
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .thread_name("ingest")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .map_err(|source| ServeError::System { what: "an async runtime", source })?;
    let (store, touches) = touched::telling(Box::new(store));
    let judge = start_judge(config, rules, touches)?;
    let room = (Headroom::new(config.headroom_bytes), measure(config.store.clone()));
    let handle = runtime.handle().clone();
    let (queue, writer) = writer::spawn_within(Box::new(store), clock::wall_us, handle, room)
        .map_err(|source| ServeError::System { what: "a thread", source })?;
    let rounds = Rounds::start(fleet.clone())
        .map_err(|source| ServeError::System { what: "a thread", source })?;
    let served = runtime.block_on(async {
        let (links, pacer) = (Links::default(), Pacer::new(config.allowance));
        let Keys { tls, authority, refusals, renewal } = keys;
        let server_name = config.reach.as_ref().map(|it| it.host.clone()).unwrap_or_default();
        let settings = Settings { authority, required: config.required, server_name };
        let registrar = Registrar::new(settings, registry, refusals, clock::wall_us);
        let registrar = Arc::new(registrar);
        let surroundings = Surroundings {
            limits: config.limits,
            writer: queue.clone(),
            downlinks: downlinks.clone(),
            fleet: fleet.clone(),
            links: links.clone(),
            pacer: pacer.clone(),
            registrar: registrar.clone(),
            wall_us: clock::wall_us,
        };
        let listener = QuicListener::bind(config.address, tls, surroundings)?;
        let (room, since) = (queue.room(), Instant::now());
        let desk = Desk { downlinks, fleet, links, pacer, registrar, room, since };
        let admin = AdminSocket::bind(&config.admin_socket).await?;
        let reflector = match config.stamp {
            Some(address) => Some(Reflector::bind(address).await?),
            None => None,
        };
        // Tests and scripts wait for this line; with port 0 it tells the port.
        tracing::info!(
            address = %listener.local_address(),
            stamp = reflector.as_ref().and_then(|it| it.local_address().ok()).map(tracing::field::display),
            version = env!("CARGO_PKG_VERSION"),
            "ready"
        );
        supervisor.ready();
        supervisor.status("taking records");
        let admin = (admin, desk);
        let listening = (listener, reflector);
        run_until_signal(listening, admin, renewal, (&writer, queue), &supervisor).await
    });
    rounds.finish();
    // Every queue is gone by now, so the writer finishes what it has and ends; the runtime lives until then.
    let ended = writer.join();
    if judge.is_some_and(|it| it.join().is_err()) {
        tracing::error!(
            "the judge ended unexpectedly: what it left out is judged at the next start"
        );
    }
    served?;
    ended.map_err(|_| ServeError::Writer { directory: config.store.clone() })?;
    tracing::info!("stopped");
    Ok(())
}

/// The judge by its book; where that cannot be used, records are taken all the same.
fn start_judge(
    config: &Config,
    rules: RuleSet,
    touches: Touches,
) -> Result<Option<thread::JoinHandle<()>>, ServeError> {
    let open = || -> Result<Bench, AgainError> {
        let (book, aside) = verdicts::Book::open_or_set_aside(&config.store.join(verdicts::FILE))?;
        if let Some(aside) = aside {
            tracing::error!(
                aside = %aside.display(),
                "the book of verdicts was damaged: begun anew, history is judged again"
            );
        }
        let reader = SqliteReader::open(&config.store)?;
        let shelf = Shelf::new(&config.store);
        Ok(Bench { reader, book, rules, shelf, wall_us: clock::wall_us })
    };
    match open() {
        Ok(bench) => live::start(bench, touches, config.retention_days)
            .map(Some)
            .map_err(|source| ServeError::System { what: "a thread", source }),
        Err(error) => {
            tracing::error!(%error, "no verdicts are kept; records are taken as ever");
            Ok(None)
        }
    }
}

/// What measures the file system of the store's folder.
fn measure(folder: PathBuf) -> Measure {
    Box::new(move || {
        let found = rustix::fs::statvfs(&folder).ok()?;
        Some(Space {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
        })
    })
}

/// The fleet by its book; where that cannot be used, records are taken all the same.
fn open_fleet(config: &Config, downlinks: &Downlinks) -> Fleet {
    let path = config.store.join(book::FILE);
    let open = || -> Result<Fleet, BookError> {
        let (mut book, aside) = Book::open_or_set_aside(&path)?;
        if let Some(aside) = aside {
            tracing::error!(
                aside = %aside.display(),
                "the fleet's book was damaged: begun anew, agents keep the settings that they have"
            );
        }
        book.end_all()?;
        Fleet::new(book, downlinks.clone(), clock::wall_us)
    };
    open().unwrap_or_else(|error| {
        tracing::error!(%error, "no endpoint is configured and no heartbeat kept; records are taken as ever");
        Fleet::without_book(downlinks.clone(), clock::wall_us)
    })
}

/// The certificates and keys that `serve` works with.
struct Keys {
    tls: TlsConfig,
    authority: Option<Authority>,
    refusals: Arc<Refusals>,
    /// Where the server's certificate is of the collector's own authority.
    renewal: Option<ServerRenewal>,
}

impl Keys {
    fn load(config: &Config) -> Result<Self, ServeError> {
        let files = TlsFiles {
            certificate: &config.certificate,
            key: &config.key,
            client_ca: &config.client_ca,
        };
        let load = || -> Result<Option<Authority>, AuthorityError> {
            let key = config.authority_key.as_ref();
            key.map(|key| Authority::load(&config.client_ca, key)).transpose()
        };
        let authority = load()?;
        let der = authority.as_ref().map(|it| it.der().as_slice());
        let shown = ServerCertificate::load(files, der)?;
        let refusals = Arc::new(Refusals::default());
        let tls = tls::server_config(files, shown.clone(), refusals.clone())?;
        let renewal = load()?.and_then(|authority| ServerRenewal::new(authority, config, shown));
        Ok(Self { tls, authority, refusals, renewal })
    }
}

async fn run_until_signal(
    (listener, reflector): (QuicListener, Option<Reflector>),
    (admin, desk): (AdminSocket, Desk),
    mut renewal: Option<ServerRenewal>,
    (writer, queue): (&thread::JoinHandle<()>, WriterQueue),
    supervisor: &Supervisor,
) -> Result<(), ServeError> {
    let pacer = desk.pacer.clone();
    let handler = |kind| {
        signal(kind).map_err(|source| ServeError::System { what: "a signal handler", source })
    };
    let (mut terminate, mut interrupt) =
        (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let (stop, shutdown) = watch::channel(false);
    let listening = tokio::spawn(admin.run(desk, shutdown.clone()));
    let reflecting = reflector.map(|it| tokio::spawn(it.run(shutdown.clone())));
    let mut serving = tokio::spawn(listener.run(shutdown));
    let mut look = tokio::time::interval(WRITER_LOOK);
    let mut renew = tokio::time::interval(RENEWAL_LOOK);
    let mut round = tokio::spawn(come_round(queue.clone()));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = &mut serving => return Ok(()),
            _ = look.tick() => {
                pacer.come_round();
                if writer.is_finished() {
                    break;
                }
                // A writer that hangs answers no more, and then the service manager starts the collector anew.
                if round.is_finished() {
                    supervisor.alive();
                    round = tokio::spawn(come_round(queue.clone()));
                }
            }
            _ = renew.tick() => if let Some(renewal) = &mut renewal {
                renewal.look(clock::wall_us());
            },
        }
    }
    supervisor.stopping();
    tracing::info!("stopping");
    round.abort();
    let _ = round.await;
    let _ = stop.send(true);
    let _ = listening.await;
    if let Some(reflecting) = reflecting {
        let _ = reflecting.await;
    }
    let _ = serving.await;
    Ok(())
}

/// Waits for a sign of life of the writer; one that has ended is noticed elsewhere.
async fn come_round(queue: WriterQueue) {
    let _ = queue.come_round().await;
}

/// How often to look whether the writer thread still lives; without it nothing is acked, so there is no hurry.
const WRITER_LOOK: std::time::Duration = std::time::Duration::from_secs(5);
/// How often to look whether the server's certificate must be renewed; it has 30 days left then.
const RENEWAL_LOOK: std::time::Duration = std::time::Duration::from_secs(3_600);

/// The most threads that wait for the registry: they take turns at it anyway, and a fleet that comes back queues here.
const BLOCKING_THREADS_MAX: usize = 8;
