//! A message of the replication protocol to a change in a batch.

use anyhow::{Result, anyhow, ensure};
use rowbridge_api::{Batch, Item, TableName};
use rowbridge_postgres::offline::Stream;

use crate::{BATCH, measure, seat};

const TABLE: u32 = 16_384;

pub(crate) fn run() -> Result<f64> {
    let mut stream = Stream::new(
        [(TableName::new("public", "segments"), vec!["id".to_owned()])],
        0,
    );
    let mut batch = Batch::default();
    let mut take = |message: &[u8], batch: &mut Batch| {
        stream
            .message(message, batch)
            .map_err(|error| anyhow!(error))
    };
    take(&begin(), &mut batch)?;
    take(&relation(), &mut batch)?;
    let update = update();
    measure(|| {
        batch.clear();
        for _ in 0..BATCH {
            take(&update, &mut batch)?;
        }
        let changes = batch
            .items
            .iter()
            .filter(|item| matches!(item, Item::Change(_)));
        ensure!(
            changes.count() == BATCH as usize,
            "a change for each message"
        );
        Ok(())
    })
}

fn begin() -> Vec<u8> {
    [
        &b"B"[..],
        &1_u64.to_be_bytes(),
        &0_u64.to_be_bytes(),
        &7_u32.to_be_bytes(),
    ]
    .concat()
}

/// As the server announces a table: every column is part of the identity, none has a type that needs explaining.
fn relation() -> Vec<u8> {
    let head = [
        &b"R"[..],
        &TABLE.to_be_bytes(),
        b"public\0segments\0f",
        &12_u16.to_be_bytes(),
    ];
    let columns = (0..12).map(|number| {
        let name = if number == 0 {
            "id".to_owned()
        } else {
            format!("c{number}")
        };
        [b"\x01", name.as_bytes(), b"\0\0\0\0\x19\xff\xff\xff\xff"].concat()
    });
    [head.concat(), columns.collect::<Vec<_>>().concat()].concat()
}

fn update() -> Vec<u8> {
    let tuple = |row: [&str; 12]| {
        let cells = row.map(|cell| {
            let length = u32::try_from(cell.len()).unwrap_or_default().to_be_bytes();
            [b"t", &length[..], cell.as_bytes()].concat()
        });
        [&12_u16.to_be_bytes()[..], &cells.concat()].concat()
    };
    let (before, after) = (tuple(seat::BEFORE), tuple(seat::after(&seat::ONE_EVENT)));
    [&b"U"[..], &TABLE.to_be_bytes(), b"O", &before, b"N", &after].concat()
}
