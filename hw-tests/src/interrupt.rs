//! The signals that ask a program to end, as a flag for whoever waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Whether SIGINT, SIGTERM or SIGHUP came; they end nothing by themselves any more.
#[derive(Debug, Clone)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches the signals for the rest of the process's life.
    ///
    /// # Errors
    /// Where the kernel refuses a handler or a thread.
    pub fn catch() -> Result<Self> {
        let came = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot start the runtime")?;
        let (mut interrupt, mut terminate, mut hangup) = {
            let _inside = runtime.enter();
            let caught = |kind| signal(kind).context("cannot catch signals");
            (
                caught(SignalKind::interrupt())?,
                caught(SignalKind::terminate())?,
                caught(SignalKind::hangup())?,
            )
        };
        let flag = Arc::clone(&came);
        // Ends with the process: there is nothing that it could leave unfinished.
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                flag.store(true, Ordering::Relaxed);
                // The handlers stay: a second Ctrl-C must not cut the orderly end short.
                std::future::pending::<()>().await;
            });
        })?;
        Ok(Self(came))
    }

    /// Whether one came.
    #[must_use]
    pub fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
