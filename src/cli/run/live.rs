//! Draws the status line while the pipeline runs, on a thread of its own.
//!
//! A terminal may stop taking output at any time (Ctrl-S), and the pipeline must not wait for it; what is shown
//! is read from the metrics, which nobody is asked for.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rowbridge_api::SnapshotProgress;

use super::status_line::{Status, render};
use crate::config::{Config, LogFormat, SinkConfig};
use crate::health::{Health, Phase};
use crate::metrics::Metrics;
use crate::paint::{Paint, columns_of};
use crate::screen;

/// Often enough to look alive.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// Rates are means over this: short for events, which come and go; long for rows, so that the time left is calm.
const EVENTS_WINDOW: Duration = Duration::from_secs(2);
const ROWS_WINDOW: Duration = Duration::from_secs(10);
/// Where the terminal does not say how wide it is.
const DEFAULT_COLUMNS: usize = 80;

/// The line, from its start until this is dropped.
pub(super) struct StatusLine {
    /// Dropped first: that is what ends the thread.
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StatusLine {
    /// Shows the line if standard error is a terminal that can redraw one and nothing else is printed there.
    pub(super) fn start(config: &Config, metrics: Metrics, health: Health) -> io::Result<Self> {
        if !is_wanted(config) {
            return Ok(Self {
                running: None,
                thread: None,
            });
        }
        let (running, ended) = channel();
        let mut watcher = Watcher::new(config.pipeline.clone(), metrics, health);
        let thread = std::thread::Builder::new().name("status line".to_owned());
        let thread = thread.spawn(move || {
            while ended.recv_timeout(DRAW_EVERY) == Err(RecvTimeoutError::Timeout) {
                // A terminal that went away is no reason to stop: the supervisor's signal is.
                let _ = watcher.draw();
            }
            let _ = screen::clear();
        })?;
        Ok(Self {
            running: Some(running),
            thread: Some(thread),
        })
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        drop(self.running.take());
        // Its panic was reported by its hook; the pipeline is more important.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn is_wanted(config: &Config) -> bool {
    let events_on_it = matches!(config.sink, SinkConfig::Stdout {}) && io::stdout().is_terminal();
    config.log.format == LogFormat::Text && screen::can_redraw() && !events_on_it
}

/// Looks at the metrics from time to time.
struct Watcher {
    pipeline: String,
    metrics: Metrics,
    health: Health,
    paint: Paint,
    events: Pace,
    rows: Pace,
    snapshot: Option<SnapshotProgress>,
}

impl Watcher {
    fn new(pipeline: String, metrics: Metrics, health: Health) -> Self {
        Self {
            pipeline,
            metrics,
            health,
            paint: Paint::of(&io::stderr()),
            events: Pace::over(EVENTS_WINDOW),
            rows: Pace::over(ROWS_WINDOW),
            snapshot: None,
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        if screen::is_in_background() {
            return screen::clear();
        }
        let status = self.look(Instant::now());
        // The last column stays free: a terminal may wrap once it is written.
        let columns = columns_of(&io::stderr()).unwrap_or(DEFAULT_COLUMNS) - 1;
        screen::draw(render(&status, columns, self.paint))
    }

    fn look(&mut self, now: Instant) -> Status {
        let phase = self.health.phase();
        let mut reading = self.metrics.read();
        if phase == Phase::Snapshot {
            // Once all is read the source has no more to say of it, and the last rows are still being published.
            self.snapshot = reading.snapshot.take().or(self.snapshot.take());
        } else {
            self.snapshot = None;
        }
        reading.snapshot.clone_from(&self.snapshot);
        let rows = reading.snapshot.as_ref().map(|progress| progress.rows);
        Status {
            pipeline: self.pipeline.clone(),
            events_per_second: self.events.at(now, reading.events),
            rows_per_second: self.rows.at(now, rows.unwrap_or_default()),
            phase,
            reading,
        }
    }
}

/// How fast a count grows.
struct Pace {
    window: Duration,
    /// What was seen within the window, and one before it.
    seen: VecDeque<(Instant, u64)>,
}

impl Pace {
    const fn over(window: Duration) -> Self {
        Self {
            window,
            seen: VecDeque::new(),
        }
    }

    /// The mean rate a second, now that the count is `count`.
    fn at(&mut self, now: Instant, count: u64) -> f64 {
        if self.seen.back().is_some_and(|(_, last)| *last > count) {
            self.seen.clear(); // It began anew.
        }
        self.seen.push_back((now, count));
        while self
            .seen
            .get(1)
            .is_some_and(|(at, _)| now.duration_since(*at) >= self.window)
        {
            self.seen.pop_front();
        }
        let (since, first) = self.seen.front().copied().unwrap_or((now, count));
        let seconds = now.duration_since(since).as_secs_f64();
        if seconds > 0.0 {
            growth(first, count) / seconds
        } else {
            0.0
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn growth(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_the_mean_of_its_window_and_begins_anew_with_its_count() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut pace = Pace::over(Duration::from_secs(2));
        let rates = [
            (0, 0),
            (1, 100),
            (2, 200),
            (4, 200),
            (6, 200),
            (7, 5),
            (8, 15),
        ]
        .map(|(seconds, count)| pace.at(at(seconds), count));
        assert_eq!(rates, [0.0, 100.0, 100.0, 0.0, 0.0, 0.0, 10.0]);
    }
}
