//! The tables of one day file, and who may open it.
//!
//! Every table but `file` is keyed by endpoint first. `endpoint.key` is a small number of the file's own, so that the
//! 16 random bytes of an id stand there once. `endpoint`, `watermark` and `gap` are state: a new day begins with a copy
//! of them, and the file with the highest `file.generation` holds the truth. All other tables hold what was received
//! on that day. Unsigned 64-bit values are stored as the signed integer of the same bits. There is no float.
//!
//! A list that a record may lack stands in rows of its own beside its count: a count of NULL is a list that was not
//! told, 0 is one that was told and is empty.
//!
//! A file of an earlier schema is read as it is, what it lacks is absent; before one is written to, [`UPGRADES`] bring
//! it up to date, in one transaction.

use rusqlite::{Connection, OptionalExtension};

/// The layout below. A file with a higher number is a later collector's.
pub(super) const SCHEMA_VERSION: i32 = 3;

/// The first schema that knows self-tests, and zero volume and glitches of a device.
pub(super) const SELF_TESTS_SINCE: i32 = 2;

/// The first schema that knows what was heard, markings, receivers' reports, networks, client events, and what else was
/// told of host and path.
pub(super) const HEARD_SINCE: i32 = 3;

/// Columns of a file of this schema version: those that came with a later one are read as NULL.
pub(super) fn columns_since(since: i32, version: i32, columns: &str) -> String {
    if version >= since {
        return columns.to_owned();
    }
    columns.split(',').map(|_| "NULL").collect::<Vec<_>>().join(", ")
}

/// What stands for the leg in client events that are the call's own; a leg's number is never negative.
pub(super) const EVENTS_OF_CALL: i64 = -1;

/// `PRAGMA application_id`: "RTMD", so that `file` tells a day file from any other database.
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"RTMD");

/// Whether a file can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fitness {
    /// It has no tables yet.
    Empty,
    /// It is ours, with this schema version, which is at most [`SCHEMA_VERSION`].
    Fit(i32),
    /// It is a later collector's, with this schema version.
    Newer(i32),
    /// It is a database of something else.
    Foreign,
}

/// Reads what a file says of itself.
pub(super) fn fitness(connection: &Connection) -> rusqlite::Result<Fitness> {
    let pragma = |name: &str| -> rusqlite::Result<i32> {
        connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
    };
    let (version, application) = (pragma("user_version")?, pragma("application_id")?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (tables, application, version) {
        (0, ..) => Fitness::Empty,
        (_, APPLICATION_ID, known @ 1..=SCHEMA_VERSION) => Fitness::Fit(known),
        (_, APPLICATION_ID, newer) if newer > SCHEMA_VERSION => Fitness::Newer(newer),
        _ => Fitness::Foreign,
    })
}

/// The generation of a fit file.
pub(super) fn generation(connection: &Connection) -> rusqlite::Result<i64> {
    let found =
        connection.query_row("SELECT generation FROM file", [], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or(0))
}

/// What every connection that writes sets first.
///
/// The log is folded in at 8,192 pages (32 MiB) instead of 1,000: a page that many groups touch is written back once.
/// 32 MiB of cache hold the pages that a fleet of 2,000 touches within a minute.
pub(super) const WRITER_PRAGMAS: &str = "
PRAGMA journal_mode = WAL;
PRAGMA wal_autocheckpoint = 8192;
PRAGMA cache_size = -32768;
PRAGMA synchronous = FULL;
PRAGMA temp_store = MEMORY;
PRAGMA foreign_keys = OFF;
PRAGMA trusted_schema = OFF;
";

/// The tables that schema 3 added.
///
/// A leg of -1 is the call itself. A network is found by its place in the order of arrival, since two epochs do not
/// compare.
macro_rules! tables_of_3 {
    () => {
        "
CREATE TABLE stream_heard (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, leg INTEGER NOT NULL, stream INTEGER NOT NULL,
  model INTEGER NOT NULL, total_us INTEGER NOT NULL, concealed_us INTEGER NOT NULL,
  stretched_us INTEGER NOT NULL, compressed_us INTEGER NOT NULL, played INTEGER NOT NULL,
  discarded INTEGER NOT NULL, delay_mean_dms INTEGER NOT NULL, delay_max_dms INTEGER NOT NULL,
  worst_second_us INTEGER NOT NULL, worst_interval_total_us INTEGER NOT NULL,
  worst_interval_concealed_us INTEGER NOT NULL, resets INTEGER NOT NULL, frame_us INTEGER NOT NULL,
  bursts INTEGER NOT NULL, burst_frames INTEGER NOT NULL, burst_missing INTEGER NOT NULL,
  gaps INTEGER NOT NULL, gap_frames INTEGER NOT NULL, gap_missing INTEGER NOT NULL, runs BLOB NOT NULL,
  rating INTEGER NOT NULL, formula INTEGER, codec INTEGER, assumption INTEGER, mos_milli INTEGER,
  best_milli INTEGER,
  PRIMARY KEY (endpoint, call, leg, stream)
) STRICT, WITHOUT ROWID;

CREATE TABLE stream_marking (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, leg INTEGER NOT NULL, stream INTEGER NOT NULL,
  dscp INTEGER NOT NULL, others INTEGER NOT NULL,
  PRIMARY KEY (endpoint, call, leg, stream)
) STRICT, WITHOUT ROWID;

CREATE TABLE stream_reported (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, leg INTEGER NOT NULL, stream INTEGER NOT NULL,
  reports INTEGER NOT NULL, lost INTEGER NOT NULL, fraction_lost_max INTEGER NOT NULL,
  jitter_mean_dms INTEGER, jitter_max_dms INTEGER,
  rtt_count INTEGER NOT NULL, rtt_unanswered INTEGER NOT NULL, rtt_min_dms INTEGER NOT NULL,
  rtt_mean_dms INTEGER NOT NULL, rtt_max_dms INTEGER NOT NULL, rtt_last_dms INTEGER NOT NULL,
  PRIMARY KEY (endpoint, call, leg, stream)
) STRICT, WITHOUT ROWID;

CREATE TABLE network_attachment (
  arrival INTEGER PRIMARY KEY,
  endpoint INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, call INTEGER,
  at_wall_us INTEGER NOT NULL, at_uptime_us INTEGER NOT NULL, interface TEXT NOT NULL,
  connection INTEGER NOT NULL, is_vpn INTEGER NOT NULL, is_default_route INTEGER NOT NULL,
  address TEXT NOT NULL, prefix INTEGER NOT NULL, mtu INTEGER, speed_mbps INTEGER,
  ssid TEXT, bssid BLOB, frequency_mhz INTEGER, signal_dbm INTEGER, radio INTEGER,
  UNIQUE (endpoint, epoch, sequence)
) STRICT;
CREATE INDEX network_attachment_by_call ON network_attachment (endpoint, call) WHERE call IS NOT NULL;

CREATE TABLE client_events (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, leg INTEGER NOT NULL,
  epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, rules INTEGER NOT NULL,
  PRIMARY KEY (endpoint, call, leg)
) STRICT, WITHOUT ROWID;

CREATE TABLE client_event (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, leg INTEGER NOT NULL, position INTEGER NOT NULL,
  kind INTEGER NOT NULL, part_us INTEGER, whole_us INTEGER, count INTEGER, because INTEGER,
  PRIMARY KEY (endpoint, call, leg, position)
) STRICT, WITHOUT ROWID;
"
    };
}

/// Makes an empty file a day file, in the caller's transaction.
pub(super) const CREATE: &str = concat!(
    "
CREATE TABLE file (generation INTEGER NOT NULL) STRICT;

CREATE TABLE endpoint (
  key INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE,
  name TEXT NOT NULL, agent_version TEXT NOT NULL, transport INTEGER, remote TEXT,
  first_seen_us INTEGER NOT NULL, last_seen_us INTEGER NOT NULL, connected INTEGER NOT NULL,
  stored INTEGER NOT NULL, unknown INTEGER NOT NULL, refused INTEGER NOT NULL, duplicate INTEGER NOT NULL
) STRICT;

CREATE TABLE watermark (
  endpoint INTEGER NOT NULL, epoch INTEGER NOT NULL, next INTEGER NOT NULL,
  closed_missing INTEGER NOT NULL, reported_lost INTEGER NOT NULL, changed_us INTEGER NOT NULL,
  PRIMARY KEY (endpoint, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE gap (
  endpoint INTEGER NOT NULL, epoch INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  PRIMARY KEY (endpoint, epoch, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE loss_receipt (
  endpoint INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  lost_epoch INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, cause INTEGER NOT NULL,
  noticed_wall_us INTEGER NOT NULL, noticed_uptime_us INTEGER NOT NULL,
  PRIMARY KEY (endpoint, epoch, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE call (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL,
  first_received_us INTEGER NOT NULL, last_received_us INTEGER NOT NULL,
  PRIMARY KEY (endpoint, call)
) STRICT, WITHOUT ROWID;
CREATE INDEX call_by_id ON call (call);

CREATE TABLE call_opened (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  opened_wall_us INTEGER NOT NULL, opened_uptime_us INTEGER NOT NULL, purpose INTEGER NOT NULL,
  PRIMARY KEY (endpoint, call)
) STRICT, WITHOUT ROWID;

CREATE TABLE call_closed (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  closed_wall_us INTEGER NOT NULL, closed_uptime_us INTEGER NOT NULL, reason INTEGER NOT NULL,
  legs INTEGER NOT NULL,
  PRIMARY KEY (endpoint, call)
) STRICT, WITHOUT ROWID;

CREATE TABLE leg (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, leg INTEGER NOT NULL,
  epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  opened_wall_us INTEGER NOT NULL, opened_uptime_us INTEGER NOT NULL,
  local TEXT NOT NULL, remote TEXT NOT NULL, transport INTEGER NOT NULL,
  PRIMARY KEY (endpoint, call, leg)
) STRICT, WITHOUT ROWID;
CREATE INDEX leg_by_start ON leg (endpoint, opened_wall_us);

CREATE TABLE leg_interval (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, leg INTEGER NOT NULL, first INTEGER NOT NULL,
  epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  started_wall_ms INTEGER NOT NULL, count INTEGER NOT NULL, streams BLOB NOT NULL, pack BLOB NOT NULL,
  heard BLOB,
  PRIMARY KEY (endpoint, call, leg, first, epoch, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE leg_summary (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, leg INTEGER NOT NULL,
  epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  closed_wall_us INTEGER NOT NULL, closed_uptime_us INTEGER NOT NULL,
  rtt_count INTEGER NOT NULL, rtt_unanswered INTEGER NOT NULL, rtt_min_dms INTEGER NOT NULL,
  rtt_mean_dms INTEGER NOT NULL, rtt_max_dms INTEGER NOT NULL, rtt_last_dms INTEGER NOT NULL,
  tap_dropped INTEGER NOT NULL,
  heard INTEGER, markings INTEGER, reported INTEGER, reflexive TEXT,
  PRIMARY KEY (endpoint, call, leg)
) STRICT, WITHOUT ROWID;

CREATE TABLE stream_summary (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, leg INTEGER NOT NULL, position INTEGER NOT NULL,
  ssrc INTEGER NOT NULL, direction INTEGER NOT NULL, media INTEGER NOT NULL,
  payload_types BLOB NOT NULL, clock_rate_hz INTEGER NOT NULL, clock_rate_source INTEGER NOT NULL,
  first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, received INTEGER NOT NULL, expected INTEGER NOT NULL,
  lost INTEGER NOT NULL, duplicate INTEGER NOT NULL, reordered INTEGER NOT NULL,
  sequence_restarts INTEGER NOT NULL, jitter_mean_dms INTEGER NOT NULL, jitter_max_dms INTEGER NOT NULL,
  jitter_last_dms INTEGER NOT NULL,
  PRIMARY KEY (endpoint, call, leg, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE device_episode (
  endpoint INTEGER NOT NULL, episode INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  call INTEGER, device TEXT NOT NULL, side INTEGER NOT NULL, cause INTEGER NOT NULL,
  onset_wall_us INTEGER NOT NULL, onset_uptime_us INTEGER NOT NULL, bad_us INTEGER NOT NULL,
  state INTEGER NOT NULL,
  PRIMARY KEY (endpoint, episode)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_episode_by_call ON device_episode (endpoint, call) WHERE call IS NOT NULL;

CREATE TABLE device_summary (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, side INTEGER NOT NULL, device TEXT NOT NULL,
  epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  not_functioning_part_us INTEGER NOT NULL, not_functioning_whole_us INTEGER NOT NULL,
  muted_part_us INTEGER NOT NULL, muted_whole_us INTEGER NOT NULL,
  episodes INTEGER NOT NULL, detector INTEGER NOT NULL,
  zero_volume_part_us INTEGER, zero_volume_whole_us INTEGER, glitches INTEGER,
  PRIMARY KEY (endpoint, call, side, device)
) STRICT, WITHOUT ROWID;

CREATE TABLE self_test (
  endpoint INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, received_us INTEGER NOT NULL,
  ended_wall_us INTEGER NOT NULL, ended_uptime_us INTEGER NOT NULL, requested INTEGER NOT NULL,
  capture TEXT NOT NULL, render TEXT NOT NULL, outcome INTEGER NOT NULL,
  level_db_tenths INTEGER, delay_us INTEGER,
  PRIMARY KEY (endpoint, epoch, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX self_test_by_receipt ON self_test (received_us);

CREATE TABLE host_interval (
  endpoint INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  started_wall_us INTEGER NOT NULL, started_uptime_us INTEGER NOT NULL, duration_ms INTEGER NOT NULL,
  cpu_permille INTEGER NOT NULL, memory_permille INTEGER NOT NULL, cpu_pressure_permille INTEGER,
  temperature_deci_celsius INTEGER,
  has_detail INTEGER, busiest_core_permille INTEGER, memory_pressure_permille INTEGER,
  io_pressure_permille INTEGER, wifi_signal_dbm INTEGER, is_throttled INTEGER,
  PRIMARY KEY (endpoint, epoch, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE path_interval (
  endpoint INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  started_wall_us INTEGER NOT NULL, started_uptime_us INTEGER NOT NULL, duration_ms INTEGER NOT NULL,
  target INTEGER NOT NULL, sent INTEGER NOT NULL, lost_up INTEGER NOT NULL, lost_down INTEGER NOT NULL,
  rtt_min_dms INTEGER NOT NULL, rtt_mean_dms INTEGER NOT NULL, rtt_max_dms INTEGER NOT NULL,
  jitter_up_dms INTEGER NOT NULL, jitter_down_dms INTEGER NOT NULL,
  call INTEGER, returned INTEGER, unplaced INTEGER, reordered_up INTEGER, reordered_down INTEGER,
  duplicate INTEGER, wire_bytes INTEGER, reflector TEXT,
  quic_rtt_dms INTEGER, quic_sent INTEGER, quic_lost INTEGER, quic_congestion_events INTEGER, quic_mtu INTEGER,
  PRIMARY KEY (endpoint, epoch, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE opaque_record (
  endpoint INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  kind INTEGER NOT NULL, reason INTEGER NOT NULL, body BLOB NOT NULL,
  PRIMARY KEY (endpoint, epoch, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE endpoint_hour (
  endpoint INTEGER NOT NULL, hour INTEGER NOT NULL,
  legs INTEGER NOT NULL, intervals INTEGER NOT NULL, packets INTEGER NOT NULL, lost INTEGER NOT NULL,
  jitter_sum_dms INTEGER NOT NULL, jitter_count INTEGER NOT NULL, jitter_max_dms INTEGER NOT NULL,
  rtt_sum_dms INTEGER NOT NULL, rtt_count INTEGER NOT NULL, rtt_max_dms INTEGER NOT NULL,
  heard_us INTEGER NOT NULL DEFAULT 0, concealed_us INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (endpoint, hour)
) STRICT, WITHOUT ROWID;
",
    tables_of_3!()
);

/// What brings a file of schema n to n + 1, the first from 1 to 2, in the caller's transaction.
///
/// What a file becomes is what [`CREATE`] makes, columns in the same order: rows are inserted by position.
pub(super) const UPGRADES: [&str; SCHEMA_VERSION as usize - 1] = [
    "
ALTER TABLE device_summary ADD COLUMN zero_volume_part_us INTEGER;
ALTER TABLE device_summary ADD COLUMN zero_volume_whole_us INTEGER;
ALTER TABLE device_summary ADD COLUMN glitches INTEGER;
CREATE TABLE self_test (
  endpoint INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL, received_us INTEGER NOT NULL,
  ended_wall_us INTEGER NOT NULL, ended_uptime_us INTEGER NOT NULL, requested INTEGER NOT NULL,
  capture TEXT NOT NULL, render TEXT NOT NULL, outcome INTEGER NOT NULL,
  level_db_tenths INTEGER, delay_us INTEGER,
  PRIMARY KEY (endpoint, epoch, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX self_test_by_receipt ON self_test (received_us);
",
    concat!(
        "
ALTER TABLE leg_interval ADD COLUMN heard BLOB;
ALTER TABLE leg_summary ADD COLUMN heard INTEGER;
ALTER TABLE leg_summary ADD COLUMN markings INTEGER;
ALTER TABLE leg_summary ADD COLUMN reported INTEGER;
ALTER TABLE leg_summary ADD COLUMN reflexive TEXT;
ALTER TABLE host_interval ADD COLUMN has_detail INTEGER;
ALTER TABLE host_interval ADD COLUMN busiest_core_permille INTEGER;
ALTER TABLE host_interval ADD COLUMN memory_pressure_permille INTEGER;
ALTER TABLE host_interval ADD COLUMN io_pressure_permille INTEGER;
ALTER TABLE host_interval ADD COLUMN wifi_signal_dbm INTEGER;
ALTER TABLE host_interval ADD COLUMN is_throttled INTEGER;
ALTER TABLE path_interval ADD COLUMN call INTEGER;
ALTER TABLE path_interval ADD COLUMN returned INTEGER;
ALTER TABLE path_interval ADD COLUMN unplaced INTEGER;
ALTER TABLE path_interval ADD COLUMN reordered_up INTEGER;
ALTER TABLE path_interval ADD COLUMN reordered_down INTEGER;
ALTER TABLE path_interval ADD COLUMN duplicate INTEGER;
ALTER TABLE path_interval ADD COLUMN wire_bytes INTEGER;
ALTER TABLE path_interval ADD COLUMN reflector TEXT;
ALTER TABLE path_interval ADD COLUMN quic_rtt_dms INTEGER;
ALTER TABLE path_interval ADD COLUMN quic_sent INTEGER;
ALTER TABLE path_interval ADD COLUMN quic_lost INTEGER;
ALTER TABLE path_interval ADD COLUMN quic_congestion_events INTEGER;
ALTER TABLE path_interval ADD COLUMN quic_mtu INTEGER;
ALTER TABLE endpoint_hour ADD COLUMN heard_us INTEGER NOT NULL DEFAULT 0;
ALTER TABLE endpoint_hour ADD COLUMN concealed_us INTEGER NOT NULL DEFAULT 0;
",
        tables_of_3!()
    ),
];

/// Begins a day with the state of the file attached as `before`; binds the horizon and the new generation.
///
/// Endpoints and epochs silent since the horizon (retention) are left behind: that is what bounds these tables.
pub(super) const CARRY_OVER: [&str; 7] = [
    "DELETE FROM gap",
    "DELETE FROM watermark",
    "DELETE FROM file",
    "INSERT INTO endpoint (id, name, agent_version, transport, remote, first_seen_us, last_seen_us, \
     connected, stored, unknown, refused, duplicate) \
     SELECT id, name, agent_version, transport, remote, first_seen_us, last_seen_us, \
     connected, stored, unknown, refused, duplicate FROM before.endpoint WHERE last_seen_us >= ?1 \
     ON CONFLICT (id) DO UPDATE SET name = excluded.name, agent_version = excluded.agent_version, \
     transport = excluded.transport, remote = excluded.remote, \
     first_seen_us = min(first_seen_us, excluded.first_seen_us), last_seen_us = excluded.last_seen_us, \
     connected = excluded.connected, stored = excluded.stored, unknown = excluded.unknown, \
     refused = excluded.refused, duplicate = excluded.duplicate",
    "INSERT INTO watermark SELECT here.key, w.epoch, w.next, w.closed_missing, w.reported_lost, w.changed_us \
     FROM before.watermark AS w JOIN before.endpoint AS there ON there.key = w.endpoint \
     JOIN endpoint AS here ON here.id = there.id WHERE w.changed_us >= ?1",
    "INSERT INTO gap SELECT here.key, g.epoch, g.first, g.last \
     FROM before.gap AS g JOIN before.endpoint AS there ON there.key = g.endpoint \
     JOIN endpoint AS here ON here.id = there.id \
     JOIN watermark AS w ON w.endpoint = here.key AND w.epoch = g.epoch",
    "INSERT INTO file (generation) VALUES (?2)",
];
