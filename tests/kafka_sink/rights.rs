//! A broker that grants nothing: every missing right is found at once, and the printed commands, run as they are printed,
//! are all that is needed; then each right is taken away again, one by one.

use std::time::{Duration, Instant};

use rowbridge::event::TopicId;
use rowbridge::sink::kafka::operator;
use rowbridge::sink::{Opened, Sink as _, SinkError};
use rowbridge_api::{Finding, Severity};
use rowbridge_testbed::KafkaTools;

use crate::bed::{Bed, at, batch, push, read_all, source, topic};
use crate::guarded::{Files, Guarded, bed, paste, refusal};

/// Until the broker knows of a change.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn every_missing_right_is_found_at_once_and_the_printed_commands_grant_them() {
    let Guarded { kafka, authority } = Guarded::shared();
    let files = Files::trusting(authority);
    let tools = files.tools_by_password();
    let bed = bed(&kafka.sasl_ssl().unwrap(), "rights", &files.login("app"));

    let (problem, hint) = refusal(bed.sink().open(&source("a")));
    assert!(problem.starts_with("no right to see"), "{problem}");
    assert!(hint.contains("--allow-principal 'User:app'"), "{hint}");

    let findings = bed.sink().check().unwrap();
    let problems: Vec<&str> = findings
        .iter()
        .map(|found| found.problem.as_str())
        .collect();
    let [first_id, second_id] = bed.config.transactional_ids();
    for missing in [
        bed.events_topic(),
        &bed.config.position_topic(),
        &bed.config.quarantine_topic(),
        &format!("no right to use the transactional id {first_id} and {second_id}"),
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(missing)),
            "nothing says {missing}: {problems:#?}"
        );
    }
    for finding in &findings {
        assert_eq!(finding.severity, Severity::Error, "{finding:?}");
        paste(&tools, &finding.fix);
    }
    assert_eq!(bed.sink().check().unwrap(), [], "one round is enough");
    assert_eq!(runs(&bed).unwrap(), Opened::First);
    let seen = read_all(&kafka.brokers(), bed.events_topic(), "read_committed");
    assert_eq!(seen.len(), 8);

    for taken in rights(&bed) {
        taken.is_missed(&bed, &tools);
    }
    creating_is_missed(bed.clone(), &tools);
    deleting_is_missed(&bed, &tools);
}

/// What a pipeline does to every topic of its own: opens, publishes, sets a record aside, commits.
fn runs(bed: &Bed) -> Result<Opened, SinkError> {
    let mut sink = bed.sink();
    let opened = sink.open(&source("a"))?;
    let mut batch = batch(0, 8);
    push(&mut batch, TopicId::QUARANTINE, None, Some("a bad record"));
    sink.write(&batch)?;
    sink.commit(&at(1))?;
    Ok(opened)
}

/// A right, how it is taken away, and what is said then.
struct Right {
    /// The end of `kafka-acls.sh --remove`.
    resource: String,
    problem: String,
    /// Whether `run` needs it too.
    needed: Needed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Needed {
    ByRun,
    /// `check` compares settings, which `run` does not.
    ByCheck,
}

fn rights(bed: &Bed) -> Vec<Right> {
    let (events, position) = (bed.events_topic(), bed.config.position_topic());
    let quarantine = bed.config.quarantine_topic();
    let [first_id, second_id] = bed.config.transactional_ids();
    let right = |resource: String, problem: String, needed| Right {
        resource,
        problem,
        needed,
    };
    let of_topic = |operation: &str, what: &str, topic: &str, needed| {
        right(
            format!("--allow-principal User:app --operation {operation} --topic '{topic}'"),
            format!("no right to {what} topic {topic}"),
            needed,
        )
    };
    let of_id = |id: &str| format!("no right to use the transactional id {id}");
    vec![
        of_topic("Write", "write to", events, Needed::ByRun),
        of_topic("Write", "write to", &position, Needed::ByRun),
        of_topic("Write", "write to", &quarantine, Needed::ByRun),
        of_topic("Read", "read", &position, Needed::ByRun),
        of_topic(
            "DescribeConfigs",
            "read the settings of",
            events,
            Needed::ByCheck,
        ),
        right(
            format!("--topic '{events}'"),
            format!("no right to see topic {events}"),
            Needed::ByRun,
        ),
        right(
            format!("--topic '{position}'"),
            format!("no right to see topic {position}"),
            Needed::ByRun,
        ),
        right(
            format!(
                "--allow-principal User:app --operation Write --transactional-id '{second_id}'"
            ),
            of_id(&second_id),
            Needed::ByRun,
        ),
        right(
            format!("--transactional-id '{first_id}'"),
            of_id(&first_id),
            Needed::ByRun,
        ),
    ]
}

impl Right {
    /// Without it `check` has a finding about nothing else, `run` refuses in the same words, and the hint gives it back.
    fn is_missed(&self, bed: &Bed, tools: &KafkaTools) {
        let remove = format!(
            "kafka-acls.sh --bootstrap-server {} --command-config admin.properties --remove --force {}",
            bed.config.brokers, self.resource
        );
        paste(tools, &remove);
        let finding = checked(bed, 1, &self.problem).remove(0);
        assert_eq!(finding.problem, self.problem);
        let fix = match self.needed {
            Needed::ByRun => {
                let (problem, hint) = refusal(runs(bed));
                assert!(
                    problem.ends_with(&self.problem),
                    "{} expected, and not {problem}",
                    self.problem
                );
                assert_eq!(hint, finding.fix);
                hint
            }
            Needed::ByCheck => {
                runs(bed).unwrap();
                finding.fix
            }
        };
        paste(tools, &fix);
        checked(bed, 0, "nothing");
        assert!(matches!(runs(bed).unwrap(), Opened::Resume(_)));
    }
}

/// What `check` finds once it finds so much: the broker learns of a change a little after it was made.
fn checked(bed: &Bed, count: usize, wanted: &str) -> Vec<Finding> {
    let began = Instant::now();
    loop {
        let findings = bed.sink().check().unwrap();
        if findings.len() == count {
            return findings;
        }
        assert!(
            began.elapsed() < CHANGE_LIMIT,
            "{wanted} expected, and not {findings:#?}"
        );
    }
}

/// A topic that may be seen and written to, and does not exist.
fn creating_is_missed(mut bed: Bed, tools: &KafkaTools) {
    let more = format!("{}.more", bed.config.pipeline);
    bed.published.topics.push(topic(&more, 1));
    let allow = "--operation Describe --operation Write --operation DescribeConfigs";
    let command = format!(
        "kafka-acls.sh --bootstrap-server {} --command-config admin.properties --add \
         --allow-principal User:app {allow} --topic '{more}'",
        bed.config.brokers
    );
    paste(tools, &command);
    let began = Instant::now();
    let finding = loop {
        let finding = checked(&bed, 1, "no right to create").remove(0);
        if finding.problem == format!("no right to create topic {more}, which is missing") {
            break finding;
        }
        assert!(began.elapsed() < CHANGE_LIMIT, "{finding:?}");
    };
    let (problem, hint) = refusal(runs(&bed));
    assert_eq!(problem, format!("no right to create topic {more}"));
    assert!(finding.fix.contains(&hint), "{} lacks {hint}", finding.fix);
    paste(tools, &hint);
    checked(&bed, 0, "nothing");
    runs(&bed).unwrap();
}

/// Only `drop --topics` deletes.
fn deleting_is_missed(bed: &Bed, tools: &KafkaTools) {
    for topic in [
        bed.config.position_topic(),
        bed.config.quarantine_topic(),
        bed.config.state_topic(),
    ] {
        let (problem, hint) = refusal(operator::delete_topics(&bed.config));
        assert_eq!(problem, format!("no right to delete topic {topic}"));
        paste(tools, &hint);
    }
    // Each went as soon as it might, and the last, which this mapping does not need, never was.
    let left = operator::delete_topics(&bed.config).unwrap();
    assert_eq!(left, Vec::<String>::new());
}
