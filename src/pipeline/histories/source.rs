//! The story as a source sends it: in batches that are cut anywhere, from any position on.

use std::sync::Arc;

use rowbridge_api::{
    Batch, Change as Sent, Commit, Image as SentImage, Item, Op, Position, Shape, ShapeId,
    TableName, TableNeeds, Transaction, Type,
};

use super::story::{Cell, Change, Image, Story};
use super::table::{COLUMNS, Table};
use super::tape::Tape;

/// Most items of a batch.
const BATCH_ITEMS: usize = 8;

/// Where a transaction committed, and where the source goes on after it.
pub(super) fn positions(transaction: usize) -> [u64; 2] {
    let committed = 100 + 10 * transaction as u64;
    [committed, committed + 5]
}

/// A source of one story.
pub(super) struct StorySource<'a> {
    pub(super) tables: &'a [Table],
    pub(super) story: &'a Story,
    pub(super) needs: &'a [TableNeeds],
    /// Whether it leaves out what nobody needs, as some do.
    pub(super) is_frugal: bool,
}

impl StorySource<'_> {
    /// Everything after `from`; from the rows that exist on if that is nothing.
    pub(super) fn batches(&self, from: Option<&Position>, cuts: &mut Tape<'_>) -> Vec<Batch> {
        let mut writer = Writer {
            tables: self.tables,
            shapes: vec![None; self.tables.len()],
            next_shape: 0,
            room: 0,
            batch: Batch::default(),
            batches: Vec::new(),
        };
        for (number, transaction) in self.story.transactions.iter().enumerate() {
            let [committed, end] = positions(number).map(Position::new);
            if from.is_some_and(|from| end <= *from) {
                continue;
            }
            let changes = (0_u64..).zip(&transaction.changes);
            let mut sent = changes
                .filter(|(_, change)| self.is_sent(change))
                .peekable();
            if number == 0 || sent.peek().is_some() {
                let begin = Transaction {
                    id: number as u64,
                    position: committed,
                    commit_micros: 1_000_000 * number as i64,
                };
                writer.item(Item::Begin(begin), cuts);
            }
            for (ordinal, change) in sent {
                writer.change(change, ordinal, cuts);
            }
            let end = match number {
                0 => Item::SnapshotEnd(end),
                _ => Item::Commit(Commit { position: end }),
            };
            writer.item(end, cuts);
        }
        writer.finish()
    }

    fn is_sent(&self, change: &Change) -> bool {
        let name = &self.tables[change.table].name;
        let mut needs = self.needs.iter();
        let needed = needs.any(|need| need.table.name == *name && need.ops.contains(change.op));
        needed || (!self.is_frugal && change.op != Op::Read)
    }
}

struct Writer<'a> {
    tables: &'a [Table],
    shapes: Vec<Option<ShapeId>>,
    next_shape: u32,
    /// How many more items go into the batch at hand.
    room: usize,
    batch: Batch,
    batches: Vec<Batch>,
}

impl Writer<'_> {
    fn item(&mut self, item: Item, cuts: &mut Tape<'_>) {
        if self.room == 0 {
            self.cut();
            self.room = BATCH_ITEMS - cuts.pick(BATCH_ITEMS);
        }
        self.room -= 1;
        self.batch.items.push(item);
    }

    fn change(&mut self, change: &Change, ordinal: u64, cuts: &mut Tape<'_>) {
        let shape = match self.shapes[change.table] {
            Some(known) => known,
            None => self.shape(change.table, cuts),
        };
        // Its cells go into the batch that it goes into.
        if self.room == 0 {
            self.cut();
            self.room = BATCH_ITEMS - cuts.pick(BATCH_ITEMS);
        }
        let table = &self.tables[change.table];
        let before = self.row(table, change.sent_before.as_ref());
        let after = self.row(table, change.sent_after.as_ref());
        let sent = Sent {
            shape,
            op: change.op,
            before,
            after,
            width: u16::try_from(table.columns.len()).unwrap(),
            ordinal,
        };
        self.item(Item::Change(sent), cuts);
    }

    fn row(&mut self, table: &Table, image: Option<&Image>) -> SentImage {
        let Some(image) = image else {
            return SentImage::Absent;
        };
        let cells = table.columns.iter().map(|column| match image[*column] {
            Cell::Sent(Some(value)) => rowbridge_api::Cell::Value(value.as_bytes()),
            Cell::Sent(None) => rowbridge_api::Cell::Null,
            Cell::LeftOut => rowbridge_api::Cell::Unavailable,
        });
        self.batch.push_row(cells)
    }

    fn shape(&mut self, number: usize, cuts: &mut Tape<'_>) -> ShapeId {
        let id = ShapeId(self.next_shape);
        self.next_shape += 1;
        self.shapes[number] = Some(id);
        let table = &self.tables[number];
        let columns = table.columns.iter().map(|column| rowbridge_api::Column {
            name: COLUMNS[*column].0.to_owned(),
            ty: Type::parse(COLUMNS[*column].1),
            key: table.key.contains(column),
        });
        let shape = Shape {
            id,
            table: TableName::new("public", table.name.as_str()),
            table_id: None,
            columns: columns.collect(),
        };
        self.item(Item::Shape(Arc::new(shape)), cuts);
        id
    }

    fn cut(&mut self) {
        if !self.batch.is_empty() {
            self.batches.push(std::mem::take(&mut self.batch));
        }
    }

    fn finish(mut self) -> Vec<Batch> {
        self.cut();
        self.batches
    }
}
