//! The connector against real servers: what is streamed, what is refused, what keeps the link alive.

#![allow(clippy::unwrap_used, reason = "a test panics")]

mod admission;
mod checking;
mod conformance;
mod follower;
mod link;
mod server;
mod states;
mod streaming;

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
