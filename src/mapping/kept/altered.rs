//! Tables that are altered while their rows are kept, told shape by shape.

use std::sync::Arc;

use rowbridge_api::{
    Batch, Cell, Change, Column, Identity, Image, Op, Position, Shape, ShapeId, State, TableName,
    Transaction, Type,
};

use crate::event::EncodedBatch;
use crate::mapping::cases::Published;
use crate::mapping::kept::tests::line;
use crate::mapping::{Arrival, Evaluator, Mapping, Pack, Settled, SourceFile, Stamp, Stop};

const MAPPING: &str = r#"
[mapping]
name = "t"
version = 1
on_error = "quarantine"
[tables]
order = "public.orders"
customer = { name = "public.customers", index = [["code"]] }
[topics.orders]
name = "orders"
[[event]]
type = "Ordered"
table = "order"
topic = "orders"
on = "insert"
[event.lookup.customer]
table = "customer"
where = { id = "$.row.customer" }
[event.data]
name = "$.customer.name"
[[event]]
type = "Priced"
table = "order"
topic = "orders"
on = "insert"
[event.lookup.customer]
table = "customer"
where = { id = "$.row.customer" }
[event.data]
limit = "$.customer.limit"
"#;

const SCHEMA: &str = r#"
[order]
key = ["id"]
[order.columns]
id = "int8"
customer = "int8"
[customer]
key = ["id"]
[customer.columns]
id = "int8"
code = "char(3)"
name = "varchar(20)"
limit = "numeric(10,2)"
"#;

/// The mapping, and the tables as their source describes them.
struct World {
    evaluator: Evaluator,
    shapes: u32,
    transactions: u64,
}

type Columns = [(&'static str, &'static str)];

const ORDER: &Columns = &[("id", "int8"), ("customer", "int8")];
const CUSTOMER: &Columns = &[
    ("id", "int4"),
    ("code", "char(3)"),
    ("name", "varchar(20)"),
    ("limit", "numeric(10,2)"),
];

impl World {
    /// Customer 7 exists.
    fn new() -> Self {
        let file = |name: &str, text: &str| SourceFile {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        let pack = Pack {
            mapping: file("mapping.toml", MAPPING),
            schema: file("schema.toml", SCHEMA),
            params: toml::Table::new(),
        };
        let compiled = Mapping::compile(&pack);
        let (mapping, _) =
            compiled.unwrap_or_else(|all| panic!("{}", all.render(crate::paint::Look::PLAIN)));
        let stamp = Stamp {
            pipeline: "p".to_owned(),
            identity: Identity {
                source: "s".to_owned(),
                history: "1".to_owned(),
            },
            max_record_bytes: 1 << 20,
        };
        let mut world = Self {
            evaluator: Evaluator::new(Arc::new(mapping), stamp),
            shapes: 0,
            transactions: 0,
        };
        world.shape("customers", 100, CUSTOMER).unwrap();
        let seven = [Some("7"), Some("abc"), Some("Ann"), Some("10.50")];
        world.commit(0, Op::Insert, &[], &seven).unwrap();
        world
    }

    fn shape(&mut self, table: &str, table_id: u64, columns: &Columns) -> Result<u32, Stop> {
        let id = self.shapes;
        self.shapes += 1;
        let columns = columns.iter().map(|(name, ty)| Column {
            name: (*name).to_owned(),
            ty: Type::parse(ty),
            key: *name == "id",
        });
        let shape = Shape {
            id: ShapeId(id),
            table: TableName::new("public", table),
            table_id: Some(table_id),
            columns: columns.collect(),
        };
        let at = Position::new(self.transactions);
        self.evaluator.bind(&Arc::new(shape), &at)?;
        Ok(id)
    }

    /// One change in a transaction of its own; `?` is what the source leaves out.
    fn commit(
        &mut self,
        shape: u32,
        op: Op,
        before: &[Option<&str>],
        after: &[Option<&str>],
    ) -> Result<Vec<String>, Stop> {
        self.transactions += 1;
        let tx = Transaction {
            id: self.transactions,
            position: Position::new(self.transactions),
            commit_micros: 0,
        };
        let mut batch = Batch::default();
        let mut image = |row: &[Option<&str>]| match row {
            [] => Image::Absent,
            row => batch.push_row(row.iter().map(|cell| match cell {
                Some("?") => Cell::Unavailable,
                Some(value) => Cell::Value(value.as_bytes()),
                None => Cell::Null,
            })),
        };
        let change = Change {
            shape: ShapeId(shape),
            op,
            before: image(before),
            after: image(after),
            width: u16::try_from(before.len().max(after.len())).unwrap(),
            ordinal: 0,
        };
        let new = Arrival::New { witness: 0 };
        self.evaluator.gather(&batch, &tx, &change, new)?;
        let mut out = EncodedBatch::default();
        let settled = self.evaluator.settle(usize::MAX, &mut None, &mut out)?;
        assert_eq!(settled, Settled::Wholly);
        let published = Published::all(self.evaluator.mapping(), &out);
        Ok(published.iter().map(line).collect())
    }

    /// What an order of customer 7 says of them.
    fn order(&mut self) -> Vec<String> {
        let shape = self.shape("orders", 200, ORDER).unwrap();
        self.commit(shape, Op::Insert, &[], &[Some("1"), Some("7")])
            .unwrap()
    }
}

const KNOWN: [&str; 2] = [
    r#"Ordered 1 {"name":"Ann"}"#,
    r#"Priced 1 {"limit":"10.50"}"#,
];

#[test]
fn columns_that_are_added_and_values_that_print_alike_change_nothing() {
    let mut world = World::new();
    let wider = [
        ("id", "int8"),
        ("code", "char(3)"),
        ("name", "text"),
        ("limit", "numeric(10,2)"),
        ("added", "text"),
    ];
    world.shape("customers", 100, &wider).unwrap();
    assert_eq!(world.order(), KNOWN);
}

#[test]
fn a_cell_that_the_server_prints_otherwise_by_now_is_unavailable_until_its_row_changes() {
    let mut world = World::new();
    let finer = [
        ("id", "int4"),
        ("code", "char(3)"),
        ("name", "varchar(20)"),
        ("limit", "numeric(12,4)"),
    ];
    let shape = world.shape("customers", 100, &finer).unwrap();
    assert_eq!(
        world.order(),
        [
            KNOWN[0],
            "Priced 1 field `limit`: customer.limit is unavailable: it was not kept when the row was last seen"
        ]
    );
    let (old, new) = (["7", "?", "?", "?"], ["7", "abc", "Ann", "10.5000"]);
    world
        .commit(shape, Op::Update, &old.map(Some), &new.map(Some))
        .unwrap();
    assert_eq!(world.order()[1], r#"Priced 1 {"limit":"10.5000"}"#);
}

/// The server says nothing of a column that is dropped and made again: only that it stands last now.
#[test]
fn a_column_that_was_dropped_and_made_again_is_unavailable() {
    let mut world = World::new();
    let again = [
        ("id", "int4"),
        ("code", "char(3)"),
        ("limit", "numeric(10,2)"),
        ("name", "varchar(20)"),
    ];
    world.shape("customers", 100, &again).unwrap();
    let told = world.order();
    assert!(told[0].contains("customer.name is unavailable"), "{told:?}");
}

fn stale(stopped: Result<impl std::fmt::Debug, Stop>, says: &str) {
    let stop = stopped.unwrap_err();
    assert_eq!(stop.state, State::StateStale, "{stop}");
    assert!(stop.problem.contains(says), "{stop}");
    assert!(stop.hint.contains("rowbridge position set --snapshot"));
}

#[test]
fn a_table_that_was_made_again_has_none_of_the_rows_that_are_remembered() {
    let mut world = World::new();
    let again = world.shape("customers", 101, CUSTOMER);
    stale(again, "public.customers was dropped and made again");
}

#[test]
fn rows_are_not_found_by_values_of_another_kind() {
    for (column, says) in [("code", "`code`"), ("id", "`id`")] {
        let mut world = World::new();
        let mut other = CUSTOMER.to_vec();
        for (name, ty) in &mut other {
            if *name == column {
                *ty = if column == "id" { "numeric" } else { "text" };
            }
        }
        stale(world.shape("customers", 100, &other), says);
    }
}

#[test]
fn a_change_that_does_not_say_which_row_it_is_about_loses_what_is_remembered() {
    let mut world = World::new();
    let (old, new) = (["?", "abc", "?", "?"], ["8", "abc", "Ann", "1"]);
    let moved = world.commit(0, Op::Update, &old.map(Some), &new.map(Some));
    stale(
        moved,
        "one update of public.customers does not say the key (id)",
    );
    let deleted = world.commit(0, Op::Delete, &old.map(Some), &[]);
    stale(deleted, "one delete of public.customers");
}

#[test]
fn what_finds_rows_is_part_of_what_is_kept() {
    let kept = World::new().evaluator.mapping().kept().unwrap();
    let of_customers: Vec<&str> = kept["public.customers"]
        .iter()
        .map(String::as_str)
        .collect();
    assert_eq!(
        of_customers,
        ["by code", "by id", "code", "id", "limit", "name"]
    );
}
