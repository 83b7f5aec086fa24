//! The requests of a transaction, to its coordinator (KIP-98, KIP-360).
//!
//! Partitions are enlisted before records go to them, and the epoch is the coordinator's for as long as the
//! producer lives: the versions of the requests before KIP-890's second part, which every broker since Kafka 2.5
//! speaks. A late request of ours cannot do harm: fencing raises the epoch, and the broker turns it away.

use std::thread;
use std::time::{Duration, Instant};

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ProducerId, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::{Address, about};
use crate::error::check;
use crate::link::Link;
use crate::settings::Settings;
use crate::{Code, Error};

const FIND_VERSION: i16 = 3;
const INIT_VERSION: i16 = 4;
const ENLIST_VERSION: i16 = 3;
const END_VERSION: i16 = 4;
/// The kind of coordinator we look for.
const OF_TRANSACTIONS: i8 = 1;
/// Pause before a coordinator is asked again that is busy ending a transaction, or is just being elected.
const BUSY_PAUSE: Duration = Duration::from_millis(2);
const ELECTION_PAUSE: Duration = Duration::from_millis(20);

/// A transactional id that is ours, and the link to its coordinator.
pub(crate) struct Coordinator {
    id: TransactionalId,
    address: Address,
    link: Link,
    producer: i64,
    epoch: i16,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Commit,
    Abort,
}

impl Coordinator {
    /// Takes the id over: every earlier producer is fenced, and what it left open is settled before this returns.
    /// `any` is a link to whichever broker.
    pub(crate) fn fence(
        settings: &Settings,
        id: &str,
        any: &mut Link,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let id = StrBytes::from_string(id.to_owned());
        loop {
            let outcome = find(any, &id, deadline)
                .and_then(|address| Self::init(settings, id.clone(), address, deadline));
            match outcome {
                Err(error)
                    if !elected_soon(&error) || Instant::now() + ELECTION_PAUSE >= deadline =>
                {
                    return Err(error);
                }
                Err(_) => thread::sleep(ELECTION_PAUSE),
                Ok(coordinator) => return Ok(coordinator),
            }
        }
    }

    fn init(
        settings: &Settings,
        id: StrBytes,
        address: Address,
        deadline: Instant,
    ) -> Result<Self, Error> {
        const WHAT: &str = "taking the transactional id over";
        let mut link = address.connect(settings, deadline)?;
        let id = TransactionalId(id);
        let timeout_ms = settings.transaction_timeout.as_millis();
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id.clone()))
            .with_transaction_timeout_ms(i32::try_from(timeout_ms).unwrap_or(i32::MAX))
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let answer = while_busy(deadline, || {
            let answer = link.call(WHAT, &request, INIT_VERSION, deadline)?;
            check(WHAT, answer.error_code).map(|()| answer)
        })?;
        Ok(Self {
            id,
            address,
            link,
            producer: *answer.producer_id,
            epoch: answer.producer_epoch,
        })
    }

    pub(crate) const fn id(&self) -> &TransactionalId {
        &self.id
    }

    /// Producer id and epoch.
    pub(crate) const fn producer(&self) -> (i64, i16) {
        (self.producer, self.epoch)
    }

    /// Connects anew where the broker ended the connection or the login runs out.
    pub(crate) fn refresh(&mut self, settings: &Settings, deadline: Instant) -> Result<(), Error> {
        if self.link.is_stale() {
            self.link = self.address.connect(settings, deadline)?;
        }
        Ok(())
    }

    /// Adds partitions to the transaction, which begins with the first of them.
    pub(crate) fn enlist(
        &mut self,
        topics: Vec<AddPartitionsToTxnTopic>,
        deadline: Instant,
    ) -> Result<(), Error> {
        const WHAT: &str = "adding partitions to the transaction";
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id.clone())
            .with_v3_and_below_producer_id(ProducerId(self.producer))
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(topics);
        while_busy(deadline, || {
            let answer = self.link.call(WHAT, &request, ENLIST_VERSION, deadline)?;
            let mut outcome = Ok(());
            for topic in &answer.results_by_topic_v3_and_below {
                for partition in &topic.results_by_partition {
                    let checked = check(WHAT, partition.partition_error_code);
                    // One missing right keeps the others from being attempted, which says nothing of them.
                    match &checked {
                        Err(error) if error.code() != Some(Code::OperationNotAttempted) => {
                            return checked.map_err(|error| about(error, topic.name.as_str()));
                        }
                        Err(_) => outcome = checked,
                        Ok(()) => {}
                    }
                }
            }
            outcome
        })
    }

    /// Ends the transaction. An error leaves open whether it ended, and how.
    pub(crate) fn end(&mut self, how: End, deadline: Instant) -> Result<(), Error> {
        const WHAT: &str = "ending the transaction";
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(ProducerId(self.producer))
            .with_producer_epoch(self.epoch)
            .with_committed(how == End::Commit);
        let answer = self.link.call(WHAT, &request, END_VERSION, deadline)?;
        check(WHAT, answer.error_code)
    }
}

fn find(any: &mut Link, id: &StrBytes, deadline: Instant) -> Result<Address, Error> {
    const WHAT: &str = "finding the coordinator of the transactional id";
    let request = FindCoordinatorRequest::default()
        .with_key(id.clone())
        .with_key_type(OF_TRANSACTIONS);
    let answer = any.call(WHAT, &request, FIND_VERSION, deadline)?;
    check(WHAT, answer.error_code)?;
    Ok(Address::new(&answer.host, answer.port))
}

/// Asks again while the coordinator is busy ending the last transaction.
fn while_busy<T>(deadline: Instant, mut ask: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match ask() {
            Err(error)
                if error.code() == Some(Code::ConcurrentTransactions)
                    && Instant::now() + BUSY_PAUSE < deadline =>
            {
                thread::sleep(BUSY_PAUSE);
            }
            done => return done,
        }
    }
}

/// Whether the coordinator is on its way to another broker, or loading what it has to know.
fn elected_soon(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(
            Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotCoordinator
                | Code::ConcurrentTransactions
        )
    )
}
