//! One group of operations as one transaction.
//!
//! What a group touches more than once (an endpoint's row, an epoch's ledger) is read once, kept beside the
//! transaction and written back before the commit. A failed transaction leaves nothing behind, here or in the file.

use std::collections::BTreeMap;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::call::{CallClosed, CallOpened};
use roomtone_protocol::device::{DeviceEpisode, DeviceSummary, SelfTest};
use roomtone_protocol::host::HostInterval;
use roomtone_protocol::id::{CallId, EndpointId, Epoch, RecordId};
use roomtone_protocol::interval::LegIntervals;
use roomtone_protocol::loss::LossReceipt;
use roomtone_protocol::media::{LegOpened, LegSummary};
use roomtone_protocol::path::PathInterval;
use roomtone_protocol::record::Record;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::call::call_of;
use crate::store::code::{Code, pack_streams};
use crate::store::ledger::{Admission, EpochLedger};
use crate::store::rollup::{self, HourTotals, SUM_MAX};
use crate::store::{
    Attach, Content, EPOCHS_PER_ENDPOINT_MAX, Incoming, OpaqueReason, OpaqueRecord, Operation,
    RecordCounts,
};

/// Writes a group and returns, after the commit, one answer per operation.
pub(super) fn commit(
    connection: &mut Connection,
    operations: &[Operation],
    received_us: u64,
) -> rusqlite::Result<Vec<Option<Ack>>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut group = Group {
        transaction: &transaction,
        received_us: received_us as i64,
        endpoints: BTreeMap::new(),
        ledgers: BTreeMap::new(),
    };
    let mut answers = Vec::with_capacity(operations.len());
    for operation in operations {
        answers.push(match operation {
            Operation::Attach(attach) => Some(group.handle_attach(attach)?),
            Operation::Detach { endpoint } => {
                let key = group.endpoint(*endpoint)?;
                group
                    .transaction
                    .prepare_cached("UPDATE endpoint SET connected = 0 WHERE key = ?1")?
                    .execute([key])?;
                None
            }
            Operation::Record(incoming) => Some(group.handle_record(incoming)?),
        });
    }
    group.finish()?;
    transaction.commit()?;
    Ok(answers)
}

struct Group<'a> {
    transaction: &'a Transaction<'a>,
    received_us: i64,
    endpoints: BTreeMap<EndpointId, (i64, RecordCounts)>,
    ledgers: BTreeMap<(i64, Epoch), Held>,
}

/// An epoch's ledger in this group.
struct Held {
    ledger: EpochLedger,
    /// As it was read, to see what must be written.
    stored: EpochLedger,
    is_new: bool,
}

impl Group<'_> {
    fn endpoint(&mut self, endpoint: EndpointId) -> rusqlite::Result<i64> {
        if let Some((key, _)) = self.endpoints.get(&endpoint) {
            return Ok(*key);
        }
        let key = self
            .transaction
            .prepare_cached(
                "INSERT INTO endpoint (id, name, agent_version, first_seen_us, last_seen_us, connected, \
                 stored, unknown, refused, duplicate) VALUES (?1, '', '', ?2, ?2, 0, 0, 0, 0, 0) \
                 ON CONFLICT (id) DO UPDATE SET last_seen_us = max(last_seen_us, excluded.last_seen_us) \
                 RETURNING key",
            )?
            .query_row(params![endpoint.0, self.received_us], |row| row.get(0))?;
        self.endpoints.insert(endpoint, (key, RecordCounts::default()));
        Ok(key)
    }

    fn ledger(&mut self, endpoint: i64, epoch: Epoch) -> rusqlite::Result<&mut EpochLedger> {
        use std::collections::btree_map::Entry;
        match self.ledgers.entry((endpoint, epoch)) {
            Entry::Occupied(held) => Ok(&mut held.into_mut().ledger),
            Entry::Vacant(vacant) => {
                let found = read_ledger(self.transaction, endpoint, epoch)?;
                let is_new = found.is_none();
                let stored = found.unwrap_or_default();
                let held = vacant.insert(Held { ledger: stored.clone(), stored, is_new });
                Ok(&mut held.ledger)
            }
        }
    }

    fn handle_attach(&mut self, attach: &Attach) -> rusqlite::Result<Ack> {
        let key = self.endpoint(attach.endpoint)?;
        self.transaction
            .prepare_cached(
                "UPDATE endpoint SET name = ?2, agent_version = ?3, transport = ?4, remote = ?5, connected = 1 \
                 WHERE key = ?1",
            )?
            .execute(params![
                key,
                attach.name,
                attach.agent_version,
                attach.transport.code(),
                attach.remote.to_string(),
            ])?;
        // Read aside, not through `ledger`: a Hello alone must not make an epoch.
        let next = match self.ledgers.get(&(key, attach.epoch)) {
            Some(held) => held.ledger.next(),
            None => read_ledger(self.transaction, key, attach.epoch)?.unwrap_or_default().next(),
        };
        Ok(Ack { epoch: attach.epoch, next })
    }

    fn handle_record(&mut self, incoming: &Incoming) -> rusqlite::Result<Ack> {
        let key = self.endpoint(incoming.endpoint)?;
        let id = incoming.id;
        let admission = self.ledger(key, id.epoch)?.admit(id.sequence);
        let counts = self.endpoints.get_mut(&incoming.endpoint).map(|(_, counts)| counts);
        match admission {
            Admission::Duplicate => counts.into_iter().for_each(|it| it.duplicate += 1),
            Admission::New => {
                if let Some(counts) = counts {
                    counts.stored += 1;
                    if let Content::Opaque(opaque) = &incoming.content {
                        match opaque.reason {
                            OpaqueReason::UnknownKind => counts.unknown += 1,
                            OpaqueReason::Refused => counts.refused += 1,
                        }
                    }
                }
                match &incoming.content {
                    Content::Known(record) => self.store(key, id, record)?,
                    Content::Opaque(opaque) => self.store_opaque(key, id, opaque)?,
                }
            }
        }
        let next = self.ledger(key, id.epoch)?.next();
        Ok(Ack { epoch: id.epoch, next })
    }

    fn store(&mut self, key: i64, id: RecordId, record: &Record) -> rusqlite::Result<()> {
        if let Some(call) = call_of(record) {
            self.touch_call(key, call)?;
        }
        match record {
            Record::CallOpened(it) => self.store_call_opened(key, id, it),
            Record::CallClosed(it) => self.store_call_closed(key, id, it),
            Record::LegOpened(it) => self.store_leg(key, id, it),
            Record::LegIntervals(it) => self.store_intervals(key, id, it),
            Record::LegSummary(it) => self.store_summary(key, id, it),
            Record::DeviceEpisode(it) => self.store_episode(key, id, it),
            Record::DeviceSummary(it) => self.store_device(key, id, it),
            Record::HostInterval(it) => self.store_host(key, id, it),
            Record::PathInterval(it) => self.store_path(key, id, it),
            Record::LossReceipt(it) => self.store_receipt(key, id, it),
            Record::SelfTest(it) => self.store_self_test(key, id, it),
            Record::NetworkAttachment(_) | Record::ClientEvents(_) => Ok(()),
        }
    }

    fn touch_call(&self, key: i64, call: CallId) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO call (endpoint, call, first_received_us, last_received_us) VALUES (?1, ?2, ?3, ?3) \
                 ON CONFLICT DO UPDATE SET last_received_us = max(last_received_us, excluded.last_received_us)",
            )?
            .execute(params![key, call.0 as i64, self.received_us])?;
        Ok(())
    }

    fn store_call_opened(&self, key: i64, id: RecordId, it: &CallOpened) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO call_opened VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET \
                 epoch = excluded.epoch, sequence = excluded.sequence, opened_wall_us = excluded.opened_wall_us, \
                 opened_uptime_us = excluded.opened_uptime_us, purpose = excluded.purpose \
                 WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                it.call.0 as i64,
                id.epoch.0,
                id.sequence.0,
                it.opened.wall_us as i64,
                it.opened.uptime_us as i64,
                it.purpose.code(),
            ])?;
        Ok(())
    }

    fn store_call_closed(&self, key: i64, id: RecordId, it: &CallClosed) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO call_closed VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET \
                 epoch = excluded.epoch, sequence = excluded.sequence, closed_wall_us = excluded.closed_wall_us, \
                 closed_uptime_us = excluded.closed_uptime_us, reason = excluded.reason, legs = excluded.legs \
                 WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                it.call.0 as i64,
                id.epoch.0,
                id.sequence.0,
                it.closed.wall_us as i64,
                it.closed.uptime_us as i64,
                it.reason.code(),
                it.legs,
            ])?;
        Ok(())
    }

    fn store_leg(&self, key: i64, id: RecordId, it: &LegOpened) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO leg VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO UPDATE SET \
                 epoch = excluded.epoch, sequence = excluded.sequence, opened_wall_us = excluded.opened_wall_us, \
                 opened_uptime_us = excluded.opened_uptime_us, local = excluded.local, remote = excluded.remote, \
                 transport = excluded.transport WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                it.call.0 as i64,
                it.leg.0,
                id.epoch.0,
                id.sequence.0,
                it.opened.wall_us as i64,
                it.opened.uptime_us as i64,
                it.local.to_string(),
                it.remote.to_string(),
                it.transport.code(),
            ])?;
        let (hour, totals) = rollup::of_leg(it);
        self.add_hour(key, hour, &totals)
    }

    fn store_intervals(&self, key: i64, id: RecordId, it: &LegIntervals) -> rusqlite::Result<()> {
        // Known already only where its epoch's watermark was forgotten: then it must not count twice.
        let written = self
            .transaction
            .prepare_cached("INSERT OR IGNORE INTO leg_interval VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
            .execute(params![
                key,
                it.call.0 as i64,
                it.leg.0,
                it.first,
                id.epoch.0,
                id.sequence.0,
                it.started_wall_ms as i64,
                it.pack.len() as i64,
                pack_streams(&it.streams),
                it.pack.bytes(),
            ])?;
        if written == 0 {
            return Ok(());
        }
        for (hour, totals) in rollup::of_intervals(it) {
            self.add_hour(key, hour, &totals)?;
        }
        Ok(())
    }

    fn store_summary(&self, key: i64, id: RecordId, it: &LegSummary) -> rusqlite::Result<()> {
        let call = it.call.0 as i64;
        let written = self
            .transaction
            .prepare_cached(
                "INSERT INTO leg_summary VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
                 ON CONFLICT DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, \
                 closed_wall_us = excluded.closed_wall_us, closed_uptime_us = excluded.closed_uptime_us, \
                 rtt_count = excluded.rtt_count, rtt_unanswered = excluded.rtt_unanswered, \
                 rtt_min_dms = excluded.rtt_min_dms, rtt_mean_dms = excluded.rtt_mean_dms, \
                 rtt_max_dms = excluded.rtt_max_dms, rtt_last_dms = excluded.rtt_last_dms, \
                 tap_dropped = excluded.tap_dropped \
                 WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                call,
                it.leg.0,
                id.epoch.0,
                id.sequence.0,
                it.closed.wall_us as i64,
                it.closed.uptime_us as i64,
                it.rtt.count,
                it.rtt.unanswered,
                it.rtt.min_dms,
                it.rtt.mean_dms,
                it.rtt.max_dms,
                it.rtt.last_dms,
                it.tap_dropped as i64,
            ])?;
        if written == 0 {
            return Ok(());
        }
        self.transaction
            .prepare_cached(
                "DELETE FROM stream_summary WHERE endpoint = ?1 AND call = ?2 AND leg = ?3",
            )?
            .execute(params![key, call, it.leg.0])?;
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO stream_summary VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
             ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
        )?;
        for (position, stream) in it.streams.iter().enumerate() {
            insert.execute(params![
                key,
                call,
                it.leg.0,
                position as i64,
                u32::from_le_bytes(stream.key.ssrc),
                stream.key.direction.code(),
                stream.key.media.code(),
                &stream.payload_types[..],
                stream.clock_rate_hz,
                stream.clock_rate_source.code(),
                stream.first_us as i64,
                stream.last_us as i64,
                stream.received as i64,
                stream.expected as i64,
                stream.lost as i64,
                stream.duplicate as i64,
                stream.reordered as i64,
                stream.sequence_restarts,
                stream.jitter_mean_dms,
                stream.jitter_max_dms,
                stream.jitter_last_dms,
            ])?;
        }
        Ok(())
    }

    fn store_episode(&self, key: i64, id: RecordId, it: &DeviceEpisode) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO device_episode VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
                 ON CONFLICT DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, \
                 call = excluded.call, device = excluded.device, side = excluded.side, cause = excluded.cause, \
                 onset_wall_us = excluded.onset_wall_us, onset_uptime_us = excluded.onset_uptime_us, \
                 bad_us = excluded.bad_us, state = excluded.state \
                 WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                it.episode as i64,
                id.epoch.0,
                id.sequence.0,
                it.call.map(|call| call.0 as i64),
                it.device.as_str(),
                it.side.code(),
                it.cause.code(),
                it.onset.wall_us as i64,
                it.onset.uptime_us as i64,
                it.bad_us as i64,
                it.state.code(),
            ])?;
        Ok(())
    }

    fn store_device(&self, key: i64, id: RecordId, it: &DeviceSummary) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT INTO device_summary VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) \
                 ON CONFLICT DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence, \
                 not_functioning_part_us = excluded.not_functioning_part_us, \
                 not_functioning_whole_us = excluded.not_functioning_whole_us, \
                 muted_part_us = excluded.muted_part_us, muted_whole_us = excluded.muted_whole_us, \
                 episodes = excluded.episodes, detector = excluded.detector, \
                 zero_volume_part_us = excluded.zero_volume_part_us, \
                 zero_volume_whole_us = excluded.zero_volume_whole_us, glitches = excluded.glitches \
                 WHERE excluded.epoch <> epoch OR excluded.sequence > sequence",
            )?
            .execute(params![
                key,
                it.call.0 as i64,
                it.side.code(),
                it.device.as_str(),
                id.epoch.0,
                id.sequence.0,
                it.not_functioning.part_us() as i64,
                it.not_functioning.whole_us() as i64,
                it.muted.part_us() as i64,
                it.muted.whole_us() as i64,
                it.episodes,
                it.detector,
                it.zero_volume.map(|ratio| ratio.part_us() as i64),
                it.zero_volume.map(|ratio| ratio.whole_us() as i64),
                it.glitches,
            ])?;
        Ok(())
    }

    fn store_self_test(&self, key: i64, id: RecordId, it: &SelfTest) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO self_test VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                key,
                id.epoch.0,
                id.sequence.0,
                self.received_us,
                it.ended.wall_us as i64,
                it.ended.uptime_us as i64,
                it.requested,
                it.capture.as_str(),
                it.render.as_str(),
                it.outcome.code(),
                it.level_db_tenths,
                it.delay_us,
            ])?;
        Ok(())
    }

    fn store_host(&self, key: i64, id: RecordId, it: &HostInterval) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("INSERT OR IGNORE INTO host_interval VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)")?
            .execute(params![
                key,
                id.epoch.0,
                id.sequence.0,
                it.started.wall_us as i64,
                it.started.uptime_us as i64,
                it.duration_ms,
                it.cpu_permille,
                it.memory_permille,
                it.cpu_pressure_permille,
                it.temperature_deci_celsius,
            ])?;
        Ok(())
    }

    fn store_path(&self, key: i64, id: RecordId, it: &PathInterval) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO path_interval VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?
            .execute(params![
                key,
                id.epoch.0,
                id.sequence.0,
                it.started.wall_us as i64,
                it.started.uptime_us as i64,
                it.duration_ms,
                it.target.code(),
                it.sent,
                it.lost_up,
                it.lost_down,
                it.rtt_min_dms,
                it.rtt_mean_dms,
                it.rtt_max_dms,
                it.jitter_up_dms,
                it.jitter_down_dms,
            ])?;
        Ok(())
    }

    fn store_receipt(&mut self, key: i64, id: RecordId, it: &LossReceipt) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO loss_receipt VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                key,
                id.epoch.0,
                id.sequence.0,
                it.epoch.0,
                it.first.0,
                it.last.0,
                it.cause.code(),
                it.noticed.wall_us as i64,
                it.noticed.uptime_us as i64,
            ])?;
        self.ledger(key, it.epoch)?.report_lost(it.first, it.last);
        Ok(())
    }

    fn store_opaque(&self, key: i64, id: RecordId, it: &OpaqueRecord) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("INSERT OR IGNORE INTO opaque_record VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
                key,
                id.epoch.0,
                id.sequence.0,
                it.kind,
                it.reason.code(),
                &it.body[..]
            ])?;
        Ok(())
    }

    fn add_hour(&self, key: i64, hour: u64, it: &HourTotals) -> rusqlite::Result<()> {
        // SQL integers that overflow become floats, which a STRICT table refuses: sums stop at SUM_MAX (?13).
        self.transaction
            .prepare_cached(
                "INSERT INTO endpoint_hour VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) \
                 ON CONFLICT DO UPDATE SET \
                 legs = min(legs + excluded.legs, ?13), \
                 intervals = min(intervals + excluded.intervals, ?13), \
                 packets = min(packets + excluded.packets, ?13), \
                 lost = max(min(lost + excluded.lost, ?13), -?13), \
                 jitter_sum_dms = min(jitter_sum_dms + excluded.jitter_sum_dms, ?13), \
                 jitter_count = min(jitter_count + excluded.jitter_count, ?13), \
                 jitter_max_dms = max(jitter_max_dms, excluded.jitter_max_dms), \
                 rtt_sum_dms = min(rtt_sum_dms + excluded.rtt_sum_dms, ?13), \
                 rtt_count = min(rtt_count + excluded.rtt_count, ?13), \
                 rtt_max_dms = max(rtt_max_dms, excluded.rtt_max_dms)",
            )?
            .execute(params![
                key,
                hour as i64,
                it.legs,
                it.intervals,
                it.packets,
                it.lost,
                it.jitter_sum_dms,
                it.jitter_count,
                it.jitter_max_dms,
                it.rtt_sum_dms,
                it.rtt_count,
                it.rtt_max_dms,
                SUM_MAX,
            ])?;
        Ok(())
    }

    /// Writes back what was kept beside the transaction.
    fn finish(self) -> rusqlite::Result<()> {
        for (key, counts) in self.endpoints.values() {
            if *counts == RecordCounts::default() {
                continue;
            }
            self.transaction
                .prepare_cached(
                    "UPDATE endpoint SET stored = stored + ?2, unknown = unknown + ?3, refused = refused + ?4, \
                     duplicate = duplicate + ?5 WHERE key = ?1",
                )?
                .execute(params![
                    key,
                    counts.stored as i64,
                    counts.unknown as i64,
                    counts.refused as i64,
                    counts.duplicate as i64,
                ])?;
        }
        for ((key, epoch), held) in &self.ledgers {
            let ledger = &held.ledger;
            self.transaction
                .prepare_cached(
                    "INSERT INTO watermark VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET \
                     next = excluded.next, closed_missing = excluded.closed_missing, \
                     reported_lost = excluded.reported_lost, changed_us = excluded.changed_us",
                )?
                .execute(params![
                    key,
                    epoch.0,
                    ledger.next().0,
                    ledger.closed_missing() as i64,
                    ledger.reported_lost() as i64,
                    self.received_us,
                ])?;
            if !ledger.gaps().eq(held.stored.gaps()) {
                self.write_gaps(*key, *epoch, ledger)?;
            }
        }
        for ((key, _), _) in self.ledgers.iter().filter(|(_, held)| held.is_new) {
            self.forget_surplus_epochs(*key)?;
        }
        Ok(())
    }

    fn write_gaps(&self, key: i64, epoch: Epoch, ledger: &EpochLedger) -> rusqlite::Result<()> {
        self.transaction
            .prepare_cached("DELETE FROM gap WHERE endpoint = ?1 AND epoch = ?2")?
            .execute(params![key, epoch.0])?;
        let mut insert =
            self.transaction.prepare_cached("INSERT INTO gap VALUES (?1, ?2, ?3, ?4)")?;
        for (first, last) in ledger.gaps() {
            insert.execute(params![key, epoch.0, first, last])?;
        }
        Ok(())
    }

    fn forget_surplus_epochs(&self, key: i64) -> rusqlite::Result<()> {
        let forgotten = self
            .transaction
            .prepare_cached(
                "DELETE FROM watermark WHERE endpoint = ?1 AND epoch IN (SELECT epoch FROM watermark \
                 WHERE endpoint = ?1 ORDER BY changed_us DESC, epoch DESC LIMIT -1 OFFSET ?2)",
            )?
            .execute(params![key, EPOCHS_PER_ENDPOINT_MAX as i64])?;
        if forgotten > 0 {
            self.transaction
                .prepare_cached(
                    "DELETE FROM gap WHERE endpoint = ?1 AND epoch NOT IN \
                     (SELECT epoch FROM watermark WHERE endpoint = ?1)",
                )?
                .execute([key])?;
        }
        Ok(())
    }
}

fn read_ledger(
    transaction: &Transaction<'_>,
    key: i64,
    epoch: Epoch,
) -> rusqlite::Result<Option<EpochLedger>> {
    let watermark = transaction
        .prepare_cached(
            "SELECT next, closed_missing, reported_lost FROM watermark WHERE endpoint = ?1 AND epoch = ?2",
        )?
        .query_row(params![key, epoch.0], |row| {
            Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as u64))
        })
        .optional()?;
    let Some((next, closed_missing, reported_lost)) = watermark else {
        return Ok(None);
    };
    let mut gaps = transaction
        .prepare_cached("SELECT first, last FROM gap WHERE endpoint = ?1 AND epoch = ?2")?;
    let gaps = gaps
        .query_map(params![key, epoch.0], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<Vec<(u32, u32)>>>()?;
    Ok(Some(EpochLedger::from_parts(next, gaps, closed_missing, reported_lost)))
}
