//! Every PostgreSQL value is published so that nothing of it is lost: what is stored, what COPY and pgoutput
//! print, what the mapping publishes, and what the server makes of that again are the same value.
//!
//! Listed edges and drawn values of every type, in arrays and composites of arrays and composites. The draw
//! is the same in every run; `ROWBRIDGE_VALUES_SEED=N cargo test --test values` draws others.

#![allow(clippy::unwrap_used, reason = "a test panics")]

mod corpus;
mod encodings;
mod form;
mod generate;
mod others;
mod parts;
mod reader;
mod round_trip;
mod times;

/// Runs each story on every version under test.
macro_rules! on_every_version {
    ($($story:ident),+ $(,)?) => {
        mod pg15 {
            $(#[tokio::test]
            async fn $story() {
                super::$story(rowbridge_testbed::PgVersion::V15).await;
            })+
        }
        mod pg17 {
            $(#[tokio::test]
            async fn $story() {
                super::$story(rowbridge_testbed::PgVersion::V17).await;
            })+
        }
    };
}
pub(crate) use on_every_version;
