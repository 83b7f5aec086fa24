//! Topics created, compared and changed under a pipeline; the position set by hand; rights found missing.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rowbridge::mapping::Cleanup;
use rowbridge::sink::kafka::operator;
use rowbridge::sink::{Opened, Sink as _, SinkError};
use rowbridge_api::{Finding, Severity, State};

use crate::bed::{Bed, at, batch, read_all, source, topic, wait};

fn admin(bed: &Bed) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", &bed.config.brokers)
        .create()
        .unwrap()
}

fn refusal(result: Result<Opened, SinkError>) -> (State, String, String) {
    match result.unwrap_err() {
        SinkError::Refused {
            state,
            problem,
            hint,
        } => (state, problem, hint),
        other => panic!("{other:?}"),
    }
}

fn found<'a>(findings: &'a [Finding], words: &str) -> &'a Finding {
    findings
        .iter()
        .find(|finding| finding.problem.contains(words))
        .unwrap_or_else(|| panic!("nothing says {words:?}: {findings:#?}"))
}

#[test]
fn topics_are_created_as_declared_and_then_need_nothing() {
    let mut bed = Bed::new("created", 3);
    let events = bed.events_topic().to_owned();
    let mut latest = topic(&format!("{events}.latest"), 2);
    latest.cleanup = Some(Cleanup::CompactDelete);
    latest.retention_ms = Some(86_400_000);
    latest.max_bytes_per_partition = Some(1 << 30);
    latest.replication = Some(1);
    bed.published.topics.push(latest);
    let sink = bed.sink();
    assert_eq!(
        sink.check().unwrap(),
        [],
        "what run will create is no finding"
    );
    bed.sink().open(&source("a")).unwrap();
    assert_eq!(sink.check().unwrap(), []);

    // The same topics, declared otherwise.
    bed.published.topics[0].partitions = Some(5);
    bed.published.topics[1].retention_ms = Some(1_000);
    bed.published.topics[1].cleanup = Some(Cleanup::Delete);
    bed.config.max_record_bytes = 2_000_000;
    let findings = bed.sink().check().unwrap();
    let partitions = found(&findings, "has 3 partitions, and 5 are declared");
    assert!(partitions.fix.contains("--partitions 5") && partitions.cost.is_some());
    assert!(
        found(&findings, "retention.ms=86400000")
            .fix
            .contains("retention.ms=1000")
    );
    assert!(
        found(&findings, "cleanup.policy=")
            .fix
            .contains("cleanup.policy=delete")
    );
    let limit = found(&findings, "limits.max_record_bytes is 2000000");
    assert_eq!(limit.severity, Severity::Error);
}

#[test]
fn a_missing_topic_that_may_not_be_created_is_refused_with_the_command() {
    let mut bed = Bed::new("missing", 7);
    bed.config.create_topics = false;
    let (state, problem, hint) = refusal(bed.sink().open(&source("a")));
    assert_eq!(state, State::Invalid);
    assert!(problem.contains(bed.events_topic()), "{problem}");
    let command = format!("--topic '{}' --partitions 7", bed.events_topic());
    assert!(hint.contains(&command), "{hint}");
    let findings = bed.sink().check().unwrap();
    assert!(found(&findings, bed.events_topic()).fix.contains(&command));
}

#[test]
fn changed_partitions_are_refused_until_the_position_is_set_again() {
    let bed = Bed::new("grown", 2);
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    sink.write(&batch(0, 4)).unwrap();
    sink.commit(&at(7)).unwrap();
    drop(sink);

    let grown = [NewPartitions::new(bed.events_topic(), 3)];
    let admin = admin(&bed);
    wait(async {
        Ok(admin
            .create_partitions(&grown, &AdminOptions::new())
            .await?)
    });
    let mut sink = bed.sink();
    let (state, problem, _) = refusal(sink.open(&source("a")));
    assert_eq!(state, State::PartitionsChanged);
    assert!(problem.contains(".events from 2 to 3"), "{problem}");

    let before = operator::set_position(&bed.config, &bed.published, &source("a"), &at(7)).unwrap();
    assert_eq!(before.unwrap().checkpoint.progress, at(7));
    assert!(matches!(sink.open(&source("a")), Ok(Opened::Resume(_))));
    let shown = operator::show_position(&bed.config).unwrap().unwrap();
    assert_eq!(shown.checkpoint.partitions_of_topics[bed.events_topic()], 3);
}

#[test]
fn a_deleted_event_topic_is_refused_and_not_created_again() {
    let bed = Bed::new("deleted", 2);
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    sink.commit(&at(7)).unwrap();
    let admin = admin(&bed);
    let events = bed.events_topic();
    wait(async { Ok(admin.delete_topics(&[events], &AdminOptions::new()).await?) });
    let (state, problem, _) = refusal(sink.open(&source("a")));
    assert_eq!(state, State::PartitionsChanged);
    assert!(problem.contains(".events from 2 to 0"), "{problem}");
}

#[test]
fn dropped_topics_leave_the_pipeline_unknown() {
    let bed = Bed::new("gone", 1);
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    sink.write(&batch(0, 1)).unwrap();
    sink.commit(&at(7)).unwrap();
    drop(sink);
    let mut deleted = operator::delete_topics(&bed.config).unwrap();
    deleted.sort();
    assert_eq!(
        deleted,
        [bed.config.position_topic(), bed.config.quarantine_topic()]
    );
    assert_eq!(operator::delete_topics(&bed.config).unwrap(), [""; 0]);
    assert_eq!(operator::show_position(&bed.config).unwrap(), None);
    assert_eq!(bed.visible().len(), 1, "events stay");
    assert_eq!(bed.sink().open(&source("b")).unwrap(), Opened::First);
}

#[test]
fn a_check_writes_nothing_and_fences_nobody() {
    let bed = Bed::new("checked", 2);
    let mut sink = bed.sink();
    sink.open(&source("a")).unwrap();
    sink.write(&batch(0, 1)).unwrap();
    assert_eq!(bed.sink().check().unwrap(), []);
    sink.commit(&at(1))
        .expect("the transaction that was open goes on");
    for (topic, count) in [
        (bed.events_topic().to_owned(), 1),
        (bed.config.position_topic(), 1),
        (bed.config.quarantine_topic(), 0),
    ] {
        let seen = read_all(&bed.config.brokers, &topic, "read_uncommitted");
        assert_eq!(seen.len(), count, "{topic}");
    }
}
