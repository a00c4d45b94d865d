//! One group of operations as one transaction.
//!
//! What a group touches more than once (an endpoint's row, an epoch's ledger) is read once, kept beside the
//! transaction and written back before the commit. A failed transaction leaves nothing behind, here or in the file.

mod call;
mod device;
mod environment;
mod summary;

use std::collections::BTreeMap;

use roomtone_protocol::ack::Ack;
use roomtone_protocol::id::{EndpointId, Epoch, RecordId};
use roomtone_protocol::loss::LossReceipt;
use roomtone_protocol::record::Record;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::call::call_of;
use crate::store::code::Code;
use crate::store::ledger::{Admission, EpochLedger};
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
            Record::NetworkAttachment(it) => self.store_network(key, id, it),
            Record::ClientEvents(it) => self.store_events(key, id, it),
        }
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
