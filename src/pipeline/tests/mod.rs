//! The pipeline between a model source and a model Kafka, broken at every step.
