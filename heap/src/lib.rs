//! Keeps the process on one heap.
//!
//! glibc gives threads heaps ("arenas") of their own. A record for Kafka is a dozen small blocks, allocated by
//! the thread that publishes and freed by librdkafka's broker thread. With an arena of its own the publishing
//! thread finds its memory again only by searching bins that another thread filled: on the end-to-end bench
//! that took a third of the process's CPU time. With one arena the same run took 6 instead of 9 CPU-seconds
//! per million events, and no more memory.
//!
//! The calls are unsafe only because they are foreign; what is deliberately absent is another allocator: jemalloc
//! was as fast and held half as much memory again.

/// Keeps all threads on the process's first heap. To be called before other threads are started; does nothing
/// where the C library is not glibc.
pub fn share() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const ARENAS: libc::c_int = 1;
        const LARGEST_FAST_BLOCK_BYTES: libc::c_int = 0;
        // SAFETY: mallopt(3) takes two integers and may be called at any time. It fails by returning 0, and
        // then the process has the heaps it would have had.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, ARENAS);
            // A free block joins its neighbours at once, instead of all of them now and then.
            libc::mallopt(libc::M_MXFAST, LARGEST_FAST_BLOCK_BYTES);
        }
    }
}
