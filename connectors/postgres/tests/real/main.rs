//! The connector against real servers: what is streamed, what is refused, what keeps the link alive.

mod follower;
mod server;
mod streaming;
