//! Places whose values leave: in data, keys, subjects, headers. What is classed is protected there, or may not be read.

use super::path::{CellPath, Place, Shielded};
use super::{Scope, Undecided};
use crate::mapping::diagnostic::{At, Diagnostic};
use crate::mapping::file::privacy::OwnClass;
use crate::mapping::privacy::{Class, Classed, Shield};

/// A place that leaves from `at`, protected as its classes and the event's own say; a dropped one is reported.
pub(in crate::mapping) fn leaving(
    scope: &Scope<'_>,
    place: Place,
    at: At,
    own: Option<&OwnClass>,
) -> Option<Place> {
    let Place::Cell(cell) = place else {
        return Some(place);
    };
    let mut shield = shield_of(scope, &cell);
    let name = name(scope, &cell);
    if shield.whole == Some(Class::Drop) {
        scope.error(dropped(at, &name));
        return None;
    }
    if let Some(own) = own {
        let of_column = shield.whole.unwrap_or(Class::Clear);
        if own.class.is_looser_than(of_column) {
            scope.error(
                Diagnostic::error(
                    own.text.at,
                    format!("`{name}` is classed `{of_column}`, and an event may only tighten"),
                )
                .label(format!("`{}` is looser", own.class))
                .hint("leave `privacy` out here, or change the class in [privacy]"),
            );
            return None;
        }
        note(scope, &cell, own.class);
        shield.whole = Some(own.class).filter(|class| *class != Class::Clear);
    }
    if own.is_none() && shield.is_empty() {
        undecided(scope, &cell, at);
    }
    Some(match shield.is_empty() {
        true => Place::Cell(cell),
        false => Place::Shielded(Box::new(Shielded { cell, shield })),
    })
}

/// Keeps what leaves as it is, unless it was classed `clear`.
pub(in crate::mapping) fn undecided(scope: &Scope<'_>, cell: &CellPath, at: At) {
    if scope.table.privacy.is_decided(cell.slot, &cell.inner) {
        return;
    }
    let Classed { slot, inside, .. } = Classed::of_place(cell.slot, &cell.inner, Class::Clear);
    let undecided = Undecided { slot, inside, at };
    scope.reads.borrow_mut().undecided.push(undecided);
}

/// Keeps what an event says of a place: it binds a row that is set aside, too.
pub(in crate::mapping) fn note(scope: &Scope<'_>, cell: &CellPath, class: Class) {
    let classed = Classed::of_place(cell.slot, &cell.inner, class);
    scope.reads.borrow_mut().classed.push(classed);
}

/// Whether a place may stand where only values in the clear make sense; reported if not. `what` says where that is.
pub(in crate::mapping) fn in_the_clear(
    scope: &Scope<'_>,
    place: &Place,
    at: At,
    what: &str,
    hint: &str,
) -> Option<()> {
    let Place::Cell(cell) = place else {
        return Some(());
    };
    let shield = shield_of(scope, cell);
    let class = match (shield.whole, shield.inside.first()) {
        (Some(class), _) => class,
        (None, Some((_, class))) => *class,
        (None, None) => return Some(()),
    };
    let name = name(scope, cell);
    if shield.whole == Some(Class::Drop) {
        scope.error(dropped(at, &name));
    } else {
        scope.error(
            Diagnostic::error(at, format!("{what} would give `{name}` away"))
                .label(format!("classed `{class}` in [privacy]"))
                .hint(hint),
        );
    }
    None
}

fn shield_of(scope: &Scope<'_>, cell: &CellPath) -> Shield {
    scope.table.privacy.shield(cell.slot, &cell.inner)
}

fn name(scope: &Scope<'_>, cell: &CellPath) -> String {
    let column = &scope.table.columns[usize::from(cell.slot)].name;
    let classed = Classed::of_place(cell.slot, &cell.inner, Class::Clear);
    let inside: String = classed
        .inside
        .iter()
        .map(|name| format!(".{name}"))
        .collect();
    format!("{}.{column}{inside}", scope.table.short)
}

fn dropped(at: At, name: &str) -> Diagnostic {
    Diagnostic::error(at, format!("`{name}` is dropped: it leaves in no event"))
        .label("classed `drop` in [privacy]")
        .hint("leave it out here; `when`, `changed` and checks may read it")
}
