//! The Kafka sink: events, quarantine and position in one transaction.
