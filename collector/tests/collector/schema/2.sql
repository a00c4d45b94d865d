-- The tables of schema 2, as released collectors of that schema made them. It never changes: a test makes a day file of it.
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
  PRIMARY KEY (endpoint, call, leg, first, epoch, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE leg_summary (
  endpoint INTEGER NOT NULL, call INTEGER NOT NULL, leg INTEGER NOT NULL,
  epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  closed_wall_us INTEGER NOT NULL, closed_uptime_us INTEGER NOT NULL,
  rtt_count INTEGER NOT NULL, rtt_unanswered INTEGER NOT NULL, rtt_min_dms INTEGER NOT NULL,
  rtt_mean_dms INTEGER NOT NULL, rtt_max_dms INTEGER NOT NULL, rtt_last_dms INTEGER NOT NULL,
  tap_dropped INTEGER NOT NULL,
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
  PRIMARY KEY (endpoint, epoch, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE path_interval (
  endpoint INTEGER NOT NULL, epoch INTEGER NOT NULL, sequence INTEGER NOT NULL,
  started_wall_us INTEGER NOT NULL, started_uptime_us INTEGER NOT NULL, duration_ms INTEGER NOT NULL,
  target INTEGER NOT NULL, sent INTEGER NOT NULL, lost_up INTEGER NOT NULL, lost_down INTEGER NOT NULL,
  rtt_min_dms INTEGER NOT NULL, rtt_mean_dms INTEGER NOT NULL, rtt_max_dms INTEGER NOT NULL,
  jitter_up_dms INTEGER NOT NULL, jitter_down_dms INTEGER NOT NULL,
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
  PRIMARY KEY (endpoint, hour)
) STRICT, WITHOUT ROWID;

INSERT INTO file (generation) VALUES (0);
PRAGMA application_id = 1381256516;
PRAGMA user_version = 2;
