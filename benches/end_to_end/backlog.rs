//! Updates of single rows that wait in the source, numbered from 1, and the events that each of them is to give.

/// Segments that the updates walk over, in turns.
pub(crate) const SEGMENTS: u64 = 10_000;

/// Flights and bookings that the segments are of, so that keys spread over the partitions.
pub(crate) const FLIGHTS: u64 = 200;
pub(crate) const BOOKINGS: u64 = 1_000;

/// A backlog: so many updates, in transactions of so many rows.
pub(crate) struct Backlog<'a> {
    pub(crate) name: &'a str,
    pub(crate) rows: u64,
    pub(crate) rows_per_transaction: u64,
    pub(crate) update: Update,
}

/// What each update assigns and gives.
#[derive(Clone, Copy)]
pub(crate) struct Update {
    /// In SQL; `n` is the update's number. Each gives its row values that it did not have. A document gets the seat.
    pub(crate) set: &'static str,
    pub(crate) gives: &'static [Expected],
}

/// An event that every update gives once.
pub(crate) struct Expected {
    pub(crate) kind: &'static str,
    /// One of [`crate::tally::TOPICS`].
    pub(crate) topic: &'static str,
    /// The field that tells the update's number.
    pub(crate) field: &'static str,
}

/// One event for each row.
pub(crate) const SEAT: Update = Update {
    set: "seat_no = 'S' || n",
    gives: &[SEAT_REASSIGNED],
};

/// Three events for each row. A fare has two decimals, and up to 10,000,000 updates give a possible one.
pub(crate) const FARE_SEAT_AND_CLASS: Update = Update {
    set: "fare = n::numeric / 100, seat_no = 'S' || n, fare_class = 'K' || n",
    gives: &[
        SEAT_REASSIGNED,
        Expected {
            kind: "FareChanged",
            topic: "bookings",
            field: "fare",
        },
        Expected {
            kind: "ServiceClassChanged",
            topic: "bookings",
            field: "fare_class",
        },
    ],
};

const SEAT_REASSIGNED: Expected = Expected {
    kind: "SeatReassigned",
    topic: "inventory",
    field: "seat",
};

/// The seat that the update with this number gives.
pub(crate) fn seat(number: u64) -> String {
    format!("S{number}")
}

/// The segment that the update with this number changes.
pub(crate) fn segment(number: u64) -> i64 {
    i64::try_from(1 + number % SEGMENTS).unwrap_or(i64::MAX)
}
