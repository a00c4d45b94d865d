//! The command line's end of the admin socket: one request, one answer, and nothing that waits for ever.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::dialogue::{Answer, LINE_BYTES_MAX, Request};

/// How long a collector may take beyond what was asked of it.
const SERVE_WAIT: Duration = Duration::from_secs(10);

/// Why there is no answer. Each is one line.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens. Start `serve`, or say where it keeps its socket.
    #[error("no `roomtone-collector serve` listens on {}: start it, or name its config", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is another user's.
    #[error("{} is for the user of `roomtone-collector serve` and for root", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The collector ended, or does not answer.
    #[error("`roomtone-collector serve` gave no answer on {}: {source}", path.display())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer is of a version that this one does not know.
    #[error("`roomtone-collector serve` on {} answered what this version does not know: use its own version", path.display())]
    Unknown {
        /// The socket.
        path: PathBuf,
    },
}

/// Asks the `serve` that listens at `path`, and waits for its answer for at most `wait` and ten seconds.
///
/// # Errors
/// [`AskError`] where there is none.
pub fn ask(path: &Path, request: &Request, wait: Duration) -> Result<Answer, AskError> {
    let silent = |source| AskError::Silent { path: path.to_owned(), source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(silent)?;
    runtime.block_on(async {
        let stream = match timeout(SERVE_WAIT, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let path = path.to_owned();
                let is_absent = matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                );
                return Err(if is_absent {
                    AskError::NotRunning { path }
                } else if error.kind() == io::ErrorKind::PermissionDenied {
                    AskError::Denied { path }
                } else {
                    AskError::Silent { path, source: error }
                });
            }
            Err(elapsed) => return Err(silent(elapsed.into())),
        };
        let line = match timeout(wait + SERVE_WAIT, exchange(stream, request)).await {
            Ok(line) => line.map_err(silent)?,
            Err(elapsed) => return Err(silent(elapsed.into())),
        };
        Answer::from_line(&line).ok_or_else(|| AskError::Unknown { path: path.to_owned() })
    })
}

async fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Vec<u8>> {
    // A collector that is busy answers and closes without reading: its answer is what matters.
    let written = stream.write_all(request.to_line().as_bytes()).await;
    let mut line = Vec::new();
    let mut bounded = BufReader::new(stream).take(LINE_BYTES_MAX as u64);
    bounded.read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        written?;
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
    }
    Ok(line)
}
