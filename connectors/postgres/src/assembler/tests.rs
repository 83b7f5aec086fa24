use rowbridge_api::CellRange;

use super::*;

fn assembler(resume: u64) -> Assembler {
    let keys = Keys::from([(TableName::new("public", "t"), vec!["id".to_owned()])]);
    Assembler::new(keys, TypeNames::default(), resume, 0)
}

fn begin(final_lsn: u64) -> Vec<u8> {
    [
        b"B".as_slice(),
        &final_lsn.to_be_bytes(),
        &[0; 8],
        &[0, 0, 0, 7],
    ]
    .concat()
}

fn commit(end_lsn: u64) -> Vec<u8> {
    [b"C\0".as_slice(), &[0; 8], &end_lsn.to_be_bytes(), &[0; 8]].concat()
}

fn relation(oid: u8, name: &str) -> Vec<u8> {
    let head = [b'R', 0, 0, 0, oid];
    let column: &[u8] = b"\x01id\0\0\0\0\x17\xff\xff\xff\xff";
    [
        &head[..],
        b"public\0",
        name.as_bytes(),
        b"\0d\0\x01",
        column,
    ]
    .concat()
}

fn insert(oid: u8) -> Vec<u8> {
    [b"I\0\0\0", [oid].as_slice(), b"N\0\x01t\0\0\0\x015"].concat()
}

fn feed(assembler: &mut Assembler, messages: &[Vec<u8>]) -> (Vec<String>, Option<u64>) {
    let mut batch = Batch::default();
    let mut idle = None;
    for message in messages {
        let start = batch.bytes.len();
        batch.bytes.extend(message);
        let end = batch.bytes.len();
        idle = assembler.apply(&mut batch, start..end).unwrap().or(idle);
    }
    (shown(&batch), idle)
}

fn shown(batch: &Batch) -> Vec<String> {
    let items = batch.items.iter().map(|item| match item {
        Item::Shape(shape) => format!("shape {} {}", shape.id.0, shape.table),
        Item::Begin(transaction) => format!("begin {}", transaction.position),
        Item::Change(change) => format!("{} {}", change.op.as_str(), change.ordinal),
        Item::Commit(commit) => format!("commit {}", commit.position),
        Item::SnapshotEnd(_) => "end".to_owned(),
    });
    items.collect()
}

#[test]
fn a_transaction_before_the_position_is_dropped_whole_but_its_relations_stay_known() {
    let mut assembler = assembler(100);
    let old = [begin(99), relation(1, "t"), insert(1), commit(100)];
    let (items, idle) = feed(&mut assembler, &old);
    assert_eq!((items, idle), (vec!["shape 0 public.t".to_owned()], None));
    let (items, _) = feed(&mut assembler, &[begin(100), insert(1), commit(120)]);
    assert_eq!(items, ["begin 0/64", "insert 0", "commit 0/78"]);
    assert_eq!(assembler.last_position(), 120);
}

#[test]
fn changes_of_unmapped_tables_only_count_and_an_empty_transaction_is_an_idle_position() {
    let mut assembler = assembler(0);
    let both = [
        begin(10),
        relation(1, "t"),
        relation(2, "u"),
        insert(2),
        insert(1),
        commit(20),
    ];
    let (items, _) = feed(&mut assembler, &both);
    assert_eq!(
        items,
        ["shape 0 public.t", "begin 0/A", "insert 1", "commit 0/14"]
    );
    let (items, idle) = feed(&mut assembler, &[begin(30), insert(2), commit(40)]);
    assert_eq!((items, idle), (Vec::new(), Some(40)));
}

/// A table or leaf of the columns id, day and v; `keys` are the flags of its identity.
fn described(oid: u8, name: &str, identity: u8, keys: [u8; 3]) -> Vec<u8> {
    let head = [b"R\0\0\0".as_slice(), &[oid], b"public\0", name.as_bytes()];
    let mut message = [&head.concat()[..], &[0, identity, 0, 3]].concat();
    for (column, key) in ["id", "day", "v"].into_iter().zip(keys) {
        message.push(key);
        message.extend(column.as_bytes());
        message.extend(b"\0\0\0\0\x19\xff\xff\xff\xff");
    }
    message
}

/// One cell for each letter: `-` is null, `u` an unchanged TOAST value.
fn row_of(head: &[u8], cells: &str) -> Vec<u8> {
    let mut message = [head, &[0, 3]].concat();
    for cell in cells.bytes() {
        match cell {
            b'-' => message.push(b'n'),
            b'u' => message.push(b'u'),
            value => message.extend([b't', 0, 0, 0, 1, value]),
        }
    }
    message
}

fn removal(kind: u8, cells: &str) -> Vec<u8> {
    row_of(&[b'D', 0, 0, 0, 1, kind], cells)
}

fn addition(cells: &str) -> Vec<u8> {
    row_of(b"I\0\0\0\x01N", cells)
}

/// The root's and the leaf's description, as the server sends them before the leaf's first change.
fn leaf(root: u8, identity: u8) -> [Vec<u8>; 2] {
    [
        described(1, "t", root, [1, 1, 0]),
        described(2, "leaf", identity, [1, 1, 0]),
    ]
}

fn images(batch: &Batch) -> Vec<String> {
    let image = |image: Image, width: u16| match image {
        Image::Absent => String::new(),
        Image::Row { first_cell } => batch.cells[first_cell as usize..][..usize::from(width)]
            .iter()
            .map(|cell| match cell.bytes(&batch.bytes) {
                Some(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
                None if *cell == CellRange::NULL => "-".to_owned(),
                None => "?".to_owned(),
            })
            .collect(),
    };
    let changes = batch.items.iter().filter_map(|item| match item {
        Item::Change(change) => Some(change),
        _ => None,
    });
    let changes = changes.map(|change| {
        let (before, after) = (
            image(change.before, change.width),
            image(change.after, change.width),
        );
        format!("{} {before}>{after} {}", change.op.as_str(), change.ordinal)
    });
    changes.collect()
}

fn apply(assembler: &mut Assembler, batch: &mut Batch, messages: &[Vec<u8>]) {
    for message in messages {
        let start = batch.bytes.len();
        batch.bytes.extend(message);
        let end = batch.bytes.len();
        assembler.apply(batch, start..end).unwrap();
    }
}

fn told(messages: &[Vec<u8>]) -> Vec<String> {
    let (mut assembler, mut batch) = (assembler(0), Batch::default());
    apply(&mut assembler, &mut batch, &[begin(10)]);
    apply(&mut assembler, &mut batch, messages);
    apply(&mut assembler, &mut batch, &[commit(20)]);
    assert!(!assembler.expects_more(), "a commit completes everything");
    images(&batch)
}

#[test]
fn a_moved_row_is_one_update_and_nothing_else_is_joined() {
    let [root, of_leaf] = leaf(b'f', b'f');
    let with = |rest: &[Vec<u8>]| told(&[&[root.clone(), of_leaf.clone()], rest].concat());
    let delete = removal(b'O', "1a-");
    assert_eq!(
        with(&[delete.clone(), addition("1bx")]),
        ["update 1a->1bx 1"]
    );
    assert_eq!(
        with(&[delete.clone(), addition("2bx")]),
        ["delete 1a-> 0", "insert >2bx 1"],
        "another key"
    );
    assert_eq!(
        with(&[delete.clone(), removal(b'O', "2ay"), addition("1bx")]),
        ["delete 1a-> 0", "delete 2ay> 1", "insert >1bx 2"],
        "something came between in the table"
    );
    assert_eq!(
        told(&[root.clone(), delete.clone(), addition("1bx")]),
        ["delete 1a-> 0", "insert >1bx 1"],
        "not partitioned"
    );
    let other = relation(3, "u");
    let mut far = vec![delete, other];
    far.extend((0..64).map(|_| insert(3)));
    far.push(addition("1bx"));
    assert_eq!(with(&far), ["update 1a->1bx 65"]);
    far.insert(2, insert(3));
    assert_eq!(with(&far), ["delete 1a-> 0", "insert >1bx 66"]);
}

#[test]
fn a_batch_waits_for_the_second_half_and_gives_the_first_back_at_the_end() {
    let (mut assembler, mut batch) = (assembler(0), Batch::default());
    let [root, of_leaf] = leaf(b'f', b'f');
    let story = [
        begin(10),
        root,
        of_leaf,
        addition("9zz"),
        removal(b'O', "1a-"),
    ];
    apply(&mut assembler, &mut batch, &story[..4]);
    assert!(!assembler.expects_more());
    apply(&mut assembler, &mut batch, &story[4..]);
    assert!(assembler.expects_more());
    assembler.withdraw(&mut batch);
    assert_eq!(images(&batch), ["insert >9zz 0"]);
    assert!(!assembler.expects_more());
}

#[test]
fn a_null_of_a_leaf_that_sends_its_key_alone_is_unavailable() {
    let delete = |root, identity, kind, cells| {
        told(&[&leaf(root, identity)[..], &[removal(kind, cells)]].concat())
    };
    assert_eq!(delete(b'f', b'd', b'O', "1a-"), ["delete 1a?> 0"]);
    assert_eq!(delete(b'f', b'd', b'O', "1ax"), ["delete 1ax> 0"]);
    assert_eq!(delete(b'f', b'f', b'O', "1a-"), ["delete 1a-> 0"]);
    assert_eq!(delete(b'd', b'd', b'K', "1a-"), ["delete 1a?> 0"]);
    assert_eq!(delete(b'd', b'f', b'K', "1ax"), ["delete 1ax> 0"]);
    // Without an old row, what is in the identity of the leaf did not change.
    let update = row_of(b"U\0\0\0\x01N", "1au");
    let story = [&leaf(b'f', b'd')[..], &[update]].concat();
    assert_eq!(told(&story), ["update 1a?>1a? 0"]);
}

#[test]
fn an_idle_position_never_comes_inside_a_transaction_or_twice() {
    let mut assembler = assembler(0);
    let mut batch = Batch::default();
    feed(&mut assembler, &[begin(10)]);
    assert!(!assembler.idle(&mut batch, 50), "a transaction is open");
    feed(&mut assembler, &[commit(20)]);
    assert!(assembler.idle(&mut batch, 50));
    assert!(!assembler.idle(&mut batch, 50), "no news");
    assert_eq!(shown(&batch), ["commit 0/32"]);
}

#[test]
fn a_relation_sent_again_keeps_its_shape_and_a_changed_one_gets_a_new_one() {
    let mut assembler = assembler(0);
    let renamed = b"\x01nr\0\0\0\0\x17\xff\xff\xff\xff";
    let changed = [b"R\0\0\0\x01public\0t\0d\0\x01".as_slice(), renamed].concat();
    let story = [begin(10), relation(1, "t"), relation(1, "t"), changed];
    let (items, _) = feed(&mut assembler, &story);
    assert_eq!(items, ["shape 0 public.t", "shape 1 public.t"]);
}

#[test]
fn what_the_protocol_does_not_allow_is_an_error() {
    for story in [
        vec![insert(1)],
        vec![commit(1)],
        vec![begin(1), begin(2)],
        vec![begin(1), insert(1)],
        vec![begin(1), relation(1, "t"), b"I\0\0\0\x01N\0\x02nn".to_vec()],
    ] {
        let mut assembler = assembler(0);
        let mut batch = Batch::default();
        let verdicts = story.iter().map(|message| {
            let start = batch.bytes.len();
            batch.bytes.extend(message);
            let end = batch.bytes.len();
            assembler.apply(&mut batch, start..end).is_ok()
        });
        let verdicts: Vec<bool> = verdicts.collect();
        assert_eq!(verdicts.last(), Some(&false), "{story:?}");
    }
}
