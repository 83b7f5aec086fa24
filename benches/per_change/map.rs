//! A change in a batch to its events.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rowbridge::event::EncodedBatch;
use rowbridge::mapping::{Evaluator, Mapping, Stamp};
use rowbridge_api::{Batch, Change, Identity, Image, Op, Position, Transaction};

use crate::BATCH;
use crate::seat::{self, Update};

pub(crate) struct Step {
    evaluator: Evaluator,
    batch: Batch,
    tx: Transaction,
    change: Change,
    out: EncodedBatch,
    header_names: Vec<String>,
}

/// The events of a batch, and the names of their headers.
#[derive(Clone, Copy)]
pub(crate) struct Events<'a> {
    pub(crate) batch: &'a EncodedBatch,
    pub(crate) header_names: &'a [String],
}

impl Step {
    pub(crate) fn new(mapping: &Arc<Mapping>, update: &Update) -> Result<Self> {
        let shape = Arc::new(mapping.shape("segment").context("no table `segment`")?);
        let stamp = Stamp {
            pipeline: "airline".to_owned(),
            identity: Identity {
                source: "postgres/1/db".to_owned(),
                history: "1".to_owned(),
            },
            max_record_bytes: 1_000_000,
        };
        let mut evaluator = Evaluator::new(Arc::clone(mapping), stamp);
        evaluator.bind(&shape, &Position::new(1))?;
        let mut batch = Batch::default();
        for value in seat::BEFORE.into_iter().chain(seat::after(update)) {
            batch.push_value(value.as_bytes());
        }
        Ok(Self {
            evaluator,
            batch,
            tx: Transaction {
                id: 7,
                position: Position::new(0x16_B374_D848),
                commit_micros: 1_763_633_700_000_000,
            },
            change: Change {
                shape: shape.id,
                op: Op::Update,
                before: Image::Row { first_cell: 0 },
                after: Image::Row { first_cell: 12 },
                width: 12,
                ordinal: 0,
            },
            out: EncodedBatch::default(),
            header_names: mapping.header_names().to_vec(),
        })
    }

    /// Maps the change [`BATCH`] times, as that many changes of one transaction.
    pub(crate) fn batch(&mut self) -> Result<()> {
        self.out.clear();
        for ordinal in 0..BATCH {
            self.change.ordinal = u64::from(ordinal);
            self.evaluator
                .change(&self.batch, &self.tx, &self.change, &mut self.out)?;
        }
        Ok(())
    }

    /// What the last batch gave.
    pub(crate) fn events(&self) -> Events<'_> {
        Events {
            batch: &self.out,
            header_names: &self.header_names,
        }
    }
}
