//! Whether the database is the one we left, and what its epoch is.
//!
//! The mark is written after each commit and before anybody hears of it. So a
//! database at or after its mark lacks nothing that anybody was told, and one
//! before it went back in time.

use rusqlite::{Connection, params};

use super::fault::damage;
use super::highwater::Mark;
use super::journal::{JournalState, chain_value};
use super::{Regression, StoreError};
use crate::model::Epoch;

/// Events at the end whose chain is checked at every start. The rest is read
/// in the background, so that a start takes the same time however long the journal.
const TAIL: usize = 256;

/// Bytes of events after which checking the tail ends early.
const TAIL_BYTES: usize = 4 * 1024 * 1024;

/// Checks that the counters and the newest events agree with each other.
///
/// # Errors
/// [`StoreError::Sql`] with `SQLITE_CORRUPT` if they do not.
pub fn check_tail(connection: &Connection, state: Option<&JournalState>) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare("SELECT seq, body, chain FROM event ORDER BY seq DESC LIMIT ?1")?;
    let mut rows = statement.query([TAIL as u64 + 1])?;
    let (mut checked, mut bytes) = (0, 0);
    // The chain value of the row looked at last, and its body.
    let mut newer: Option<([u8; 32], Vec<u8>)> = None;
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        let (body, chain): (Vec<u8>, [u8; 32]) = (row.get(1)?, row.get(2)?);
        let sound = match (&newer, state) {
            (Some((expected, body)), _) => *expected == chain_value(&chain, body),
            (None, Some(state)) => seq < state.next && chain == state.chain,
            (None, None) => false,
        };
        if !sound {
            return Err(damage(&format!("the chain of events breaks after position {seq}")).into());
        }
        checked += 1;
        bytes += body.len();
        if bytes > TAIL_BYTES {
            break;
        }
        newer = Some((chain, body));
    }
    let expected = state.map_or(0, |state| state.events);
    if checked == 0 && expected > 0 {
        return Err(damage(&format!("{expected} events are missing")).into());
    }
    Ok(())
}

/// Decides which epoch goes on: the one we left, or a new one because the store
/// is not where the mark says it was.
pub fn settle_epoch(
    found: Option<&JournalState>,
    mark: Option<Mark>,
    inode: u64,
) -> (JournalState, Option<Regression>) {
    let Some(state) = found else {
        let handed_out = mark.map_or(0, |mark| mark.seq);
        let next = handed_out + 1;
        let (epoch, chain) = (random_epoch(), [0; 32]);
        let fresh = JournalState { epoch, oldest: next, next, events: 0, bytes: 0, chain };
        // A mark at 0 is from a first start that got no further.
        let lost = mark.filter(|mark| mark.seq > 0).map(|mark| Regression {
            from: 1,
            to: mark.seq,
            previous: Some(mark.epoch),
        });
        return (fresh, lost);
    };
    let same = mark.is_some_and(|mark| mark.epoch == state.epoch && mark.inode == inode);
    let marked = mark.map_or(0, |mark| mark.seq);
    if same && marked < state.next {
        return (state.clone(), None);
    }
    let lost = Regression { from: state.next, to: marked, previous: Some(state.epoch) };
    let next = state.next.max(marked + 1);
    (JournalState { epoch: random_epoch(), next, ..state.clone() }, Some(lost))
}

/// Stores the counters, and where the epoch before ended, as one.
pub fn begin(
    connection: &mut Connection,
    found: Option<&JournalState>,
    state: &JournalState,
) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    if let Some(previous) = found.filter(|found| found.epoch != state.epoch) {
        transaction.execute(
            "INSERT OR REPLACE INTO epoch (epoch, last_seq) VALUES (?1, ?2)",
            params![previous.epoch.0, previous.next - 1],
        )?;
    }
    state.save(&transaction, false)?;
    Ok(transaction.commit()?)
}

pub fn earlier_epochs(connection: &Connection) -> Result<Vec<(Epoch, u64)>, StoreError> {
    let mut statement = connection.prepare("SELECT epoch, last_seq FROM epoch")?;
    let rows = statement.query_map([], |row| Ok((Epoch(row.get(0)?), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn random_epoch() -> Epoch {
    // Version 4 bits sit elsewhere; the first 32 bits are random.
    let (high, ..) = uuid::Uuid::new_v4().as_fields();
    Epoch(high)
}
