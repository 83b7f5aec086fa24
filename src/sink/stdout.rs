//! The sink that prints events: `dry-run` and pipelines without Kafka.
