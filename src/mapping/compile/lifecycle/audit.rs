//! What is odd about a whole lifecycle: states that no row reaches, and transitions that are told twice.

use super::{By, Draft, Extent};
use crate::mapping::diagnostic::{Diagnostic, Report};

impl Draft<'_> {
    pub(super) fn audit(&self, report: &Report) {
        self.unreachable(report);
        self.told_twice(report);
    }

    /// A state that is neither in `start` nor the end of a transition from a state that is reached.
    fn unreachable(&self, report: &Report) {
        let mut reached = vec![false; self.states.len()];
        for state in &self.start {
            reached[usize::from(*state)] = true;
        }
        loop {
            let next = self.declared.iter().find(|declared| {
                let from = declared.from.map(usize::from);
                from.is_some_and(|from| reached[from]) && !reached[usize::from(declared.to)]
            });
            match next {
                Some(declared) => reached[usize::from(declared.to)] = true,
                None => break,
            }
        }
        for (named, reached) in self.states.iter().zip(reached) {
            if !reached {
                let state = &named.state.text;
                report.push(
                    Diagnostic::warning(named.at, format!("no row ever becomes `{state}`"))
                        .label("not in `start`, and no transition from there leads to it")
                        .hint(format!(
                            "silent = [[\"{}\", \"{state}\"]], or an event with that transition; rows that were \
                             `{state}` before the first start may stay and leave",
                            self.first_start()
                        )),
                );
            }
        }
    }

    fn first_start(&self) -> &str {
        let first = self.start.first().map(|state| usize::from(*state));
        first.map_or("", |state| &self.states[state].state.text)
    }

    /// Two events that always fire together, or an event on what is called silent.
    fn told_twice(&self, report: &Report) {
        for (index, later) in self.declared.iter().enumerate() {
            let By::Event(name, extent) = later.by else {
                continue;
            };
            let earlier = self.declared[..index]
                .iter()
                .filter(|earlier| (earlier.from, earlier.to) == (later.from, later.to));
            let words = || match later.from {
                Some(from) => format!("{} to {}", self.text(from), self.text(later.to)),
                None => format!("creation as {}", self.text(later.to)),
            };
            for earlier in earlier {
                match earlier.by {
                    By::Silence => report.push(
                        Diagnostic::error(
                            earlier.at,
                            format!("{} is called silent, and `{name}` fires on it", words()),
                        )
                        .label("declared by the event, even where its `when` is false")
                        .hint("take the pair out of `silent`"),
                    ),
                    By::Event(other, Extent::Every)
                        if extent == Extent::Every && later.at != earlier.at =>
                    {
                        report.push(
                            Diagnostic::warning(
                                later.at,
                                format!("`{other}` and `{name}` both fire on {}", words()),
                            )
                            .label("no `when` tells them apart")
                            .hint("a `when` in each of them, or one event"),
                        );
                    }
                    By::Event(..) => {}
                }
            }
        }
    }

    fn text(&self, state: u16) -> &str {
        &self.states[usize::from(state)].state.text
    }
}
