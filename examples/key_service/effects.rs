//! What each event means to a group: a request to its downstream, or nothing.

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::json;

use crate::event::Event;

/// A consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    KeyCards,
    IdentityDocuments,
}

/// What is asked of a downstream. All of it may be asked again without harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    /// JSON; empty for none.
    pub(crate) body: String,
    pub(crate) missing: Missing,
}

/// What it means if the downstream does not have what is asked for (404).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// There is nothing to do.
    Fine,
    Failure,
}

/// The data that every event of a stay has.
#[derive(Deserialize)]
struct Stay {
    /// None is chosen yet, or none any more.
    room: Option<String>,
    departure_date: Option<String>,
    /// `RoomChanged` only.
    #[serde(default)]
    checked_in: bool,
}

impl Group {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::KeyCards => "hotel.key-cards",
            Self::IdentityDocuments => "hotel.identity-documents",
        }
    }

    /// What `event` asks for; nothing if it is none of this group's.
    ///
    /// # Errors
    /// The event is not what it should be, which no other attempt will change.
    pub(crate) fn request(self, event: &Event) -> Result<Option<Request>> {
        match self {
            Self::KeyCards => key_card(event),
            Self::IdentityDocuments => Ok(documents(event)),
        }
    }
}

/// A card opens the guest's room from check-in to check-out.
fn key_card(event: &Event) -> Result<Option<Request>> {
    let kind = event.kind();
    if ![
        "CheckedIn",
        "CheckOutReverted",
        "RoomChanged",
        "StayChanged",
        "CheckedOut",
    ]
    .contains(&kind)
    {
        return Ok(None);
    }
    let stay: Stay = serde_json::from_slice(event.value()).context("no data of a stay")?;
    let path = format!("/cards/{}", event.key());
    let valid_until = stay.departure_date;
    Ok(match (kind, stay.room) {
        // A change before the guest is there concerns no card.
        ("RoomChanged", _) if !stay.checked_in => None,
        // Also after a check-out that was a mistake: the card is made anew.
        ("CheckedIn" | "CheckOutReverted" | "RoomChanged", Some(room)) => Some(Request {
            method: "PUT",
            path,
            body: json!({ "room": room, "valid_until": valid_until }).to_string(),
            missing: Missing::Failure,
        }),
        // This event does not tell whether the guest is there; the card does.
        ("StayChanged", _) => Some(Request {
            method: "PATCH",
            path,
            body: json!({ "valid_until": valid_until }).to_string(),
            missing: Missing::Fine,
        }),
        // Checked out, or in the house without a room: the next `RoomChanged` makes a card.
        _ => Some(Request {
            method: "DELETE",
            path,
            body: String::new(),
            missing: Missing::Fine,
        }),
    })
}

/// Copies of passports are kept while the guest is expected or there. The store empties its bin after a while; if that
/// was before the check-out was taken back it answers 410, and the record in the failed topic is the reception's to ask
/// the guest again.
fn documents(event: &Event) -> Option<Request> {
    let path = format!("/documents/{}", event.key());
    match event.kind() {
        "CheckedOut" | "Cancelled" => Some(Request {
            method: "DELETE",
            path,
            body: String::new(),
            missing: Missing::Fine,
        }),
        "CheckOutReverted" => Some(Request {
            method: "POST",
            path: format!("{path}/restore"),
            body: String::new(),
            // There never were any.
            missing: Missing::Fine,
        }),
        _ => None,
    }
}
