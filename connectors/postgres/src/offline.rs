//! The decoder without a server, for what measures it and what feeds it anything: micro benches and fuzz targets.

use rowbridge_api::{Batch, TableName};

use crate::assembler::{AssembleError, Assembler, Keys};
use crate::catalogue::TypeNames;

/// What a run would make of the messages of one stream.
pub struct Stream {
    assembler: Assembler,
}

impl Stream {
    /// Reads the tables of `keys`, each with the columns of its key. Transactions that committed before `resume` are
    /// dropped. Types are those that the stream tells of.
    #[must_use]
    pub fn new(keys: impl IntoIterator<Item = (TableName, Vec<String>)>, resume: u64) -> Self {
        let keys: Keys = keys.into_iter().collect();
        Self {
            assembler: Assembler::new(keys, TypeNames::default(), resume, 0),
        }
    }

    /// Appends `message` to the batch's buffer and what it says to its items.
    ///
    /// # Errors
    /// It is not a message of the protocol, or has no place here. The stream cannot go on.
    pub fn message(&mut self, message: &[u8], batch: &mut Batch) -> Result<(), String> {
        let start = batch.bytes.len();
        batch.bytes.extend_from_slice(message);
        let range = start..batch.bytes.len();
        let applied: Result<_, AssembleError> = self.assembler.apply(batch, range);
        applied.map(|_| ()).map_err(|error| error.to_string())
    }

    /// The batch may be handed over here.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.assembler.expects_more()
    }
}
