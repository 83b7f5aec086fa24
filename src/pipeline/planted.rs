//! Three bugs that the test suite must catch, planted by name in a test-only build.
//!
//! With the feature `planted-bugs` the environment variable `ROWBRIDGE_PLANTED_BUG` chooses one; without
//! the feature every function here is the constant `false`. `.ci/run` requires the pipeline's tests to
//! fail with each of [`NAMES`].

/// The bugs that can be planted.
#[cfg(feature = "planted-bugs")]
const NAMES: [&str; 3] = [
    "ack-before-commit",
    "skip-off-by-one",
    "no-reinit-after-ambiguity",
];

#[cfg(feature = "planted-bugs")]
fn planted(name: &str) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<String>> = std::sync::LazyLock::new(|| {
        let chosen = std::env::var("ROWBRIDGE_PLANTED_BUG").ok()?;
        assert!(
            NAMES.contains(&chosen.as_str()),
            "ROWBRIDGE_PLANTED_BUG is one of {NAMES:?}"
        );
        Some(chosen)
    });
    CHOSEN.as_deref() == Some(name)
}

#[cfg(not(feature = "planted-bugs"))]
const fn planted(_name: &str) -> bool {
    false
}

/// The source is told that a position is safe before the sink committed it.
pub(super) fn ack_before_commit() -> bool {
    planted("ack-before-commit")
}

/// A replay publishes the last change again that was already published.
pub(super) fn skip_off_by_one() -> bool {
    planted("skip-off-by-one")
}

/// An ambiguous commit is taken for a successful one.
pub(super) fn no_reinit_after_ambiguity() -> bool {
    planted("no-reinit-after-ambiguity")
}
