//! The checks. Each is told in the order in which things happen.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use tokio::time::sleep;

use super::model::{
    Image, Message, Read, Row, Write, changes, compare_with_writes, fold, table_after,
};
use super::reader::{Reader, needs, own, wait_for_acknowledgement};
use super::{Acknowledged, Subject, Violation};
use crate::batch::Op;
use crate::position::Position;
use crate::source::{Identity, Source as _, SourceError, Start, State};

/// The row that is inserted last, so that a reader knows when it has everything.
const LAST: i64 = 1_000_000;

/// Rows that exist at first start.
fn existing() -> Vec<Write> {
    vec![Write::insert(1), Write::insert(2), Write::insert(3)]
}

/// Transactions after it.
fn story() -> Vec<Vec<Write>> {
    vec![
        vec![Write::insert(4), Write::insert(5), Write::insert(6)],
        vec![Write::rename(1, "renamed")],
        vec![Write::Delete { id: 2 }, Write::insert(7)],
        vec![
            Write::Rekey { from: 3, to: 8 },
            Write::rename(4, "renamed"),
            Write::Rename { id: 5, name: None },
        ],
        vec![Write::rename(4, "renamed again"), Write::Delete { id: 6 }],
        vec![Write::insert(LAST)],
    ]
}

async fn commit_all<S: Subject>(subject: &S, transactions: &[Vec<Write>]) -> Result<(), Violation> {
    for writes in transactions {
        subject.commit(writes).await?;
    }
    Ok(())
}

/// Where the stream begins, and all of it, nothing acknowledged.
struct Told {
    start: Position,
    stream: Vec<Message>,
}

/// Starts the source on the existing rows, tells the story, and reads it to the end.
async fn tell<S: Subject>(subject: &S) -> Result<Told, Violation> {
    subject.commit(&existing()).await?;
    let mut reader = Reader::first(subject).await?;
    let (_, start) = reader.read_to_snapshot_end().await?;
    commit_all(subject, &story()).await?;
    let stream = reader.read_to_insert_of(LAST).await?;
    compare_with_writes(&stream, &story())?;
    Ok(Told { start, stream })
}

/// `messages` without idle positions, which come or not.
fn without_idle(messages: &[Message]) -> Vec<&Message> {
    messages
        .iter()
        .filter(|message| !matches!(message, Message::Idle(_)))
        .collect()
}

fn expect_same(read: &[Message], expected: &[Message], when: &str) -> Result<(), Violation> {
    let (read, expected) = (without_idle(read), without_idle(expected));
    if read == expected {
        return Ok(());
    }
    let at = read
        .iter()
        .zip(&expected)
        .take_while(|(read, expected)| read == expected)
        .count();
    Err(Violation::new(format!(
        "{when}, message {at} is {:?}, expected was {:?}",
        read.get(at),
        expected.get(at)
    )))
}

pub(super) async fn resumes_from_every_position<S: Subject>(subject: &S) -> Result<(), Violation> {
    let Told { start, stream } = tell(subject).await?;
    let positions = stream
        .iter()
        .enumerate()
        .filter_map(|(at, message)| match message {
            Message::Commit(position) | Message::Idle(position) => Some((at + 1, position)),
            _ => None,
        });
    for (at, position) in std::iter::once((0, &start)).chain(positions) {
        if at == stream.len() {
            break; // Nothing follows the last position.
        }
        let mut reader = Reader::resume(subject, position).await?;
        let rest = reader.read_to_insert_of(LAST).await?;
        expect_same(&rest, &stream[at..], &format!("resumed from {position}"))?;
    }
    Ok(())
}

pub(super) async fn positions_rise_and_round_trip<S: Subject>(
    subject: &S,
) -> Result<(), Violation> {
    let Told { start, stream } = tell(subject).await?;
    let mut last_end = start;
    let mut last_begin = None;
    for message in &stream {
        match message {
            Message::Begin(transaction) => {
                let begin = &transaction.position;
                round_trips(begin)?;
                if last_begin.as_ref() >= Some(begin) || *begin < last_end {
                    return Err(Violation::new(format!(
                        "a transaction at {begin} follows one that ends at {last_end}"
                    )));
                }
                last_begin = Some(begin.clone());
            }
            Message::Commit(end) => {
                round_trips(end)?;
                if last_begin.as_ref() >= Some(end) || *end <= last_end {
                    return Err(Violation::new(format!(
                        "a commit at {end} follows one at {last_end}"
                    )));
                }
                last_end = end.clone();
            }
            Message::Idle(end) => {
                round_trips(end)?;
                if *end < last_end {
                    return Err(Violation::new(format!(
                        "an idle position {end} follows {last_end}"
                    )));
                }
                last_end = end.clone();
            }
            Message::Change(_) | Message::SnapshotEnd(_) => {}
        }
    }
    Ok(())
}

fn round_trips(position: &Position) -> Result<(), Violation> {
    match position.to_string().parse::<Position>() {
        Ok(parsed) if parsed == *position => Ok(()),
        other => Err(Violation::new(format!(
            "{position} reads back as {other:?}"
        ))),
    }
}

pub(super) async fn survives_a_cut_at_every_message<S: Subject>(
    subject: &S,
) -> Result<(), Violation> {
    let Told { start, stream } = tell(subject).await?;
    let whole = changes(&stream);
    for cut in 1..without_idle(&stream).len() {
        let mut reader = Reader::resume(subject, &start).await?;
        let mut read = Vec::new();
        while without_idle(&read).len() < cut {
            read.push(reader.next("another message before the cut").await?);
        }
        drop(reader);

        // As the pipeline does: back to the last commit, then past what was done of the next transaction.
        let ended = |message: &&Message| matches!(message, Message::Commit(_) | Message::Idle(_));
        let finished = read
            .iter()
            .rposition(|message| ended(&message))
            .map_or(0, |at| at + 1);
        let position = match read.get(finished.wrapping_sub(1)) {
            Some(Message::Commit(position) | Message::Idle(position)) => position.clone(),
            _ => start.clone(),
        };
        let skip = changes(&read[finished..]).len();
        let mut reader = Reader::resume(subject, &position).await?;
        let rest = reader.read_to_insert_of(LAST).await?;
        let both: Vec<_> = changes(&read)
            .into_iter()
            .chain(changes(&rest).into_iter().skip(skip))
            .collect();
        if both != whole {
            let at = both
                .iter()
                .zip(&whole)
                .take_while(|(both, whole)| both == whole)
                .count();
            return Err(Violation::new(format!(
                "cut after message {cut} and resumed from {position}, {} changes of {} were read, the first wrong one is {at}",
                both.len(),
                whole.len()
            )));
        }
    }
    Ok(())
}

/// Rows and bytes of each that do not fit into any buffer on the way.
const STALL_ROWS: i64 = 400;
const STALL_NOTES_BYTES: usize = 20_000;

pub(super) async fn keeps_the_link_while_stalled<S: Subject>(subject: &S) -> Result<(), Violation> {
    let mut reader = Reader::first(subject).await?;
    reader.read_to_snapshot_end().await?;
    let large = |id| {
        Write::Insert(Row {
            notes: Some(large_notes(STALL_NOTES_BYTES)),
            ..Row::new(id)
        })
    };
    let transactions: Vec<Vec<Write>> = (0..STALL_ROWS)
        .map(|id| vec![large(id)])
        .chain([vec![Write::insert(LAST)]])
        .collect();
    commit_all(subject, &transactions).await?;
    // The stall itself: nothing is read for longer than the server waits.
    sleep(subject.timeout() * 3).await;
    if reader.has_ended() {
        let end = reader.ended().await?;
        return Err(Violation::new(format!(
            "the run ended while its consumer stalled: {end:?}"
        )));
    }
    let stream = reader.read_to_insert_of(LAST).await?;
    compare_with_writes(&stream, &transactions)
}

pub(super) async fn never_acknowledges_ahead<S: Subject>(subject: &S) -> Result<(), Violation> {
    subject.commit(&existing()).await?;
    let mut reader = Reader::first(subject).await?;
    let (_, start) = reader.read_to_snapshot_end().await?;
    let told = |acknowledged| match acknowledged {
        Acknowledged::UpTo(told) if told > start.order() => Err(Violation::new(
            "something was acknowledged before any commit",
        )),
        _ => Ok(()),
    };
    told(subject.acknowledged().await?)?;
    commit_all(subject, &story()).await?;
    let stream = reader.read_to_insert_of(LAST).await?;
    told(subject.acknowledged().await?)?;

    // Of all that was read, the consumer commits transaction by transaction, but for the last one.
    let ends: Vec<&Position> = stream
        .iter()
        .filter_map(|message| match message {
            Message::Commit(end) => Some(end),
            _ => None,
        })
        .collect();
    for end in &ends[..ends.len() - 1] {
        reader.acknowledge(end);
        wait_for_acknowledgement(subject, end).await?;
    }
    drop(reader);

    // What it did not commit must still be there.
    let committed = ends[ends.len() - 2];
    let mut reader = Reader::resume(subject, committed).await?;
    let rest = reader.read_to_insert_of(LAST).await?;
    let at = stream
        .iter()
        .position(|message| *message == Message::Commit(committed.clone()));
    expect_same(
        &rest,
        &stream[at.map_or(0, |at| at + 1)..],
        "after what was acknowledged",
    )
}

pub(super) async fn shuts_down_in_time<S: Subject>(subject: &S) -> Result<(), Violation> {
    let mut reader = Reader::first(subject).await?;
    reader.read_to_snapshot_end().await?;
    subject.commit(&[Write::insert(1)]).await?;
    let stream = reader.read_to_insert_of(1).await?;
    let Some(Message::Commit(end)) = stream.last() else {
        return Err(Violation::new("the stream does not end with a commit"));
    };
    // The consumer commits what it has after it was told to stop, as a draining pipeline does.
    reader.shut_down();
    reader.acknowledge(end);
    reader.stop_acknowledging();
    reader
        .ended()
        .await?
        .map_err(|error| Violation::new(format!("the shutdown failed: {error}")))?;
    wait_for_acknowledgement(subject, end).await?;
    drop(reader);

    // A consumer that commits nothing more must not keep it from stopping, and is not acknowledged.
    let mut reader = Reader::resume(subject, end).await?;
    subject.commit(&[Write::insert(2)]).await?;
    reader.read_to_insert_of(2).await?;
    reader.shut_down();
    reader.stop_acknowledging();
    reader
        .ended()
        .await?
        .map_err(|error| Violation::new(format!("the shutdown failed: {error}")))?;
    wait_for_acknowledgement(subject, end).await
}

pub(super) async fn refuses_another_database<S: Subject>(subject: &S) -> Result<(), Violation> {
    let Told { start, .. } = tell(subject).await?;
    let (source, identity) = own(subject).await?;
    let recorded = Identity {
        source: format!("{}/other", identity.source),
        ..identity
    };
    let start = Start::Resume {
        position: start,
        recorded,
    };
    let mut reader = Reader::start(subject, source, start);
    match reader.ended().await? {
        Err(SourceError::Refused {
            state: State::WrongSource,
            ..
        }) => Ok(()),
        other => Err(Violation::new(format!(
            "a position of another database was not refused as WRONG_SOURCE: {other:?}"
        ))),
    }
}

/// Rows at first start, and transactions that hit them while they are read.
const SNAPSHOT_ROWS: i64 = 300;
const SNAPSHOT_WRITES: i64 = 60;

pub(super) async fn fixes_a_moment<S: Subject>(subject: &S) -> Result<(), Violation> {
    subject.commit(&existing()).await?;
    let mut reader = Reader::first(subject).await?;
    reader.read_to_snapshot_end().await?;
    drop(reader);
    let story = story();
    let (before, after) = story.split_at(story.len() / 2);
    commit_all(subject, before).await?;
    let (mut source, _) = own(subject).await?;
    let moment = source.freeze(&[needs(subject)]).await?;
    commit_all(subject, after).await?;

    let mut reader = Reader::start(subject, source, Start::Frozen);
    let (rows, end) = reader.read_to_snapshot_end().await?;
    if end != moment.position {
        return Err(Violation::new(format!(
            "the rows are as of {end}, and the moment that was fixed is {}",
            moment.position
        )));
    }
    reader.ended().await??;
    let (rows, there) = (fold(&rows), [&[existing()], before].concat());
    let there = table_after(&there);
    if rows != there {
        return Err(Violation::new(format!(
            "the rows of the moment are {rows:?}, there were {there:?}"
        )));
    }
    let mut reader = Reader::resume(subject, &moment.position).await?;
    let stream = reader.read_to_insert_of(LAST).await?;
    compare_with_writes(&stream, after)?;
    let is_early = |message: &&Message| matches!(message, Message::Begin(transaction) if transaction.position < moment.next);
    match stream.iter().find(is_early) {
        Some(early) => Err(Violation::new(format!(
            "{early:?} is not in the rows, and before {}",
            moment.next
        ))),
        None => Ok(()),
    }
}

pub(super) async fn hands_over_from_snapshot_to_stream<S: Subject>(
    subject: &S,
) -> Result<(), Violation> {
    let rows: Vec<Write> = (0..SNAPSHOT_ROWS).map(Write::insert).collect();
    subject.commit(&rows).await?;
    // Half of the transactions come before the end of the snapshot, which is interrupted once.
    let touch = |n: i64| match n % 3 {
        0 => vec![
            Write::rename(n * 4, "renamed"),
            Write::insert(SNAPSHOT_ROWS + n),
        ],
        1 => vec![Write::Delete { id: n * 4 }],
        _ => vec![Write::Rekey {
            from: n * 4,
            to: LAST - n,
        }],
    };
    let mut writes: Vec<Vec<Write>> = (0..SNAPSHOT_WRITES).map(touch).collect();
    writes.push(vec![Write::insert(LAST)]);
    let (during, after) = writes.split_at(writes.len() / 2);
    let (interrupted, resumed) = during.split_at(during.len() / 2);

    let mut reader = Reader::first(subject).await?;
    let mut read = vec![reader.next("the first row of the snapshot").await?];
    commit_all(subject, interrupted).await?;
    drop(reader);

    // A commit for each message that comes, so that they fall between the snapshot's point and its end.
    let mut reader = Reader::first(subject).await?;
    let mut resumed = resumed.iter();
    loop {
        let message = reader.next("the end of the snapshot").await?;
        commit_all(
            subject,
            resumed.next().map(std::slice::from_ref).unwrap_or_default(),
        )
        .await?;
        let done = matches!(message, Message::SnapshotEnd(_));
        read.push(message);
        if done {
            break;
        }
    }
    commit_all(subject, resumed.as_slice()).await?;
    commit_all(subject, after).await?;
    read.extend(reader.read_to_insert_of(LAST).await?);

    let reads = changes(&read)
        .iter()
        .filter(|seen| seen.op == Op::Read)
        .count();
    if reads == 0 {
        return Err(Violation::new("no existing row was read"));
    }
    let mut all = vec![rows];
    all.extend(writes);
    expect_table(&fold(&read), &table_after(&all))
}

fn expect_table(
    rebuilt: &BTreeMap<i64, Image>,
    table: &BTreeMap<i64, Image>,
) -> Result<(), Violation> {
    let keys = rebuilt.keys().chain(table.keys());
    match keys
        .into_iter()
        .find(|key| rebuilt.get(key) != table.get(key))
    {
        None => Ok(()),
        Some(key) => Err(Violation::new(format!(
            "row {key} was rebuilt as {:?}, the table has {:?}",
            rebuilt.get(key),
            table.get(key)
        ))),
    }
}

/// Text that no compression makes small, so that a database stores it out of line.
fn large_notes(bytes: usize) -> String {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut text = String::with_capacity(bytes);
    while text.len() < bytes {
        // Xorshift: no dependency, the same on every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        write!(text, "{state:016x}").expect("a String takes all writes");
    }
    text
}

pub(super) async fn unavailable_is_never_null<S: Subject>(subject: &S) -> Result<(), Violation> {
    let mut reader = Reader::first(subject).await?;
    reader.read_to_snapshot_end().await?;
    let large = Row {
        notes: Some(large_notes(STALL_NOTES_BYTES)),
        ..Row::new(1)
    };
    let empty = Row {
        id: 2,
        name: None,
        notes: None,
    };
    let writes = vec![
        vec![Write::Insert(large.clone()), Write::Insert(empty.clone())],
        vec![Write::rename(1, "renamed"), Write::rename(2, "renamed")],
        vec![Write::Rekey { from: 1, to: 3 }],
        vec![Write::Delete { id: 3 }, Write::Delete { id: 2 }],
        vec![Write::insert(LAST)],
    ];
    commit_all(subject, &writes).await?;
    let stream = reader.read_to_insert_of(LAST).await?;
    compare_with_writes(&stream, &writes)?;

    let mut rows = BTreeMap::new();
    for (seen, write) in changes(&stream).into_iter().zip(writes.iter().flatten()) {
        let (id, new) = match write {
            Write::Insert(row) => (row.id, Some(row.clone())),
            Write::Rename { id, name } => (
                *id,
                rows.get(id).map(|row: &Row| Row {
                    name: name.clone(),
                    ..row.clone()
                }),
            ),
            Write::Rekey { from, to } => (
                *from,
                rows.get(from).map(|row: &Row| Row {
                    id: *to,
                    ..row.clone()
                }),
            ),
            Write::Delete { id } => (*id, None),
        };
        let old = rows.remove(&id);
        expect_honest(seen.before.as_ref(), old.as_ref(), "before", id)?;
        expect_honest(seen.after.as_ref(), new.as_ref(), "after", id)?;
        rows.extend(new.map(|new| (new.id, new)));
    }
    Ok(())
}

/// An image has what the row had, cell by cell, or says that it does not know.
fn expect_honest(
    image: Option<&Image>,
    row: Option<&Row>,
    which: &str,
    id: i64,
) -> Result<(), Violation> {
    let (image, row) = match (image, row) {
        (None, None) => return Ok(()),
        (Some(image), Some(row)) => (image, Image::from(row.clone())),
        (image, _) => {
            let is = if image.is_some() { "there" } else { "absent" };
            return Err(Violation::new(format!(
                "the {which} image of row {id} is {is}"
            )));
        }
    };
    let cells = [
        ("id", &image.id, row.id),
        ("name", &image.name, row.name),
        ("notes", &image.notes, row.notes),
    ];
    for (column, read, stored) in cells {
        if *read != Read::Unavailable && *read != stored {
            let is = if *read == Read::Null {
                "null"
            } else {
                "another value"
            };
            return Err(Violation::new(format!(
                "{column} in the {which} image of row {id} is {is}"
            )));
        }
    }
    Ok(())
}
