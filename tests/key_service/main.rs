//! The worked example of a consumer: two groups on a hotel's stays, against a real Kafka, with a downstream that fails.

mod downstream;
mod scenarios;
mod stage;
mod stays;
