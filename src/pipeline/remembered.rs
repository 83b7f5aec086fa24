//! What the rules remember, at the beginning of a session and behind each of its commits.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::committer::End;
use crate::event::{EncodedBatch, TopicId};
use crate::mapping::Generations;
use crate::mapping::memory::{InMemory, Memory};
use crate::sink::{Progress, Sink, SinkError};
use crate::state::{Changelog, Copy, Place, Recorder};

/// Pause between two lines of the log that say how far a long reading is.
const TELL: Duration = Duration::from_secs(5);
/// What is older than this part of the time that the changelog shows what was forgotten is not gone on from.
const OLDEST_PART: u32 = 2;

/// The memory of a session, and what keeps its working copy.
pub(super) struct Remembered {
    pub(super) memory: Box<dyn Memory>,
    /// Which of the rows in it count.
    pub(super) generations: Generations,
    pub(super) keeping: Keeping,
}

/// Reads what the rules remember as of the last commit; nothing if `stop` came first.
pub(super) fn read<S: Sink>(
    sink: &mut S,
    place: Option<&Place>,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Option<Remembered>, End> {
    let read = match (sink.changelog()?, place) {
        (None, _) => Ok(in_memory(InMemory::default(), Generations::new())),
        (Some(changelog), None) => {
            let whole = whole(sink, &changelog, progress, stop);
            whole.map(|memory| in_memory(memory, changelog.generations))
        }
        (Some(changelog), Some(place)) => working_copy(sink, &changelog, place, stop),
    };
    match read {
        Err(_) if stop.is_cancelled() => Ok(None),
        read => read.map(Some),
    }
}

fn in_memory(memory: InMemory, generations: Generations) -> Remembered {
    Remembered {
        memory: Box::new(memory),
        generations,
        keeping: Keeping(None),
    }
}

fn whole<S: Sink>(
    sink: &mut S,
    changelog: &Changelog,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<InMemory, End> {
    let mut memory = InMemory::default();
    if matches!(progress, Progress::At { .. }) {
        let mut reading = Reading::new(changelog, stop);
        sink.remembered(changelog.since, &mut |offset, key, value| {
            memory.restore(key, value);
            reading.read(offset)
        })?;
    }
    Ok(memory)
}

/// Brings the working copy to the end of the changelog: from where it is, or from the changelog's beginning.
fn working_copy<S: Sink>(
    sink: &mut S,
    changelog: &Changelog,
    place: &Place,
    stop: &CancellationToken,
) -> Result<Remembered, End> {
    let now_ms = Timestamp::now().as_millisecond();
    let mut copy = Copy::open(place, changelog, now_ms)?;
    if copy.is_old() {
        let most = sink.shows_forgotten()? / OLDEST_PART;
        copy = copy.if_younger_than(most, changelog, now_ms)?;
    }
    let (is_old, from) = (copy.is_old(), copy.offset());
    let mut restoring = copy.follow()?;
    let mut fault = None;
    let mut reading = Reading::new(changelog, stop);
    // From its beginning even an empty changelog is read: it may have to tell that it is not the one it was.
    let read = match from < changelog.end || from <= changelog.since {
        true => sink.remembered(from, &mut |offset, key, value| {
            if let Err(fallen) = restoring.take(offset, key, value) {
                let problem = fallen.to_string();
                fault = Some(fallen);
                return Err(SinkError::Transient { problem });
            }
            reading.read(offset)
        }),
        false => Ok(()),
    };
    if let Some(fault) = fault {
        return Err(fault.into());
    }
    read?;
    let entries = restoring.taken();
    let (recorder, store) = restoring.finish(changelog.end, now_ms)?;
    if is_old {
        tracing::info!(
            entries,
            from,
            to = changelog.end,
            "rolled the state forward"
        );
    } else if entries > 0 {
        let seconds = reading.began.elapsed().as_secs_f64();
        tracing::info!(entries, seconds, "made the state anew from its topic");
    }
    Ok(Remembered {
        memory: Box::new(store),
        generations: changelog.generations.clone(),
        keeping: Keeping(Some(Kept {
            recorder,
            offset: changelog.end,
        })),
    })
}

/// Says now and then how far it is.
struct Reading<'a> {
    changelog: &'a Changelog,
    stop: &'a CancellationToken,
    entries: u64,
    began: Instant,
    told: Instant,
}

impl<'a> Reading<'a> {
    fn new(changelog: &'a Changelog, stop: &'a CancellationToken) -> Self {
        Self {
            changelog,
            stop,
            entries: 0,
            began: Instant::now(),
            told: Instant::now(),
        }
    }

    fn read(&mut self, offset: i64) -> Result<(), SinkError> {
        self.entries += 1;
        if self.entries.is_multiple_of(1_000) {
            if self.stop.is_cancelled() {
                return Err(SinkError::Transient {
                    problem: "told to stop".to_owned(),
                });
            }
            if self.told.elapsed() >= TELL {
                self.told = Instant::now();
                let (entries, end) = (self.entries, self.changelog.end);
                tracing::info!(entries, offset, end, "reading what the rules remember");
            }
        }
        Ok(())
    }
}

/// Keeps the working copy behind the commits, if there is one.
pub(super) struct Keeping(Option<Kept>);

struct Kept {
    recorder: Recorder,
    /// The changelog is committed up to here.
    offset: i64,
}

impl Keeping {
    /// A batch was written into the commit at hand.
    pub(super) fn take(&mut self, batch: &EncodedBatch) -> Result<(), End> {
        let Some(Kept { recorder, .. }) = &mut self.0 else {
            return Ok(());
        };
        recorder.check()?;
        let entries = batch.records.iter();
        for record in entries.filter(|record| record.topic == TopicId::STATE) {
            let key = record.key.map_or(&[][..], |key| batch.bytes(key));
            recorder.take(key, record.value.map(|value| batch.bytes(value)))?;
        }
        Ok(())
    }

    /// The commit at hand is made; the changelog goes up to `offset` for certain.
    pub(super) fn committed(&mut self, offset: Option<i64>) -> Result<(), End> {
        let Some(Kept {
            recorder,
            offset: known,
        }) = &mut self.0
        else {
            return Ok(());
        };
        *known = offset.map_or(*known, |offset| offset.max(*known));
        recorder.committed(*known, Timestamp::now().as_millisecond())?;
        Ok(())
    }

    /// Whether the working copy is well.
    pub(super) fn check(&self) -> Result<(), End> {
        match &self.0 {
            Some(kept) => Ok(kept.recorder.check()?),
            None => Ok(()),
        }
    }
}
