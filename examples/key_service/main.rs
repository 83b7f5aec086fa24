//! Two consumer groups on what `mappings/hotel` publishes, as a team that acts on events would write them: `key-cards`
//! programs the doors, `identity-documents` removes the copies of passports. A downstream that fails blocks nobody else.
//!
//! ```text
//! cargo run --example key_service -- key-cards BROKERS DOWNSTREAM
//! cargo run --example key_service -- identity-documents BROKERS DOWNSTREAM
//! ```
//!
//! - `effects`: what each event asks of the downstream; all that the two groups differ in
//! - `service`: the loop, one event at a time
//! - `partition`: what is known of one partition: who waits, what is done. Pure
//! - `memory`: reads that back from Kafka when partitions are assigned
//! - `event`, `topics`, `downstream`: a record and its headers, the topics of a group, HTTP
//!
//! **Topics.** `hotel.<group>.retry`, `.done` and `.failed` have as many partitions as `hotel.stays`, and a record goes to
//! the partition of the same number. The `range` assignor gives equal numbers of topics with equal counts to one instance,
//! so whoever reads a reservation's events also has its retries; an assignment that is otherwise is refused.
//!
//! **Nothing is lost.** An event that asks for something ends in one Kafka transaction with its offset: written to `done`
//! after its effect, to `retry` where the downstream failed, or to `failed` and `done` after three attempts. Offsets and
//! topics cannot disagree, a record is never twice in `retry`, and an instance that lost its partitions can commit nothing
//! any more. Any error of Kafka ends the process: what it knew is read again at the next start, so there is one way to
//! recover. A transaction takes some 10 ms; who has more events than that puts several into one.
//!
//! **Order per reservation.** `retry` is read by the same loop. Its head waits until it is due, with its partition paused
//! and `hotel.stays` going on. An event of a reservation that waits there is put behind, without an attempt. One that fails
//! again goes to the end, and what waits behind it comes first then: so each carries its offset in `hotel.stays`, only the
//! lowest of a reservation may run, and the others go to the end too. Who waits is nothing but what lies in `retry` after
//! the committed offset; it is read on assignment, after every transaction of the instance before has ended.
//!
//! **De-duplication** by `ce_id`: what is in `done`, kept for two days, is not done again, also after a restart, and also
//! if it failed. What that cannot cover is an instance that dies, or stands still and loses its partitions, between effect
//! and commit: the effect is asked for again. So the id goes along as `Idempotency-Key`, which a downstream has to honour
//! for as long as a restart takes.

mod downstream;
mod effects;
mod event;
mod memory;
mod partition;
mod service;
mod topics;

use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use crate::effects::Group;

/// Acts on a hotel's stays.
#[derive(Parser)]
struct Arguments {
    #[arg(value_enum)]
    group: Group,
    /// Kafka's host:port
    brokers: String,
    /// The downstream's host:port, which speaks HTTP
    downstream: String,
    /// Differs between the instances that share the work, and stays the same over a restart
    #[arg(long, default_value = "1")]
    instance: String,
    /// How long an event waits before it is tried again
    #[arg(long, default_value_t = 30_000)]
    delay_ms: u64,
}

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let settings = service::Settings {
        group: arguments.group,
        brokers: arguments.brokers,
        instance: arguments.instance,
        delay: Duration::from_millis(arguments.delay_ms),
    };
    let downstream = downstream::Downstream::new(arguments.downstream)?;
    service::Service::start(settings, downstream)?.run()
}
