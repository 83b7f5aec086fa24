//! Debezium's change envelope, as its PostgreSQL connector writes it through the JSON converter.
//!
//! With `schema` every field says how it is encoded; without it schema.toml decides, under Debezium's
//! default settings (`decimal.handling.mode=precise`, `time.precision.mode=adaptive`); decimals as
//! strings or numbers are accepted too. What the connector did not get (its placeholder, the old row
//! under another replica identity than FULL) is unavailable.
//!
//! Not here: the flattened form of `ExtractNewRecordState`, which has lost the old row.

mod encoding;

use std::sync::Arc;

use rowbridge_api::{Op, Position};

use super::node::{Node, Object, Problem};
use super::row_change::{OwnedCell, RowChange, TransactionFacts};
use super::tables::{DeclaredTable, Tables};
use super::{Line, MAX_ORDER, TOO_FAR};
use encoding::FieldSchema;

/// Whether a line is Debezium's rather than change JSON.
pub(super) fn is_envelope(object: &Object<'_>) -> bool {
    let short_op = object
        .get("op")
        .is_some_and(|op| op.text().len() == "\"c\"".len());
    object.has("payload") || short_op || is_marker(object)
}

/// Transaction metadata (`BEGIN`, `END`) and heartbeats.
fn is_marker(object: &Object<'_>) -> bool {
    let heartbeat = object.members.len() == 1 && object.has("ts_ms");
    heartbeat || (object.has("status") && object.has("id") && !object.has("op"))
}

/// Reads one envelope.
pub(super) fn read(object: &Object<'_>, tables: &Tables) -> Result<Line, Problem> {
    let schema = object.get("schema").filter(|schema| schema.is_object());
    let payload = match object.get("payload") {
        Some(payload) => payload.object()?,
        None if object.has("payload") => return Ok(Line::Nothing), // tombstone
        None => object.clone(),
    };
    if is_marker(&payload) {
        let end = payload
            .get("status")
            .is_some_and(|status| status.text() == "\"END\"");
        return Ok(if end {
            Line::Commit(None)
        } else {
            Line::Nothing
        });
    }
    let op_at = payload.get("op").ok_or_else(|| {
        payload.at.problem(
            "no `op`: rows flattened by ExtractNewRecordState have lost their old image; read the topic before it",
        )
    })?;
    let op = match op_at.string()?.as_str() {
        "c" => Op::Insert,
        "u" => Op::Update,
        "d" => Op::Delete,
        "r" => Op::Read,
        "t" => Op::Truncate,
        "m" => return Ok(Line::Nothing), // pg_logical_emit_message
        _ => return Err(op_at.problem("`op` is one of c, u, d, r, t")),
    };
    let source = payload.require("source")?.object()?;
    let table = table_of(&source, tables)?;
    let image = |name: &str| {
        let fields = schema
            .map(|schema| encoding::image_fields(schema, name))
            .transpose()?;
        let image = payload.get(name);
        image
            .map(|node| cells(node, fields.as_deref(), table))
            .transpose()
    };
    let mut before = image("before")?;
    if op == Op::Delete {
        before = before.map(|cells| hide_defaults(cells, table));
    }
    let mut change = RowChange {
        shape: Arc::clone(&table.shape),
        op,
        before,
        after: image("after")?,
    };
    change
        .complete()
        .map_err(|message| payload.at.problem(message))?;
    Ok(Line::Change(change, facts(&payload, &source)?))
}

fn table_of<'t>(source: &Object<'_>, tables: &'t Tables) -> Result<&'t DeclaredTable, Problem> {
    let table_at = source.require("table")?;
    let schema = match source.get("schema") {
        Some(schema) => schema.string()?,
        None => "public".to_owned(),
    };
    let name = table_at.string()?;
    tables.stored_as(&schema, &name).ok_or_else(|| {
        table_at.problem(format!(
            "the mapping declares no table `{schema}.{name}`; it has {}",
            tables.short_names()
        ))
    })
}

fn cells(
    image: Node<'_>,
    fields: Option<&[FieldSchema<'_>]>,
    table: &DeclaredTable,
) -> Result<Vec<OwnedCell>, Problem> {
    let mut cells = RowChange::unavailable_row(&table.shape);
    for (name, value) in image.object()?.members {
        let Some(index) = table.column(&name) else {
            continue;
        };
        let field = fields.and_then(|fields| fields.iter().find(|field| field.name == name));
        cells[index] = encoding::cell(&table.shape.columns[index].ty, field, value)
            .map_err(|message| value.problem(format!("`{name}`: {message}")))?;
    }
    Ok(cells)
}

/// Under another replica identity than FULL the server sends only the key of a deleted row, and Debezium
/// fills the rest with nulls. A row of nothing but key and nulls is taken for that: unavailable is the
/// safe side of the doubt.
fn hide_defaults(mut cells: Vec<OwnedCell>, table: &DeclaredTable) -> Vec<OwnedCell> {
    let keys = || table.shape.columns.iter().map(|column| column.key);
    let only_key = cells
        .iter()
        .zip(keys())
        .all(|(cell, key)| key || !matches!(cell, OwnedCell::Value(_)));
    if only_key {
        for (cell, key) in cells.iter_mut().zip(keys()) {
            if !key {
                *cell = OwnedCell::Unavailable;
            }
        }
    }
    cells
}

fn facts(payload: &Object<'_>, source: &Object<'_>) -> Result<TransactionFacts, Problem> {
    let id: Option<u64> = source.get("txId").map(Node::integer).transpose()?;
    let group = match payload.get("transaction").map(Node::object).transpose()? {
        Some(transaction) => transaction.get("id").map(Node::string).transpose()?,
        None => None,
    };
    let commit_micros = match (source.get("ts_us"), source.get("ts_ms")) {
        (Some(micros), _) => Some(commit_time(micros, 1)?),
        (None, Some(millis)) => Some(commit_time(millis, 1_000)?),
        (None, None) => None,
    };
    let lsn_at = source.get("lsn");
    let lsn: Option<u64> = lsn_at.map(Node::integer).transpose()?;
    if let (Some(at), Some(lsn)) = (lsn_at, lsn)
        && lsn > MAX_ORDER
    {
        return Err(at.problem(TOO_FAR));
    }
    Ok(TransactionFacts {
        group: group.or_else(|| id.map(|id| id.to_string())),
        id,
        position: lsn.map(Position::new),
        commit_micros,
        ordinal: None,
    })
}

/// Microseconds since 1970 of a number of units; a time that change JSON can write too.
fn commit_time(at: Node<'_>, unit_micros: i64) -> Result<i64, Problem> {
    let micros = at.integer::<i64>()?.checked_mul(unit_micros);
    micros
        .filter(|micros| jiff::Timestamp::from_microsecond(*micros).is_ok())
        .ok_or_else(|| at.problem("a time of commit out of range"))
}
