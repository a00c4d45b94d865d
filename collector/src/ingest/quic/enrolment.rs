//! An enrolment connection: one stream, one request, one answer, and everything bounded.
//!
//! The peer is nobody yet. It has shown an address that answers, no more, so it gets [`REQUEST_BYTES_MAX`] bytes and
//! the time of a Hello, and a seat among [`LOBBY_MAX`](super::lobby::LOBBY_MAX) until its request is there. Then
//! [`ENROLMENTS_MAX`] requests are worked on at once.

use std::sync::Arc;
use std::time::Instant;

use quinn::{Connection, RecvStream, SendStream};
use roomtone_protocol::enroll::{EnrollRefusal, EnrollReply, EnrollRequest};
use roomtone_protocol::error::DecodeError;
use roomtone_protocol::frame;
use roomtone_protocol::limits::FRAME_BYTES_MAX;
use roomtone_protocol::message::Message;
use tokio::sync::Semaphore;
use tokio::time::{timeout, timeout_at};

use super::lobby::{Lobby, Seat};
use super::{FLUSH_WAIT, close};
use crate::identity::refusal::Refusal;
use crate::identity::registrar::Registrar;
use crate::ingest::exchange::CloseReason;

/// The most requests that are worked on at once. Each takes a signature and a disk's sync, some milliseconds.
const ENROLMENTS_MAX: usize = 16;
/// The most bytes that are read for a request.
const REQUEST_BYTES_MAX: usize = FRAME_BYTES_MAX;

/// What came instead of a request.
enum NoRequest {
    /// A frame of something else.
    Other,
    /// No frame.
    Garbage,
    /// Nothing more.
    Gone,
}

/// Where peers that are nobody yet are served.
#[derive(Debug)]
pub(super) struct Desk {
    lobby: Lobby,
    /// [`ENROLMENTS_MAX`].
    places: Semaphore,
}

impl Desk {
    /// That of a collector with so many connections.
    pub(super) fn new(connections_max: usize) -> Self {
        Self { lobby: Lobby::new(connections_max), places: Semaphore::new(ENROLMENTS_MAX) }
    }
}

/// Serves one connection until its answer is sent.
pub(super) async fn serve(
    registrar: &Arc<Registrar>,
    desk: &Desk,
    connection: Connection,
    until: Instant,
) {
    let seat = desk.lobby.enter(&connection);
    let conversation = converse(registrar, &desk.places, &connection, seat);
    let reason = match timeout_at(until.into(), conversation).await {
        Ok(reason) => reason,
        Err(_) => CloseReason::HelloTimeout,
    };
    close(&connection, reason);
}

async fn converse(
    registrar: &Arc<Registrar>,
    places: &Semaphore,
    connection: &Connection,
    seat: Seat,
) -> CloseReason {
    let Ok((mut sender, mut receiver)) = connection.accept_bi().await else {
        return CloseReason::Done;
    };
    let request = read(&mut receiver).await;
    drop(seat);
    let reply = match request {
        Ok(request) => answer(registrar, places, request, connection).await,
        Err(NoRequest::Other) => {
            registrar.refusals().add(Refusal::BadRequest);
            EnrollReply::Refused(EnrollRefusal::BadRequest)
        }
        Err(NoRequest::Garbage) => {
            registrar.refusals().add(Refusal::Garbage);
            return CloseReason::BadFrame;
        }
        Err(NoRequest::Gone) => return CloseReason::Done,
    };
    let reason = match &reply {
        EnrollReply::Enrolled { .. } => CloseReason::Done,
        EnrollReply::Refused(_) => CloseReason::Refused,
    };
    send(&mut sender, reply).await;
    reason
}

async fn answer(
    registrar: &Arc<Registrar>,
    places: &Semaphore,
    request: Box<EnrollRequest>,
    connection: &Connection,
) -> EnrollReply {
    let Ok(_place) = places.try_acquire() else {
        registrar.refusals().add(Refusal::TooMany);
        return EnrollReply::Refused(EnrollRefusal::Busy);
    };
    let (registrar, source) = (registrar.clone(), connection.remote_address().ip());
    let work = move || registrar.enroll(&request, source, Instant::now());
    let busy = EnrollReply::Refused(EnrollRefusal::Busy);
    tokio::task::spawn_blocking(work).await.unwrap_or(busy)
}

async fn read(receiver: &mut RecvStream) -> Result<Box<EnrollRequest>, NoRequest> {
    let mut bytes = Vec::new();
    loop {
        match frame::decode(&bytes) {
            Ok((frame::Frame { message: Some(Message::EnrollRequest(request)), .. }, _)) => {
                return Ok(Box::new(request));
            }
            Ok(_) | Err(DecodeError::Body { .. }) => return Err(NoRequest::Other),
            Err(DecodeError::Incomplete { .. }) => {}
            Err(
                DecodeError::Magic { .. }
                | DecodeError::Version { .. }
                | DecodeError::TooLong { .. }
                | DecodeError::Checksum { .. },
            ) => return Err(NoRequest::Garbage),
        }
        // A frame that is incomplete is shorter than the largest one, so there is room.
        let chunk = receiver.read_chunk(REQUEST_BYTES_MAX - bytes.len(), true).await;
        match chunk {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk.bytes),
            Ok(None) | Err(_) => return Err(NoRequest::Gone),
        }
    }
}

async fn send(sender: &mut SendStream, reply: EnrollReply) {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let length = frame::encode_link(&Message::EnrollReply(reply), &mut buffer)
        .expect("FRAME_BYTES_MAX suffices for any frame");
    let sent = async {
        if sender.write_all(&buffer[..length]).await.is_ok() && sender.finish().is_ok() {
            let _ = sender.stopped().await;
        }
    };
    let _ = timeout(FLUSH_WAIT, sent).await;
}
