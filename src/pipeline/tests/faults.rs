//! Where a run of the pipeline test breaks: at its n-th step, in one of several ways.

use std::sync::{Arc, Mutex};

/// How a step breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails, and the pipeline may recover in the same process.
    Error,
    /// The process dies there.
    Crash,
    /// A commit is sent and never answered; the next producer finds out whether it landed.
    OutcomeOpen,
    /// A commit lands and its answer is lost.
    OutcomeOpenThoughDone,
}

#[derive(Debug, Default)]
struct Script {
    steps: u64,
    commits: u64,
    /// Steps (counted over all runs) at which to break, in rising order.
    breaks: Vec<(u64, Fault)>,
    /// Deterministic coin for outcomes that only the broker knows.
    tosses: u64,
    fired: Vec<&'static str>,
}

/// A script of faults, shared by source and sink of all runs of one test.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Script>>);

impl Faults {
    pub(super) fn at(breaks: &[(u64, Fault)]) -> Self {
        Self(Arc::new(Mutex::new(Script {
            breaks: breaks.to_vec(),
            ..Script::default()
        })))
    }

    /// Starts the deterministic coin at another place.
    pub(super) fn with_coin(self, seed: u64) -> Self {
        self.0.lock().unwrap().tosses = seed;
        self
    }

    /// Counts a step, and breaks it if the script says so.
    pub(super) fn step(&self, name: &'static str) -> Result<(), String> {
        let mut script = self.0.lock().unwrap();
        script.steps += 1;
        match script.due(&[Fault::Error, Fault::Crash]) {
            None => Ok(()),
            Some(fault) => {
                script.fired.push(name);
                drop(script);
                if fault == Fault::Crash {
                    // Unwinds without a panic message: it is planned, a hundred times over.
                    std::panic::resume_unwind(Box::new("planned crash"));
                }
                Err(format!("planned failure at {name}"))
            }
        }
    }

    /// What happens to the commit that is being sent.
    pub(super) fn at_commit(&self) -> Option<Fault> {
        let mut script = self.0.lock().unwrap();
        script.commits += 1;
        let fault = script.due(&[Fault::OutcomeOpen, Fault::OutcomeOpenThoughDone]);
        if fault.is_some() {
            script.fired.push("commit");
        }
        fault
    }

    pub(super) fn coin(&self) -> bool {
        let mut script = self.0.lock().unwrap();
        script.tosses += 1;
        script.tosses.is_multiple_of(2)
    }

    /// The names of the steps that broke.
    pub(super) fn fired(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().fired.clone()
    }
}

impl Script {
    /// The next fault, if its step has come and it is one of `kinds`.
    fn due(&mut self, kinds: &[Fault]) -> Option<Fault> {
        let (at, fault) = *self.breaks.first()?;
        (self.steps >= at && kinds.contains(&fault)).then(|| self.breaks.remove(0).1)
    }
}
