//! Places whose values leave: in data, keys, subjects, headers. What is classed is protected there, or may not be read.

use super::path::{ItemPath, Place, Shielded};
use super::{ItemScope, Scope, Undecided};
use crate::mapping::diagnostic::{At, Diagnostic};
use crate::mapping::file::privacy::OwnClass;
use crate::mapping::privacy::{Class, Classed, Shield, names};

/// The column that a place is in, and where inside.
struct Origin {
    slot: u16,
    /// Names from the column on.
    inside: Vec<String>,
    /// How many of them lead to the element, where it is one that is read.
    to_item: usize,
}

impl Origin {
    /// Of a place that holds something of a row.
    fn of(scope: &Scope<'_>, place: &Place) -> Option<Self> {
        let cell = match (place, scope.item) {
            (Place::Cell(cell), _) => cell,
            (Place::Shielded(shielded), _) => &shielded.cell,
            (Place::Item(item), ItemScope::Of(each)) => {
                let to_item = names(&each.cell.inner);
                return Some(Self {
                    slot: each.cell.slot,
                    to_item: to_item.len(),
                    inside: [to_item, names(&item.inner)].concat(),
                });
            }
            (
                Place::Item(_)
                | Place::Image(_)
                | Place::Fact(_)
                | Place::Other(..)
                | Place::OtherRow(_),
                _,
            ) => return None,
        };
        Some(Self {
            slot: cell.slot,
            inside: names(&cell.inner),
            to_item: 0,
        })
    }

    fn shield(&self, scope: &Scope<'_>) -> Shield {
        scope.table.privacy.shield_at(self.slot, &self.inside)
    }

    fn name(&self, scope: &Scope<'_>) -> String {
        let column = &scope.table.columns[usize::from(self.slot)].name;
        let inside: String = self.inside.iter().map(|name| format!(".{name}")).collect();
        format!("{}.{column}{inside}", scope.table.short)
    }
}

/// What `[privacy]` calls a place: `booking.guest.email`.
pub(in crate::mapping) fn name(scope: &Scope<'_>, place: &Place) -> Option<String> {
    Some(Origin::of(scope, place)?.name(scope))
}

/// A place that leaves from `at`, protected as its classes and the event's own say; a dropped one is reported.
pub(in crate::mapping) fn leaving(
    scope: &Scope<'_>,
    place: Place,
    at: At,
    own: Option<&OwnClass>,
) -> Option<Place> {
    if !is_open(scope, &place, at) {
        return None;
    }
    let Some(origin) = Origin::of(scope, &place) else {
        return Some(place);
    };
    let mut shield = origin.shield(scope);
    if shield.whole == Some(Class::Drop) {
        scope.error(dropped(at, &origin.name(scope)));
        return None;
    }
    if let Some(own) = own {
        let of_column = shield.whole.unwrap_or(Class::Clear);
        if own.class.is_looser_than(of_column) {
            scope.error(looser(own, of_column, &origin.name(scope)));
            return None;
        }
        note(scope, &place, own.class);
        shield.whole = Some(own.class).filter(|class| *class != Class::Clear);
    } else if shield.is_empty() {
        undecided(scope, &place, at);
    }
    Some(match place {
        place if shield.is_empty() => place,
        Place::Cell(cell) => Place::Shielded(Box::new(Shielded { cell, shield })),
        Place::Item(item) => Place::Item(Box::new(ItemPath {
            inner: item.inner,
            shield: shield.behind(origin.to_item),
        })),
        place => place,
    })
}

/// Whether a cell of another row may leave: one that is classed may not, whatever its class; reported.
fn is_open(scope: &Scope<'_>, place: &Place, at: At) -> bool {
    let Place::Other(number, cell) = place else {
        return true;
    };
    let table = scope.others[usize::from(*number)].table;
    if table.privacy.shield(cell.slot, &cell.inner).is_empty() {
        return true;
    }
    let column = &table.columns[usize::from(cell.slot)].name;
    scope.error(
        Diagnostic::error(
            at,
            format!(
                "`{}.{column}` is protected, and is read from another row",
                table.short
            ),
        )
        .label("classed in [privacy]")
        .hint("leave it out here, or publish it in an event of its own table"),
    );
    false
}

/// Keeps what leaves as it is, unless it was classed `clear`.
pub(in crate::mapping) fn undecided(scope: &Scope<'_>, place: &Place, at: At) {
    let Some(origin) = Origin::of(scope, place) else {
        return;
    };
    if !scope.table.privacy.is_decided(origin.slot, &origin.inside) {
        scope.reads.borrow_mut().undecided.push(Undecided {
            slot: origin.slot,
            inside: origin.inside.into(),
            at,
        });
    }
}

/// Keeps what an event says of a place: it binds a row that is set aside, too.
pub(in crate::mapping) fn note(scope: &Scope<'_>, place: &Place, class: Class) {
    if let Some(origin) = Origin::of(scope, place) {
        scope.reads.borrow_mut().classed.push(Classed {
            slot: origin.slot,
            inside: origin.inside.into(),
            class,
        });
    }
}

/// Whether a place may stand where only values in the clear make sense; reported if not. `what` says where that is.
pub(in crate::mapping) fn in_the_clear(
    scope: &Scope<'_>,
    place: &Place,
    at: At,
    what: &str,
    hint: &str,
) -> Option<()> {
    if !is_open(scope, place, at) {
        return None;
    }
    let Some(origin) = Origin::of(scope, place) else {
        return Some(());
    };
    let shield = origin.shield(scope);
    let class = match (shield.whole, shield.inside.first()) {
        (Some(class), _) => class,
        (None, Some((_, class))) => *class,
        (None, None) => return Some(()),
    };
    let name = origin.name(scope);
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

fn looser(own: &OwnClass, of_column: Class, name: &str) -> Diagnostic {
    Diagnostic::error(
        own.text.at,
        format!("`{name}` is classed `{of_column}`, and an event may only tighten"),
    )
    .label(format!("`{}` is looser", own.class))
    .hint("leave `privacy` out here, or change the class in [privacy]")
}

fn dropped(at: At, name: &str) -> Diagnostic {
    Diagnostic::error(at, format!("`{name}` is dropped: it leaves in no event"))
        .label("classed `drop` in [privacy]")
        .hint("leave it out here; `when`, `changed` and checks may read it")
}
