//! The pipeline between a model source and a model Kafka, broken at every step.
//!
//! Every run is one story: rows that exist, then transactions, one of them large enough to be split over
//! several commits. Whatever breaks on the way, and however often, at the end every change must be in the
//! log exactly once and in order. `.ci/run` plants three bugs and requires these tests to fail with each.

mod faults;
mod model_kafka;
mod taking_over;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rowbridge_api::testkit::fake::{FakeChange, FakeDatabase, FakeTable};
use rowbridge_api::{Position, State};
use tokio_util::sync::CancellationToken;

use super::{Limits, Meters, Plan, run};
use crate::health::Health;
use crate::mapping::{Mapping, Pack, SourceFile};
use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::sink::Progress;
use faults::{Fault, Faults};
use model_kafka::ModelKafka;

const ACCOUNTS: usize = 3;

/// Changes of the transaction that must be split: batches hold four items.
const LARGE: usize = 18;

const DEADLINE: Duration = Duration::from_secs(20);

/// More steps than any run of the story takes.
const MOST_STEPS: u64 = 400;

/// One database and one Kafka; processes come and go between them.
struct World {
    database: FakeDatabase,
    kafka: ModelKafka,
    faults: Faults,
    story: Story,
    mapping: Arc<Mapping>,
    /// Where its working copies are; else what is remembered is in memory.
    folder: Option<tempfile::TempDir>,
}

/// What the mapping of a story has to know of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    Nothing,
    /// Each account's rate, as of the commit.
    LookingUp,
    /// The same, and the last event of each account.
    Remembering,
}

impl World {
    fn new(faults: Faults) -> Self {
        Self::of(Story::Nothing, faults)
    }

    fn of(story: Story, faults: Faults) -> Self {
        let database = FakeDatabase::new("fake/1");
        database.create_table(FakeTable::new(
            "account",
            &[("id", "int8"), ("ver", "int8")],
        ));
        database.create_table(FakeTable::new("rate", &[("id", "int8"), ("ver", "int8")]));
        database.set_batch_items(4);
        for id in 1..=ACCOUNTS {
            database.commit(vec![FakeChange::insert(
                "rate",
                &[Some(&id.to_string()), Some("0")],
            )]);
            database.commit(vec![FakeChange::insert(
                "account",
                &[Some(&id.to_string()), Some("0")],
            )]);
        }
        let kafka = ModelKafka::new(database.clone());
        Self {
            database,
            kafka,
            faults,
            story,
            mapping: Arc::new(ledger(story)),
            folder: None,
        }
    }

    /// Starts processes, one after another as they die, until everything is published; then checks it.
    async fn tell_the_story(&self) {
        let mut written = None;
        let started = Instant::now();
        loop {
            match self.process(&mut written).await {
                Ended::Done => break,
                Ended::Died => {}
                Ended::Refused(refusal) => {
                    panic!("refused: {refusal}\nafter {:?}", self.faults.fired())
                }
            }
            assert!(
                started.elapsed() < DEADLINE,
                "not done within {DEADLINE:?} after {:?}",
                self.faults.fired()
            );
        }
        self.verify();
    }

    /// One process: from its start until everything is published or it dies.
    async fn process(&self, written: &mut Option<Position>) -> Ended {
        let shutdown = CancellationToken::new();
        let process = tokio::spawn(process(self.database.clone(), self.plan(shutdown.clone())));
        let started = Instant::now();
        while !process.is_finished() {
            match (self.kafka.progress(), &*written) {
                (Some(Progress::At { .. }), None) => *written = Some(self.write()),
                (
                    Some(Progress::At {
                        position,
                        cursor: None,
                    }),
                    Some(end),
                ) if position >= *end => shutdown.cancel(),
                _ => {}
            }
            assert!(
                started.elapsed() < DEADLINE,
                "stuck within {DEADLINE:?} after {:?}",
                self.faults.fired()
            );
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        match process.await {
            Err(_crash) => Ended::Died,
            Ok(Err(refusal)) => Ended::Refused(refusal),
            Ok(Ok(())) => Ended::Done,
        }
    }

    /// Commits the transactions of the story; the position of the last.
    fn write(&self) -> Position {
        self.write_some(0..TRANSACTIONS.len())
    }

    /// Commits these transactions of the story; the position of the last.
    fn write_some(&self, numbers: std::ops::Range<usize>) -> Position {
        let update = |number: usize| {
            FakeChange::update(
                "account",
                &(1 + number % ACCOUNTS).to_string(),
                &[("ver", Some(&(number + 1).to_string()))],
            )
        };
        let mut end = self.database.end();
        let all = TRANSACTIONS.into_iter().enumerate();
        for (number, updates) in all.skip(numbers.start).take(numbers.len()) {
            let mut changes: Vec<_> = updates.map(update).collect();
            let ver = (number + 1).to_string();
            let (rate, at) = match number {
                // Gone before anything is read of its transaction, and still found by all of it.
                1 => (FakeChange::delete("rate", "2"), 0),
                2 => (FakeChange::insert("rate", &[Some("2"), Some(&ver)]), 1),
                // In the middle: what is read before it in its transaction sees it as well.
                _ => {
                    let rate = FakeChange::update("rate", "1", &[("ver", Some(&ver))]);
                    (rate, changes.len() / 2)
                }
            };
            changes.insert(at, rate);
            end = self.database.commit(changes);
            self.database.idle();
        }
        end
    }

    /// The data of every event after the first rows, in order.
    fn expected(&self) -> Vec<String> {
        let mut rates = [0; ACCOUNTS];
        let mut expected = Vec::new();
        for (number, updates) in TRANSACTIONS.into_iter().enumerate() {
            match number {
                1 => {}
                2 => rates[1] = number + 1,
                _ => rates[0] = number + 1,
            }
            for update in updates {
                let (account, ver) = (update % ACCOUNTS, update + 1);
                let rate = match self.story {
                    Story::Nothing => String::new(),
                    Story::LookingUp | Story::Remembering => {
                        format!(",\"rate\":{}", rates[account])
                    }
                };
                expected.push(format!("{{\"id\":{},\"ver\":{ver}{rate}}}", account + 1));
            }
        }
        expected
    }

    fn plan(
        &self,
        shutdown: CancellationToken,
    ) -> Plan<impl Fn() -> Result<model_kafka::ModelSink, crate::sink::SinkError> + use<>> {
        self.plan_of(shutdown, &self.mapping, None)
    }

    fn plan_of(
        &self,
        shutdown: CancellationToken,
        mapping: &Arc<Mapping>,
        read: Option<model_kafka::Read>,
    ) -> Plan<impl Fn() -> Result<model_kafka::ModelSink, crate::sink::SinkError> + use<>> {
        let health = Health::new(Duration::from_secs(60));
        let metrics = Metrics::new(mapping.rules(), health.clone());
        let limits = Limits {
            channel_batches: 2,
            encoded_batches: 1,
            // Every batch on its own: the most places to break at.
            encoded_bytes: 1,
            commit_min_interval: Duration::ZERO,
            commit_max_records: 6,
            // The large transaction is put away.
            transaction_rows: LARGE / 2,
            backoff_min: Duration::from_micros(100),
            backoff_max: Duration::from_millis(2),
            standby_poll: Duration::from_millis(1),
            ..Limits::default()
        };
        let (kafka, faults) = (self.kafka.clone(), self.faults.clone());
        let hash = mapping.hash().to_owned();
        Plan {
            pipeline: "ledger".to_owned(),
            mapping: Arc::clone(mapping),
            limits,
            make_sink: Arc::new(move || Ok(kafka.sink(&faults, &hash, read.clone()))),
            state: self.folder.as_ref().map(|folder| crate::state::Settings {
                directory: folder.path().to_owned(),
                // Less than a transaction of the story puts.
                cache_bytes: 600,
            }),
            meters: Meters::new(metrics, health),
            shutdown,
        }
    }

    /// Every change once, in order; every row read at least once; no acknowledgement past a commit.
    fn verify(&self) {
        let (reads, changes): (Vec<_>, Vec<_>) = self
            .kafka
            .events()
            .into_iter()
            .partition(|event| event.data.contains("\"ver\":0"));
        let fired = self.faults.fired();
        let expected = self.expected();
        let published: Vec<_> = changes.iter().map(|event| event.data.clone()).collect();
        assert_eq!(published, expected, "after {fired:?}");
        let mut ids: Vec<_> = changes.iter().map(|event| &event.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(
            ids.len(),
            expected.len(),
            "event ids repeat after {fired:?}"
        );
        if self.story == Story::Remembering {
            self.verify_reverts(&reads, &changes);
        }
        let mut keys: Vec<_> = reads.iter().map(|event| event.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys, ["1", "2", "3"], "existing rows after {fired:?}");
        assert_eq!(self.database.ack_past_commit(), None, "after {fired:?}");
    }
}

impl World {
    /// Every event takes back the last one of its account; the first one that of the row that existed.
    fn verify_reverts(&self, reads: &[model_kafka::Event], changes: &[model_kafka::Event]) {
        let mut last = std::collections::BTreeMap::new();
        for read in reads {
            last.insert(read.key.clone(), read.id.clone());
        }
        for change in changes {
            let reverted = last.insert(change.key.clone(), change.id.clone());
            assert_eq!(change.reverts, reverted, "after {:?}", self.faults.fired());
        }
    }
}

/// The updates of each transaction of the story.
const TRANSACTIONS: [std::ops::Range<usize>; 4] = [
    0..1,
    1..LARGE + 1,
    LARGE + 1..LARGE + 3,
    LARGE + 3..LARGE + 4,
];

/// How a process ended.
enum Ended {
    Done,
    Died,
    Refused(Refusal),
}

async fn process<M>(database: FakeDatabase, plan: Plan<M>) -> Result<(), Refusal>
where
    M: Fn() -> Result<model_kafka::ModelSink, crate::sink::SinkError> + Send + Sync + 'static,
{
    run(&mut database.source(), &plan).await
}

/// What is written of an event beside `id` and `ver`, and what else is in the mapping.
const REMEMBERING: &str = r#"rate = "$.rate.ver"
[event.lookup.rate]
table = "rate"
where = { id = "$.row.id" }
"#;

fn ledger(story: Story) -> Mapping {
    let (tables, reverts, rest) = match story {
        Story::Nothing => ("", "", ""),
        Story::LookingUp => ("rate = \"public.rate\"", "", REMEMBERING),
        Story::Remembering => (
            "rate = \"public.rate\"",
            "reverts = \"AccountSeen\"",
            REMEMBERING,
        ),
    };
    let file = |name: &str, text: &str| SourceFile {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let pack = Pack {
        mapping: file(
            "mapping.toml",
            &format!(
                r#"
[mapping]
name = "ledger"
version = 1
[tables]
account = "public.account"
{tables}
[topics.accounts]
name = "accounts"
[[event]]
type = "AccountSeen"
table = "account"
topic = "accounts"
on = ["read", "insert", "update"]
{reverts}
[event.data]
id = "$.row.id"
ver = "$.row.ver"
{rest}"#
            ),
        ),
        schema: file(
            "schema.toml",
            "[account]\nkey = [\"id\"]\n[account.columns]\nid = \"int8\"\nver = \"int8\"\n\
             [rate]\nkey = [\"id\"]\n[rate.columns]\nid = \"int8\"\nver = \"int8\"\n",
        ),
        params: toml::Table::new(),
    };
    Mapping::compile(&pack)
        .unwrap_or_else(|problems| panic!("{problems:?}"))
        .0
}

fn block_on(story: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(story);
}

#[test]
fn an_undisturbed_run_publishes_everything_once() {
    for story in [Story::Nothing, Story::Remembering] {
        block_on(async { World::of(story, Faults::default()).tell_the_story().await });
    }
}

/// Breaks each story at step 1, 2, 3, ... until a run is over before its break comes.
fn at_every_step(make: impl Fn(u64) -> Vec<(u64, Fault)>) {
    for story in [Story::Nothing, Story::Remembering] {
        at_every_step_of(story, &make);
    }
}

fn at_every_step_of(story: Story, make: &impl Fn(u64) -> Vec<(u64, Fault)>) {
    block_on(async {
        for step in 1..MOST_STEPS {
            let faults = Faults::at(&make(step)).with_coin(step);
            let world = World::of(story, faults.clone());
            world.tell_the_story().await;
            if faults.fired().is_empty() {
                assert!(step > 10, "the story has more than {step} steps");
                return;
            }
        }
        panic!("the story never ran to its end unbroken");
    });
}

#[test]
fn a_failure_at_every_step() {
    at_every_step(|step| vec![(step, Fault::Error)]);
}

#[test]
fn a_crash_at_every_step() {
    at_every_step(|step| vec![(step, Fault::Crash)]);
}

#[test]
fn a_crash_at_every_step_and_again_soon_after() {
    for again in [1, 2, 5] {
        at_every_step(|step| vec![(step, Fault::Crash), (step + again, Fault::Crash)]);
    }
}

#[test]
fn a_commit_whose_outcome_is_open_at_every_step() {
    at_every_step(|step| vec![(step, Fault::OutcomeOpen)]);
    at_every_step(|step| vec![(step, Fault::OutcomeOpenThoughDone)]);
}

#[test]
fn an_open_outcome_followed_by_a_crash() {
    at_every_step(|step| vec![(step, Fault::OutcomeOpen), (step + 1, Fault::Crash)]);
    at_every_step(|step| {
        vec![
            (step, Fault::OutcomeOpenThoughDone),
            (step + 1, Fault::Crash),
        ]
    });
}

/// As the stories above, with a working copy on disk that some processes lose.
#[test]
fn a_working_copy_is_as_good_as_the_changelog_whatever_breaks() {
    block_on(async {
        // Files take their time: each fault at another third of the steps.
        for (first, fault) in [
            (1, Fault::Error),
            (2, Fault::Crash),
            (3, Fault::OutcomeOpen),
            (1, Fault::OutcomeOpenThoughDone),
        ] {
            for step in (first..MOST_STEPS).step_by(3) {
                let faults = Faults::at(&[(step, fault), (step + 9, Fault::Crash)]).with_coin(step);
                let folder = tempfile::tempdir().unwrap();
                let lost = folder.path().join("ledger");
                let world = World {
                    folder: Some(folder),
                    ..World::of(Story::Remembering, faults.clone())
                };
                let mut written = None;
                while !matches!(world.process(&mut written).await, Ended::Done) {
                    if step % 2 == 0 {
                        let _ = std::fs::remove_dir_all(&lost);
                    }
                }
                world.verify();
                if faults.fired().is_empty() {
                    assert!(step > 10, "the story has more than {step} steps");
                    break;
                }
            }
        }
    });
}

#[test]
fn the_source_breaks_after_every_message() {
    block_on(async {
        for story in [Story::Nothing, Story::Remembering] {
            for messages in 1..60 {
                let world = World::of(story, Faults::default());
                world.database.fail_after(messages);
                world.tell_the_story().await;
            }
        }
    });
}

#[test]
fn the_source_and_the_sink_break_in_the_same_run() {
    block_on(async {
        for story in [Story::Nothing, Story::Remembering] {
            for at in 1..40 {
                let world = World::of(story, Faults::at(&[(at, Fault::Crash)]));
                world.database.fail_after(at);
                world.tell_the_story().await;
            }
        }
    });
}

#[test]
fn a_lost_slot_and_a_lost_position_are_refused() {
    block_on(async {
        let world = World::new(Faults::default());
        world.tell_the_story().await;
        let events = world.kafka.events().len();

        let forgetful = World {
            kafka: ModelKafka::new(world.database.clone()),
            ..World::new(Faults::default())
        };
        let forgetful = World {
            database: world.database.clone(),
            ..forgetful
        };
        assert_eq!(
            state(forgetful.process(&mut None).await),
            State::PositionLost
        );
        assert_eq!(forgetful.kafka.events(), []);

        world.database.drop_slot();
        assert_eq!(state(world.process(&mut None).await), State::SlotLost);
        assert_eq!(world.kafka.events().len(), events);
    });
}

fn state(ended: Ended) -> State {
    match ended {
        Ended::Refused(refusal) => refusal.state,
        Ended::Done | Ended::Died => panic!("it was not refused"),
    }
}
