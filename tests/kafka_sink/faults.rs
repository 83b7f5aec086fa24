//! Commits whose outcome is open, and brokers that go away.

use std::time::{Duration, Instant};

use rowbridge::sink::{Opened, Progress, Sink as _, SinkError};
use rowbridge_testbed::{HoldPoint, KAFKA_END_TXN, Kafka};

use crate::bed::{Bed, at, batch, proxied, source, wait};

const CATCH_LIMIT: Duration = Duration::from_secs(20);

fn bed(kafka: &Kafka, pipeline: &str) -> Bed {
    let mut bed = Bed::at(&kafka.proxied_brokers().unwrap(), pipeline, 4);
    bed.config.limits.commit_suspect_ms = 1_000;
    bed
}

fn progress(opened: Opened) -> Progress {
    match opened {
        Opened::Resume(checkpoint) => checkpoint.progress,
        Opened::First | Opened::Unrecorded => panic!("a checkpoint was committed and is not found"),
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_ambiguous_and_had_happened() {
    let kafka = proxied();
    let bed = bed(&kafka, "answer");
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    sink.write(&batch(0, 1)).unwrap();
    sink.commit(&at(1)).unwrap();

    let proxy = kafka.proxy().unwrap();
    let hold = proxy.hold(KAFKA_END_TXN, HoldPoint::Response);
    sink.write(&batch(1, 10)).unwrap();
    let outcome = sink.commit(&at(2));
    println!("the commit's outcome: {outcome:?}");
    wait(hold.caught(CATCH_LIMIT));
    assert!(
        matches!(outcome, Err(SinkError::Ambiguous { .. })),
        "{outcome:?}"
    );

    let opening = Instant::now();
    assert_eq!(progress(sink.open(&source("a")).unwrap()), at(2));
    println!("settled in {:?}", opening.elapsed());
    assert_eq!(bed.visible().len(), 11);
    drop(hold);
}

#[test]
fn a_commit_that_never_arrived_is_ambiguous_and_had_not_happened() {
    let kafka = proxied();
    let bed = bed(&kafka, "request");
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    sink.write(&batch(0, 1)).unwrap();
    sink.commit(&at(1)).unwrap();

    let proxy = kafka.proxy().unwrap();
    let hold = proxy.hold(KAFKA_END_TXN, HoldPoint::Request);
    sink.write(&batch(1, 10)).unwrap();
    let outcome = sink.commit(&at(2));
    wait(hold.caught(CATCH_LIMIT));
    assert!(
        matches!(outcome, Err(SinkError::Ambiguous { .. })),
        "{outcome:?}"
    );

    assert_eq!(progress(sink.open(&source("a")).unwrap()), at(1));
    // The old commit arrives late, in the middle of the next transaction, and must change nothing.
    sink.write(&batch(1, 10)).unwrap();
    hold.release();
    sink.commit(&at(2)).unwrap();
    assert_eq!(bed.visible().len(), 11);
}

#[test]
fn a_link_that_fails_during_a_commit_makes_it_ambiguous() {
    let kafka = proxied();
    let mut bed = bed(&kafka, "cut");
    bed.config.limits.commit_suspect_ms = 20_000;
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    sink.commit(&at(1)).unwrap();

    let proxy = kafka.proxy().unwrap();
    let hold = proxy.hold(KAFKA_END_TXN, HoldPoint::Response);
    sink.write(&batch(0, 10)).unwrap();
    let outcome = std::thread::scope(|scope| {
        let commit = scope.spawn(|| sink.commit(&at(2)));
        wait(hold.caught(CATCH_LIMIT));
        proxy.cut();
        commit.join().unwrap()
    });
    // librdkafka connects again, repeats the request and would call it a success.
    assert!(
        matches!(outcome, Err(SinkError::Ambiguous { .. })),
        "{outcome:?}"
    );
    assert_eq!(progress(sink.open(&source("a")).unwrap()), at(2));
    assert_eq!(bed.visible().len(), 10);
}

#[test]
fn a_broker_that_is_away_is_transient_and_comes_back() {
    let kafka = proxied();
    let mut bed = bed(&kafka, "away");
    bed.config.limits.open_timeout_ms = 3_000;
    bed.config.limits.transaction_timeout_ms = 3_000;
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    sink.write(&batch(0, 1)).unwrap();
    sink.commit(&at(1)).unwrap();

    let proxy = kafka.proxy().unwrap();
    proxy.refuse();
    let outcome = sink.write(&batch(1, 1)).and_then(|()| sink.commit(&at(2)));
    assert!(
        matches!(outcome, Err(SinkError::Transient { .. })),
        "{outcome:?}"
    );
    let outcome = sink.open(&source("a"));
    assert!(
        matches!(outcome, Err(SinkError::Transient { .. })),
        "{outcome:?}"
    );
    proxy.resume();
    assert_eq!(progress(sink.open(&source("a")).unwrap()), at(1));
    sink.write(&batch(1, 1)).unwrap();
    sink.commit(&at(2)).unwrap();
    assert_eq!(bed.visible().len(), 2);
}
