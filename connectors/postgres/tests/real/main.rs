//! The connector against real servers: what is streamed, what is refused, what keeps the link alive.
//!
//! Every story runs on PostgreSQL 15 and 17, and some on 13 and 18. The whole of it on all versions, by hand:
//!
//! ```sh
//! cargo test -p rowbridge-postgres --test real -- --include-ignored
//! ```
//!
//! `pg13::`, `pg14::`, `pg16::` or `pg18::` behind it picks one version.

#![allow(clippy::unwrap_used, reason = "a test panics")]

use std::pin::Pin;

mod admission;
mod checking;
mod conformance;
mod follower;
mod histories;
mod identities;
mod link;
mod partitions;
mod publications;
mod server;
mod sizes;
mod states;
mod streaming;

/// Makes a test of each story on each version: on 15 and 17 always, on the others with `-- --ignored`.
macro_rules! on_every_version {
    ($($story:ident),+ $(,)?) => {
        crate::stories_on!(pg13, V13, [ignore = "a version of the long run"], $($story),+);
        crate::stories_on!(pg14, V14, [ignore = "a version of the long run"], $($story),+);
        crate::stories_on!(pg15, V15, [], $($story),+);
        crate::stories_on!(pg16, V16, [ignore = "a version of the long run"], $($story),+);
        crate::stories_on!(pg17, V17, [], $($story),+);
        crate::stories_on!(pg18, V18, [ignore = "a version of the long run"], $($story),+);
    };
}
pub(crate) use on_every_version;

/// As [`on_every_version`], for what the oldest and the newest version must show every time.
macro_rules! on_oldest_and_newest_too {
    ($($story:ident),+ $(,)?) => {
        mod every_time {
            use super::*;
        crate::stories_on!(pg13, V13, [], $($story),+);
        crate::stories_on!(pg14, V14, [ignore = "a version of the long run"], $($story),+);
        crate::stories_on!(pg15, V15, [], $($story),+);
        crate::stories_on!(pg16, V16, [ignore = "a version of the long run"], $($story),+);
        crate::stories_on!(pg17, V17, [], $($story),+);
        crate::stories_on!(pg18, V18, [], $($story),+);
        }
    };
}
pub(crate) use on_oldest_and_newest_too;

/// As [`on_every_version`], for what PostgreSQL 15 brought.
macro_rules! on_versions_since_15 {
    ($($story:ident),+ $(,)?) => {
        mod since_15 {
            use super::*;
            crate::stories_on!(pg15, V15, [], $($story),+);
            crate::stories_on!(pg16, V16, [ignore = "a version of the long run"], $($story),+);
            crate::stories_on!(pg17, V17, [], $($story),+);
            crate::stories_on!(pg18, V18, [ignore = "a version of the long run"], $($story),+);
        }
    };
}
pub(crate) use on_versions_since_15;

macro_rules! stories_on {
    ($module:ident, $version:ident, [$($attribute:meta)?], $($story:ident),+) => {
        mod $module {
            crate::stories_on!(@each $version, [$($attribute)?], $($story),+);
        }
    };
    (@each $version:ident, $attribute:tt, $($story:ident),+) => {
        $(crate::stories_on!(@one $version, $attribute, $story);)+
    };
    (@one $version:ident, [$($attribute:meta)?], $story:ident) => {
        #[test]
        $(#[$attribute])?
        fn $story() {
            crate::tell(Box::pin(super::$story(rowbridge_testbed::PgVersion::$version)));
        }
    };
}
pub(crate) use stories_on;

/// Runs one story to its end. Boxed, so that the compiler makes one runtime and not one for each test.
fn tell(story: Pin<Box<dyn Future<Output = ()>>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(story);
}
