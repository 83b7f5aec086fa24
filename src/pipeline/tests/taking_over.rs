//! A mapping that looks rows up takes over from one that does not, broken at every step.

use std::ops::Range;

use rowbridge_api::TableName;

use super::*;
use crate::pipeline::{Reseed, Reseeded, reseed};

/// What the mapping before publishes all of, and what may be published by either.
const BEFORE: Range<usize> = 0..2;
const EITHER: Range<usize> = 2..TRANSACTIONS.len();

struct TakingOver {
    world: World,
    after: Arc<Mapping>,
}

impl TakingOver {
    /// The mapping before has published what is only its own.
    async fn new(faults: Faults) -> Self {
        let mut world = World::new(Faults::default());
        let shutdown = CancellationToken::new();
        let process = tokio::spawn(process(
            world.database.clone(),
            world.plan(shutdown.clone()),
        ));
        let mut end = None;
        while end.as_ref().is_none_or(|end| !world.stands_at(end)) {
            if matches!(world.kafka.progress(), Some(Progress::At { .. })) {
                end.get_or_insert_with(|| world.write_some(BEFORE));
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        shutdown.cancel();
        process.await.unwrap().unwrap();
        world.faults = faults;
        Self {
            world,
            after: Arc::new(ledger(Story::LookingUp)),
        }
    }

    /// Starts processes, one after another as they die, until the new mapping stands at the end.
    async fn tell_the_story(&self) {
        let started = Instant::now();
        let mut end = None;
        while !matches!(self.process(&mut end).await, Ended::Done) {
            let fired = self.world.faults.fired();
            assert!(started.elapsed() < DEADLINE, "not done after {fired:?}");
        }
        self.verify();
    }

    async fn process(&self, end: &mut Option<Position>) -> Ended {
        let shutdown = CancellationToken::new();
        let process = tokio::spawn(self.take_over(shutdown.clone()));
        let started = Instant::now();
        while !process.is_finished() {
            let end = end.get_or_insert_with(|| self.world.write_some(EITHER));
            let is_after = self.world.kafka.mapping_hash().as_deref() == Some(self.after.hash());
            if is_after && self.world.stands_at(end) {
                shutdown.cancel();
            } else {
                // A source without news tells no position.
                self.world.database.idle();
            }
            let fired = self.world.faults.fired();
            assert!(started.elapsed() < DEADLINE, "stuck after {fired:?}");
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        match process.await {
            Err(_crash) => Ended::Died,
            Ok(Err(refusal)) => Ended::Refused(refusal),
            Ok(Ok(())) => Ended::Done,
        }
    }

    /// What `run --reseed` does.
    fn take_over(
        &self,
        shutdown: CancellationToken,
    ) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let database = self.world.database.clone();
        let before = self.world.plan(shutdown.clone());
        let is_after = self.world.kafka.mapping_hash().as_deref() == Some(self.after.hash());
        let mapping = Arc::clone(&self.after);
        let world = self.world.handle();
        async move {
            let mut source = database.source();
            let mut read = None;
            if !is_after {
                let reseeding = Reseed {
                    before: &before,
                    mapping: Arc::clone(&mapping),
                    tables: vec![TableName::new("public", "rate")],
                };
                match reseed(&mut source, &reseeding).await? {
                    Reseeded::At {
                        position,
                        generations,
                    } => read = Some((position, generations)),
                    Reseeded::Stopped => return Ok(()),
                    Reseeded::Overtaken => panic!("nobody else publishes"),
                }
            }
            run(&mut source, &world.plan_of(shutdown, &mapping, read)).await
        }
    }

    /// Every change once and in order, first by the one, then by the other, with the rate of its commit.
    fn verify(&self) {
        let fired = self.world.faults.fired();
        let events = self.world.kafka.events().into_iter();
        let published: Vec<String> = events
            .map(|event| event.data)
            .filter(|data| !data.contains("\"ver\":0"))
            .collect();
        let plain = self.world.expected();
        let looked_up = World::of(Story::LookingUp, Faults::default()).expected();
        let switch = published.iter().position(|data| data.contains("rate"));
        let switch = switch.unwrap_or(published.len());
        let first: usize = TRANSACTIONS[BEFORE].iter().map(Range::len).sum();
        assert!(switch >= first, "after {fired:?}");
        let expected = [
            &plain[..switch.min(plain.len())],
            &looked_up[switch.min(plain.len())..],
        ];
        assert_eq!(published, expected.concat(), "after {fired:?}");
        assert_eq!(
            self.world.database.ack_past_commit(),
            None,
            "after {fired:?}"
        );
    }
}

impl World {
    fn stands_at(&self, end: &Position) -> bool {
        matches!(
            self.kafka.progress(),
            Some(Progress::At { position, cursor: None }) if position >= *end
        )
    }

    /// The same database and Kafka.
    fn handle(&self) -> Self {
        Self {
            database: self.database.clone(),
            kafka: self.kafka.clone(),
            faults: self.faults.clone(),
            story: self.story,
            mapping: Arc::clone(&self.mapping),
            folder: None,
        }
    }
}

fn at_every_step_of_taking_over(make: impl Fn(u64) -> Vec<(u64, Fault)>) {
    block_on(async {
        for step in 1..MOST_STEPS {
            let faults = Faults::at(&make(step)).with_coin(step);
            let taking_over = TakingOver::new(faults.clone()).await;
            taking_over.tell_the_story().await;
            if faults.fired().is_empty() {
                assert!(step > 10, "it has more than {step} steps");
                return;
            }
        }
        panic!("it never ran to its end unbroken");
    });
}

#[test]
fn a_failure_or_a_crash_at_every_step() {
    at_every_step_of_taking_over(|step| vec![(step, Fault::Error)]);
    at_every_step_of_taking_over(|step| vec![(step, Fault::Crash)]);
    at_every_step_of_taking_over(|step| vec![(step, Fault::Error), (step + 3, Fault::Crash)]);
}

#[test]
fn a_commit_whose_outcome_is_open_at_every_step() {
    at_every_step_of_taking_over(|step| vec![(step, Fault::OutcomeOpen)]);
    at_every_step_of_taking_over(|step| vec![(step, Fault::OutcomeOpenThoughDone)]);
    at_every_step_of_taking_over(|step| vec![(step, Fault::OutcomeOpen), (step + 1, Fault::Crash)]);
}

#[test]
fn the_source_breaks_after_every_message() {
    block_on(async {
        for messages in 1..60 {
            let taking_over = TakingOver::new(Faults::default()).await;
            taking_over.world.database.fail_after(messages);
            taking_over.tell_the_story().await;
        }
    });
}
