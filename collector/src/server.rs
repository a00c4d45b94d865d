//! `serve`: connects listener, admin socket, writer and store, and stops them in an orderly manner.
//!
//! Order of stopping: the admin socket goes, connections flush and get their last acks, the listener closes, the
//! writer's queue runs dry, the store closes. A second signal is not needed: the whole takes about two seconds at
//! most.

use std::io;
use std::path::PathBuf;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin::socket::{AdminError, AdminSocket};
use crate::clock;
use crate::config::Config;
use crate::ingest::downlink::Downlinks;
use crate::ingest::quic::{ListenError, QuicListener};
use crate::ingest::tls::{self, TlsError};
use crate::ingest::writer;
use crate::store::StoreError;
use crate::store::sqlite::SqliteStore;

/// Why `serve` ended without being told to. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
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
    let tls = tls::server_config(&config.certificate, &config.key, &config.client_ca)?;
    let store = SqliteStore::open(&config.store, config.retention_days, clock::wall_us())?;
    let runtime = Builder::new_multi_thread()
        .enable_all()
        .thread_name("ingest")
        .build()
        .map_err(|source| ServeError::System { what: "an async runtime", source })?;
    let (queue, writer) = writer::spawn(Box::new(store), clock::wall_us, runtime.handle().clone())
        .map_err(|source| ServeError::System { what: "a thread", source })?;
    let served = runtime.block_on(async {
        let downlinks = Downlinks::default();
        let listener = QuicListener::bind(
            config.address,
            tls,
            config.limits,
            queue,
            downlinks.clone(),
            clock::wall_us,
        )?;
        let admin = AdminSocket::bind(&config.admin_socket).await?;
        // Tests and scripts wait for this line; with port 0 it tells the port.
        tracing::info!(
            address = %listener.local_address(),
            version = env!("CARGO_PKG_VERSION"),
            "ready"
        );
        run_until_signal(listener, admin, downlinks, &writer).await
    });
    // Every queue is gone by now, so the writer finishes what it has and ends; the runtime lives until then.
    let ended = writer.join();
    served?;
    ended.map_err(|_| ServeError::Writer { directory: config.store.clone() })?;
    tracing::info!("stopped");
    Ok(())
}

async fn run_until_signal(
    listener: QuicListener,
    admin: AdminSocket,
    downlinks: Downlinks,
    writer: &thread::JoinHandle<()>,
) -> Result<(), ServeError> {
    let handler = |kind| {
        signal(kind).map_err(|source| ServeError::System { what: "a signal handler", source })
    };
    let (mut terminate, mut interrupt) =
        (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    let (stop, shutdown) = watch::channel(false);
    let listening = tokio::spawn(admin.run(downlinks, shutdown.clone()));
    let mut serving = tokio::spawn(listener.run(shutdown));
    let mut look = tokio::time::interval(WRITER_LOOK);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = &mut serving => return Ok(()),
            _ = look.tick() => if writer.is_finished() { break },
        }
    }
    tracing::info!("stopping");
    let _ = stop.send(true);
    let _ = listening.await;
    let _ = serving.await;
    Ok(())
}

/// How often to look whether the writer thread still lives; without it nothing is acked, so there is no hurry.
const WRITER_LOOK: std::time::Duration = std::time::Duration::from_secs(5);
