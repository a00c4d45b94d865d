//! What must hold for anything that is said on the context socket: lines are cut as they end, a command means the same
//! when it is written anew, a refusal is one short line, and contexts begin and end in turns.

use std::time::Duration;

use roomtone_agent::clock::Moment;
use roomtone_agent::context::line::{
    Command, ContextId, ID_CHARS_MAX, LINE_BYTES_MAX, LineError, Lines, Service, parse,
};
use roomtone_agent::context::register::{ATTENDED_MAX, ClientNumber, Register};
use roomtone_agent::media::context::ContextChange;
use serde_json::json;

/// The longest message, its foreign part of 160 characters included.
const MESSAGE_CHARS_MAX: usize = 200;

/// Cuts `input` into lines, as it arrives in pieces of one size; stops behind one that is too long.
fn cut(input: &[u8], size: usize) -> Vec<Result<Vec<u8>, LineError>> {
    let mut lines = Lines::default();
    let mut cut = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let space = lines.space();
        let (piece, behind) = rest.split_at(size.min(rest.len()).min(space.len()));
        space[..piece.len()].copy_from_slice(piece);
        rest = behind;
        lines.handle_arrived(piece.len());
        while let Some(line) = lines.poll_line() {
            let is_beyond = line.is_err();
            cut.push(line);
            if is_beyond {
                return cut;
            }
        }
    }
    cut
}

/// The same command, written by ourselves.
fn write_anew(command: &Command) -> Vec<u8> {
    let value = match command {
        Command::Begin(begin) => json!({
            "call": "begin",
            "id": begin.id.as_str(),
            "service": begin.service.as_ref().map(Service::as_str),
            "whileConnected": begin.while_connected,
        }),
        Command::End { id } => json!({ "call": "end", "id": id.as_ref().map(ContextId::as_str) }),
        Command::Status => json!({ "status": true }),
    };
    value.to_string().into_bytes()
}

fn check_message(error: &dyn std::error::Error) {
    let message = error.to_string();
    assert!(message.chars().count() <= MESSAGE_CHARS_MAX, "{message}");
    assert!(!message.is_empty() && !message.contains(char::is_control), "{message:?}");
}

/// Input: the size of the pieces and the seconds between lines (1), then what a client says.
pub(crate) fn body(input: &[u8]) {
    let [head, text @ ..] = input else { return };
    let lines = cut(text, usize::from(*head) + 1);
    assert_eq!(lines, cut(text, usize::MAX), "the size of the pieces changes nothing");
    let ends: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    for (line, end) in lines.iter().zip(&ends) {
        match line {
            Ok(line) => assert_eq!(line, end),
            Err(error) => {
                assert_eq!(*error, LineError::TooLong);
                assert!(end.len() >= LINE_BYTES_MAX);
            }
        }
    }

    let mut register = Register::default();
    let (mut open, mut began) = (None, None);
    let mut now = Moment::ORIGIN;
    for line in lines.into_iter().flatten() {
        now = now + Duration::from_secs(u64::from(*head) * 60);
        register.handle_timeout(now);
        let client = ClientNumber(line.len() as u64 % 3);
        match parse(&line) {
            Err(error) => {
                check_message(&error);
                register.handle_gone(client, now);
            }
            Ok(command) => {
                if let Command::Begin(begin) = &command {
                    assert!((1..=ID_CHARS_MAX).contains(&begin.id.as_str().len()));
                }
                assert_eq!(parse(&write_anew(&command)).as_ref(), Ok(&command));
                if let Err(refusal) = register.handle_command(client, command, now) {
                    check_message(&refusal);
                }
            }
        }
        while let Some((change, at)) = register.poll_change() {
            assert!(at <= now);
            match change {
                ContextChange::Began { context, .. } => {
                    assert!(began < Some(context), "no number comes twice");
                    (open, began) = (Some(context), Some(context));
                }
                ContextChange::Ended { context } => {
                    assert_eq!(open.take(), Some(context), "what ends was open");
                }
            }
        }
        assert_eq!(register.open().is_some(), open.is_some());
        if let Some((due, _)) = register.poll_timeout() {
            assert!(now < due && due <= now + ATTENDED_MAX, "nothing is open for ever");
        }
    }
}
