//! Choices that were made in advance: a row of bytes, and where it ends the first of everything.
//!
//! What a test is made of is read from tapes, so a tape that is shorter or holds smaller numbers makes a simpler test.

/// Choices, one after another.
#[derive(Clone)]
pub(super) struct Tape<'a>(std::slice::Iter<'a, u8>);

impl<'a> Tape<'a> {
    pub(super) fn new(choices: &'a [u8]) -> Self {
        Self(choices.iter())
    }

    /// A number below `count`.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % count.max(1)
    }

    pub(super) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.pick(all.len())]
    }

    /// Whether something happens that happens once in so many times.
    pub(super) fn once_in(&mut self, count: usize) -> bool {
        self.pick(count) == count - 1
    }
}
