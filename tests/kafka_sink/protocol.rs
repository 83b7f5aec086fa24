//! Exactly once, step by step: fencing, atomicity, ambiguity, and what a commit costs.

use std::time::{Duration, Instant};

use rowbridge::event::{EncodedBatch, TopicId};
use rowbridge::sink::{Checkpoint, Cursor, Opened, Progress, Sink as _, SinkError};
use rowbridge_api::{Position, State};

use crate::bed::{Bed, at, batch, push, read_all, source};

fn resumed(opened: Opened) -> Checkpoint {
    match opened {
        Opened::Resume(checkpoint) => checkpoint,
        Opened::First | Opened::Unrecorded => panic!("a checkpoint was committed and is not found"),
    }
}

#[test]
fn a_new_pipeline_starts_first_and_resumes_where_it_committed() {
    let bed = Bed::new("resume", 12);
    let mut sink = bed.sink();
    assert_eq!(sink.open(&source("a")).unwrap(), Opened::First);
    sink.commit(&Progress::CREATING).unwrap();
    assert_eq!(
        resumed(sink.open(&source("a")).unwrap()).progress,
        Progress::CREATING
    );

    sink.write(&batch(0, 10)).unwrap();
    let split = Progress::At {
        position: Position::new(0x16_B374_D848),
        cursor: Some(Cursor {
            transaction: "16/B374D900".to_owned(),
            skip: 7,
            witness: u64::MAX,
        }),
    };
    sink.commit(&split).unwrap();
    // Many empty commits follow, as from an idle source: the position is found behind their markers.
    for lsn in 0..100 {
        sink.commit(&at(0x17_0000_0000 + lsn)).unwrap();
    }
    sink.commit(&split).unwrap();

    let checkpoint = resumed(sink.open(&source("a")).unwrap());
    assert_eq!(checkpoint.progress, split);
    assert_eq!(checkpoint.source, source("a"));
    assert_eq!(checkpoint.mapping_hash, "0123abcd");
    assert_eq!(checkpoint.partitions_of_topics[bed.events_topic()], 12);
    assert_eq!(bed.visible().len(), 10);
}

/// Commits after which either of the two producers is the next to publish.
const EITHER_TURN: [usize; 2] = [1, 2];

#[test]
fn killed_inside_a_transaction_leaves_nothing_visible() {
    for commits in EITHER_TURN {
        killed_inside_a_transaction(commits);
    }
}

fn killed_inside_a_transaction(commits: usize) {
    let bed = Bed::new(&format!("killed{commits}"), 3);
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    sink.write(&batch(0, 5)).unwrap();
    for _ in 0..commits {
        sink.commit(&at(1)).unwrap();
    }
    // More than the producer keeps back to fill a request.
    sink.write(&batch(5, 5_000)).unwrap();
    let flushed = Instant::now() + Duration::from_secs(20);
    while read_all(&bed.config.brokers, bed.events_topic(), "read_uncommitted").len() <= 5 {
        assert!(
            Instant::now() < flushed,
            "the open transaction's records reach the broker"
        );
    }
    // Never dropped: the producer is still there, with its transaction open, as after a SIGKILL.
    std::mem::forget(sink);

    let mut next = bed.sink();
    assert_eq!(resumed(next.open(&source("a")).unwrap()).progress, at(1));
    assert_eq!(bed.visible().len(), 5);
    next.write(&batch(5, 1)).unwrap();
    next.commit(&at(2)).unwrap();
    assert_eq!(bed.visible().len(), 6);
}

#[test]
fn an_instance_that_was_overtaken_is_fenced() {
    for commits in EITHER_TURN {
        overtaken(commits);
    }
}

fn overtaken(commits: usize) {
    let bed = Bed::new(&format!("fenced{commits}"), 1);
    let mut old = bed.sink();
    old.open(&source("a")).unwrap();
    old.write(&batch(0, 1)).unwrap();
    for _ in 0..commits {
        old.commit(&at(1)).unwrap();
    }

    let mut new = bed.sink();
    assert_eq!(resumed(new.open(&source("a")).unwrap()).progress, at(1));

    let fenced = old.write(&batch(1, 1)).and_then(|()| old.commit(&at(2)));
    assert!(
        matches!(fenced, Err(SinkError::Fenced { .. })),
        "{fenced:?}"
    );
    new.write(&batch(1, 1)).unwrap();
    new.commit(&at(2)).unwrap();
    assert_eq!(bed.visible().len(), 2);
}

#[test]
fn transactions_of_both_producers_keep_the_order_of_a_key() {
    let bed = Bed::new("turns", 1);
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    let numbers: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    for (lsn, number) in (1..).zip(&numbers) {
        let mut event = EncodedBatch::default();
        push(&mut event, TopicId(0), Some("k"), Some(number));
        sink.write(&event).unwrap();
        sink.commit(&at(lsn)).unwrap();
    }
    let seen = bed.visible();
    let seen: Vec<&str> = seen
        .iter()
        .filter_map(|seen| seen.value.as_deref())
        .collect();
    assert_eq!(seen, numbers);
    assert_eq!(
        resumed(bed.sink().open(&source("a")).unwrap()).progress,
        at(200)
    );
}

#[test]
fn a_stranger_is_refused_before_the_owner_notices() {
    let bed = Bed::new("stranger", 1);
    let mut owner = bed.sink();
    owner.open(&source("a")).unwrap();
    owner.commit(&at(1)).unwrap();
    owner.write(&batch(0, 1)).unwrap();

    let refused = bed.sink().open(&source("b")).unwrap_err();
    let SinkError::Refused { state, problem, .. } = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(*state, State::WrongSource);
    assert!(
        problem.contains("postgres/7000/a") && problem.contains("postgres/7000/b"),
        "{problem}"
    );

    owner.commit(&at(2)).expect("the owner is left alone");
    assert_eq!(bed.visible().len(), 1);
}

#[test]
fn what_is_dropped_without_a_commit_does_not_hold_readers_up() {
    let bed = Bed::new("dropped", 1);
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    sink.write(&batch(0, 100)).unwrap();
    let started = Instant::now();
    drop(sink);
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    // Reads to the last stable offset, which an open transaction would hold back.
    let mut next = bed.sink();
    assert_eq!(next.open(&source("a")).unwrap(), Opened::First);
    next.write(&batch(0, 1)).unwrap();
    next.commit(&at(1)).unwrap();
    assert_eq!(bed.visible().len(), 1);
}

#[test]
fn consumers_get_keys_values_headers_and_tombstones() {
    let bed = Bed::new("records", 2);
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    let mut events = EncodedBatch::default();
    push(&mut events, TopicId(0), Some("k"), Some("{}"));
    push(&mut events, TopicId(0), Some("k"), None);
    push(
        &mut events,
        TopicId::QUARANTINE,
        Some("q"),
        Some("{\"error\":1}"),
    );
    sink.write(&events).unwrap();
    sink.commit(&at(1)).unwrap();

    let seen = bed.visible();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].key.as_deref(), Some("k"));
    assert_eq!(seen[0].value.as_deref(), Some("{}"));
    assert_eq!(seen[1].value, None, "a tombstone has no value");
    let names: Vec<_> = seen[0]
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let [of_every_event @ .., reverts] = rowbridge::event::EVENT_HEADERS;
    assert_eq!(reverts, "ce_reverts", "this one takes nothing back");
    assert_eq!(names[..10], of_every_event);
    assert_eq!(names[10], "ce_recordedtime");
    let recorded = &seen[0].headers[10].1;
    assert!(recorded.parse::<jiff::Timestamp>().is_ok(), "{recorded}");

    let quarantine = bed.config.quarantine_topic();
    let quarantined = read_all(&bed.config.brokers, &quarantine, "read_committed");
    assert_eq!(quarantined.len(), 1);
    assert_eq!(quarantined[0].value.as_deref(), Some("{\"error\":1}"));
}

/// Partitions as Java's `Utils.toPositive(Utils.murmur2(key)) % n` gives them.
#[test]
fn keys_are_placed_as_java_places_them() {
    let bed = Bed::new("murmur", 97);
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    // org.apache.kafka.common.utils.UtilsTest.testMurmur2
    let known: [(&str, i32); 5] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        (
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
        ),
    ];
    let mut events = EncodedBatch::default();
    for (key, _) in known {
        push(&mut events, TopicId(0), Some(key), Some("{}"));
    }
    sink.write(&events).unwrap();
    sink.commit(&at(1)).unwrap();
    for seen in bed.visible() {
        let key = seen.key.unwrap();
        let (_, hash) = known.iter().find(|(known, _)| *known == key).unwrap();
        assert_eq!(seen.partition, (hash & 0x7fff_ffff) % 97, "{key}");
    }
}

/// rdkafka waits in steps of 100 ms where the sink drains first.
#[test]
fn a_commit_of_100_records_does_not_wait_100_ms() {
    let bed = Bed::new("latency", 12);
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    let mut took: Vec<_> = (0..50)
        .map(|round| {
            let started = Instant::now();
            sink.write(&batch(round * 100, 100)).unwrap();
            sink.commit(&at(round as u64)).unwrap();
            started.elapsed()
        })
        .collect();
    took.sort_unstable();
    println!(
        "commit of 100 records: p50 {:?} p90 {:?} max {:?}",
        took[25], took[45], took[49]
    );
    // The step would be in every one of them; a busy machine is only in some.
    assert!(
        took[12] < Duration::from_millis(60),
        "lower quartile {:?}",
        took[12]
    );
}
