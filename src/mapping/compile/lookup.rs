//! Lookups of an event: which row, by which key or index, and what `$.<name>` means from then on.

use super::{Known, ResolvedTable, unknown_table, value};
use crate::mapping::diagnostic::{Diagnostic, one_of};
use crate::mapping::expression::condition::family;
use crate::mapping::expression::path::{PARTS, Place, PlaceType};
use crate::mapping::expression::{Other, OtherKind, Scope};
use crate::mapping::file::lookup::LookupDecl;
use crate::mapping::file::reader::Text;
use crate::mapping::rule::{By, Lookup, Table};
use crate::mapping::schema::unknown_column;

/// Compiles the lookups in file order, beside `others`: one may read those before it. A broken one is reported; its name is known
/// all the same, so that nothing is reported twice.
pub(super) fn compile<'a>(
    scope: &Scope<'_>,
    tables: &'a [ResolvedTable],
    decls: &'a [LookupDecl],
    mut others: Vec<Other<'a>>,
) -> (Vec<Other<'a>>, Vec<Option<Lookup>>) {
    let mut lookups = Vec::new();
    for decl in decls {
        let Some((number, table)) = table_of(scope, tables, decl) else {
            lookups.push(None);
            continue;
        };
        name_is_free(scope, &decl.name);
        let so_far = Scope {
            others: &others,
            ..*scope
        };
        lookups.push(one(&so_far, number, table, decl));
        others.push(Other {
            name: &decl.name.value,
            number,
            table,
            kind: OtherKind::LookedUp,
        });
    }
    (others, lookups)
}

fn table_of<'a>(
    scope: &Scope<'_>,
    tables: &'a [ResolvedTable],
    decl: &LookupDecl,
) -> Option<(usize, &'a Table)> {
    let short = decl.table.as_ref()?;
    let shorts: Vec<&str> = tables
        .iter()
        .map(|table| table.table.short.as_str())
        .collect();
    let Some(number) = shorts.iter().position(|known| *known == short.value) else {
        scope.error(unknown_table(short, &shorts));
        return None;
    };
    (tables[number].known == Known::Yes).then(|| (number, &tables[number].table))
}

fn name_is_free(scope: &Scope<'_>, name: &Text) {
    if PARTS.contains(&name.value.as_str()) {
        scope.error(
            Diagnostic::error(
                name.at,
                format!(
                    "a lookup called `{}` hides a part of the change",
                    name.value
                ),
            )
            .hint("[event.lookup.flight], read as `$.flight.<column>`"),
        );
    }
}

fn one(scope: &Scope<'_>, number: usize, table: &Table, decl: &LookupDecl) -> Option<Lookup> {
    let columns: Vec<Option<(u16, Place)>> = decl
        .columns
        .iter()
        .map(|(column, path)| pair(scope, table, column, path))
        .collect();
    let columns: Vec<(u16, Place)> = columns.into_iter().collect::<Option<_>>()?;
    let mut reads = scope.reads.borrow_mut();
    let read = |slot: &u16| (number, *slot);
    reads.others.extend(table.key.iter().map(read));
    reads
        .others
        .extend(columns.iter().map(|(slot, _)| (number, *slot)));
    drop(reads);
    let Some((by, slots)) = finder(table, &columns) else {
        scope.error(unfound(table, decl, &columns));
        return None;
    };
    let value_of = |slot: &u16| {
        let found = columns.iter().find(|(column, _)| column == slot);
        found.map(|(_, place)| place.clone())
    };
    Some(Lookup {
        name: decl.name.value.as_str().into(),
        table: number,
        by,
        values: slots.iter().filter_map(value_of).collect(),
        missing: decl.missing,
    })
}

/// A column of the table that is looked into, and what it has to equal.
fn pair(scope: &Scope<'_>, table: &Table, column: &Text, path: &Text) -> Option<(u16, Place)> {
    let slot = table.slot(&column.value);
    if slot.is_none() {
        scope.error(unknown_column(
            column.at,
            &column.value,
            &table.short,
            &table.columns,
        ));
    }
    let place = value::single(scope, path);
    let (slot, place) = (slot?, place?);
    let wanted = &table.columns[usize::from(slot)].ty;
    if let PlaceType::Column(found) = place.ty(scope) {
        let same = match family(&wanted.kind) {
            // A date and a timestamp compare, but no text is the text of both.
            "instant" => wanted.kind == found.kind,
            wanted => wanted == family(&found.kind),
        };
        if !same {
            scope.error(
                Diagnostic::error(
                    path.at,
                    format!("`{}` is {}, not {}", path.value, found.name, wanted.name),
                )
                .label(format!("`{}` is {}", column.value, wanted.name)),
            );
            return None;
        }
    }
    Some((slot, place))
}

/// The key or the index that has exactly these columns, with them in its order.
fn finder<'t>(table: &'t Table, columns: &[(u16, Place)]) -> Option<(By, &'t [u16])> {
    let is_it = |slots: &[u16]| {
        slots.len() == columns.len()
            && slots
                .iter()
                .all(|slot| columns.iter().any(|(column, _)| column == slot))
    };
    if !table.key.is_empty() && is_it(&table.key) {
        return Some((By::Key, &table.key));
    }
    let number = table.indexes.iter().position(|slots| is_it(slots))?;
    Some((By::Index(number), &table.indexes[number]))
}

fn unfound(table: &Table, decl: &LookupDecl, columns: &[(u16, Place)]) -> Diagnostic {
    let name = |slot: &u16| table.columns[usize::from(*slot)].name.as_str();
    let key: Vec<&str> = table.key.iter().map(name).collect();
    let quoted: Vec<String> = columns
        .iter()
        .map(|(slot, _)| format!("\"{}\"", name(slot)))
        .collect();
    let error = Diagnostic::error(
        decl.columns_at,
        format!(
            "lookup `{}` names neither the key nor an index of `{}`",
            decl.name.value, table.short
        ),
    );
    let error = match key.is_empty() {
        true => error.label("the table declares no key"),
        false => error.label(format!("its key is {}", key.join(", "))),
    };
    if quoted.is_empty() {
        return error.maybe_hint(one_of("", &key));
    }
    error.hint(format!(
        "if these columns find one row, write in [tables]: {} = {{ name = \"{}\", index = [[{}]] }}",
        table.short,
        table.source,
        quoted.join(", ")
    ))
}
