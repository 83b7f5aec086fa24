//! The streaming loop: frames in, batches out, status updates on time whatever the consumer does.
//!
//! One task, one `select!`. It reads until a batch is full, sends it as soon as there is room, and while the
//! consumer stalls goes on answering the server. While the stream is far behind its commits it lets the
//! socket fill between reads, because each send of the walsender costs less when it wakes no reader.

use std::time::{Duration, Instant};

use rowbridge_api::{ConsumerGone, Position, SourceError, SourceIo, State};
use tokio::time::sleep_until;

use crate::assembler::Assembler;
use crate::config::Limits;
use crate::error::{ServerError, WireError, sqlstate};
use crate::intake::{Frame, Intake};
use crate::socket::Filled;
use crate::wire::{Link, POSTGRES_EPOCH_MICROS, Reply, server_message};

/// `w`, start, end, send time (PostgreSQL documentation, 55.4, XLogData).
const XLOG_DATA_HEADER_BYTES: usize = 25;
/// `k`, WAL end, send time, reply wanted.
const KEEPALIVE_BYTES: usize = 18;
/// How often the distance to the server's WAL end is published.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// One run's stream, from START_REPLICATION to shutdown or error.
pub(crate) struct Stream<'a> {
    link: &'a mut Link,
    io: &'a mut SourceIo,
    limits: &'a Limits,
    assembler: Assembler,
    intake: Intake,
    /// What the server may forget: never past what the consumer committed.
    acked: u64,
    /// Where the run's stream began.
    started_at: u64,
    /// The part of `acked` that the server was told.
    reported: u64,
    /// An idle position that waits for its time.
    idle: Option<u64>,
    /// When the next idle position may be sent.
    idle_due: Instant,
    /// The server's last known WAL end.
    wal_end: u64,
    last_read_at: Instant,
    reply_requested_at: Option<Instant>,
    /// The socket fills, until this moment at the latest.
    fills: Option<(Instant, Filled)>,
    status_due: Instant,
    behind: bool,
}

/// What a wait ended with.
enum Woke {
    Received { bytes: usize },
    Room,
    Acked(Result<(), tokio::sync::watch::error::RecvError>),
    Timer,
    Shutdown,
}

impl<'a> Stream<'a> {
    /// `confirmed` is the slot's own position: what the server may forget before any acknowledgement.
    pub(crate) fn new(
        link: &'a mut Link,
        io: &'a mut SourceIo,
        limits: &'a Limits,
        assembler: Assembler,
        confirmed: u64,
    ) -> Self {
        let intake = Intake::new(link, limits.batch_bytes, limits.max_message_bytes);
        let now = Instant::now();
        Self {
            link,
            io,
            limits,
            acked: confirmed,
            started_at: assembler.last_position(),
            assembler,
            intake,
            reported: confirmed,
            idle: None,
            idle_due: now,
            wal_end: confirmed,
            last_read_at: now,
            reply_requested_at: None,
            fills: None,
            status_due: now,
            behind: false,
        }
    }

    /// Streams until shutdown or an error.
    pub(crate) async fn run(mut self) -> Result<(), SourceError> {
        self.io.acked.mark_changed();
        self.take_in()?;
        loop {
            self.housekeeping()?;
            self.link.flush().await?;
            match self.wait().await? {
                Woke::Received { bytes } => {
                    self.received(bytes)?;
                    self.take_in()?;
                }
                Woke::Room => {
                    self.intake.send(&mut self.io.out).await?;
                    self.last_read_at = Instant::now();
                    self.reply_requested_at = None;
                    self.take_in()?;
                }
                Woke::Acked(Ok(())) => self.note_ack(),
                Woke::Acked(Err(_)) => return Err(ConsumerGone.into()),
                Woke::Timer => {}
                Woke::Shutdown => return self.shut_down().await,
            }
        }
    }

    async fn wait(&mut self) -> Result<Woke, SourceError> {
        let now = Instant::now();
        if self.fills.take_if(|(until, _)| *until <= now).is_some() {
            self.link.wake_at_once()?;
        }
        let has_batch = self.has_batch();
        // A batch that waits for room grows meanwhile, so that a busy consumer gets fewer and larger ones; there
        // is no hurry about that.
        let wants_more = !has_batch || !self.intake.is_full();
        let paced = has_batch.then(|| self.last_read_at + self.limits.pace_interval);
        let (may_read, due) = match self.fills {
            Some((until, filled)) => (filled == Filled::IsReadable, Some(until)),
            None => (
                paced.is_none_or(|at| at <= now),
                paced.filter(|at| *at > now),
            ),
        };
        let may_read = wants_more && may_read;
        let due = due.filter(|_| wants_more);
        let wake_at = due.map_or(self.wake_at(), |at| self.wake_at().min(at));
        let SourceIo {
            out,
            acked,
            shutdown,
            ..
        } = &mut *self.io;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(Woke::Shutdown),
            changed = acked.changed() => Ok(Woke::Acked(changed)),
            ready = out.ready(), if has_batch => {
                ready?;
                Ok(Woke::Room)
            }
            () = sleep_until(wake_at.into()) => Ok(Woke::Timer),
            read = self.intake.read(self.link), if may_read => {
                Ok(Woke::Received { bytes: read? })
            }
        }
    }

    /// A batch may be sent: there is one, and its last change is complete.
    fn has_batch(&self) -> bool {
        !self.intake.is_empty() && !self.assembler.expects_more()
    }

    /// The next moment at which something is due whether or not anything happens.
    fn wake_at(&self) -> Instant {
        let mut wake_at = self.link.report_due().min(self.status_due);
        if self.reported < self.acked {
            wake_at = wake_at.min(self.link.reported_at + self.limits.ack_interval);
        }
        if self.idle.is_some() && self.intake.is_empty() {
            wake_at = wake_at.min(self.idle_due);
        }
        wake_at
    }

    fn housekeeping(&mut self) -> Result<(), SourceError> {
        let now = Instant::now();
        if self.intake.is_empty() {
            self.intake.compact_if_framed();
            if self.idle.is_some() && self.idle_due <= now {
                self.send_idle();
            }
        }
        let ack_due =
            self.reported < self.acked && self.link.reported_at + self.limits.ack_interval <= now;
        if ack_due {
            self.report(Reply::NotNeeded);
        } else if self.link.report_due() <= now {
            let reply = self.probe(now)?;
            self.report(reply);
        }
        if self.status_due <= now {
            self.status_due = now + STATUS_EVERY;
            let lag = self.wal_end.saturating_sub(self.acked);
            self.io.status.send_if_modified(|status| {
                let before = status.clone();
                status.snapshot = None;
                status.lag_bytes = Some(lag);
                *status != before
            });
        }
        Ok(())
    }

    /// Whether this report asks the server for a sign of life, and whether it failed to give one.
    fn probe(&mut self, now: Instant) -> Result<Reply, SourceError> {
        if self.has_batch() {
            return Ok(Reply::NotNeeded);
        }
        let silent = now.duration_since(self.last_read_at);
        match self.reply_requested_at {
            Some(at) if now.duration_since(at) > self.limits.reply_timeout => {
                Err(SourceError::transient(format!(
                    "the server has been silent for {} s although it was asked for a reply",
                    silent.as_secs()
                )))
            }
            Some(_) => Ok(Reply::NotNeeded),
            None if silent >= self.limits.report_interval() => {
                self.reply_requested_at = Some(now);
                Ok(Reply::Requested)
            }
            None => Ok(Reply::NotNeeded),
        }
    }

    fn report(&mut self, reply: Reply) {
        self.link.report(self.acked, reply);
        self.reported = self.acked;
    }

    fn note_ack(&mut self) {
        if let Some(position) = self.io.acked.borrow_and_update().as_ref() {
            // Never past what this run sent, whatever the consumer says; and never backwards.
            let position = position.order().min(self.assembler.last_position());
            self.acked = self.acked.max(position);
        }
    }

    fn received(&mut self, bytes: usize) -> Result<(), WireError> {
        let now = Instant::now();
        self.last_read_at = now;
        self.reply_requested_at = None;
        // A full buffer means that more is waiting, and so does a read of many bytes: it made room for those that
        // the server's kernel holds back. Otherwise, far behind, let the socket fill.
        let is_dry = bytes < self.limits.dry_below_bytes && !self.intake.is_full();
        if self.behind && is_dry {
            let until = now + self.limits.pace_interval;
            let filled = self.link.fill(self.limits.pace_bytes)?;
            self.fills = filled.map(|filled| (until, filled));
        } else if self.fills.take().is_some() {
            self.link.wake_at_once()?;
        }
        Ok(())
    }

    /// Takes in every complete frame of the buffer.
    fn take_in(&mut self) -> Result<(), SourceError> {
        while let Some(frame) = self.intake.frame()? {
            match frame.tag {
                b'd' => self.copy_data(&frame)?,
                b'E' => {
                    let error = server_message(&self.intake.batch.bytes[frame.whole])?;
                    return Err(walsender_error(&error));
                }
                b'N' => {
                    let notice = server_message(&self.intake.batch.bytes[frame.whole])?;
                    if notice.severity == "WARNING" {
                        return Err(walsender_error(&notice));
                    }
                    tracing::debug!(%notice, "the walsender says");
                }
                b'c' | b'C' | b'Z' => {
                    return Err(SourceError::transient("the server ended the stream"));
                }
                b'S' => {}
                other => {
                    let problem = format!("message {other:#04x} inside a copy");
                    return Err(WireError::Protocol(problem).into());
                }
            }
        }
        Ok(())
    }

    fn copy_data(&mut self, frame: &Frame) -> Result<(), SourceError> {
        let body = &self.intake.batch.bytes[frame.body.clone()];
        match body.first() {
            Some(b'w') if body.len() >= XLOG_DATA_HEADER_BYTES => {
                let sent_at = be_u64(&body[17..]).cast_signed();
                let message = frame.body.start + XLOG_DATA_HEADER_BYTES..frame.body.end;
                let applied = self.assembler.apply(&mut self.intake.batch, message);
                let ended_silent =
                    applied.map_err(|error| WireError::Protocol(error.to_string()))?;
                if let Some(end) = ended_silent {
                    self.idle = Some(end);
                }
                if let Some(committed) = self.assembler.commit_micros() {
                    let lag = sent_at
                        .saturating_add(POSTGRES_EPOCH_MICROS)
                        .saturating_sub(committed);
                    let limit = self.limits.pace_after_lag.as_micros();
                    self.behind = u128::try_from(lag).is_ok_and(|lag| lag > limit);
                }
                Ok(())
            }
            Some(b'k') if body.len() >= KEEPALIVE_BYTES => {
                let wal_end = be_u64(&body[1..]);
                let reply_wanted = body[17] != 0;
                self.keepalive(wal_end, reply_wanted.into());
                Ok(())
            }
            _ => Err(WireError::Protocol("an unknown replication message".to_owned()).into()),
        }
    }

    fn keepalive(&mut self, wal_end: u64, reply: Wanted) {
        self.wal_end = self.wal_end.max(wal_end);
        if self.assembler.is_between_transactions() {
            self.idle = Some(wal_end);
            self.behind = false;
        }
        if reply == Wanted::Now {
            // A server that shuts down waits until we have everything: do not make it wait for a timer.
            self.send_idle();
            self.report(Reply::NotNeeded);
        }
    }

    fn send_idle(&mut self) {
        if let Some(wal_end) = self.idle.take()
            && self.assembler.idle(&mut self.intake.batch, wal_end)
        {
            self.idle_due = Instant::now() + self.limits.idle_commit_interval;
        }
    }

    /// Sends what is complete, waits until it is committed, and says goodbye with that position.
    async fn shut_down(mut self) -> Result<(), SourceError> {
        self.fills = None;
        self.link.wake_at_once()?;
        self.assembler.withdraw(&mut self.intake.batch);
        while !self.is_settled() {
            self.note_ack();
            if self.link.report_due() <= Instant::now() {
                self.report(Reply::NotNeeded);
            }
            self.link.flush().await?;
            let due = self.link.report_due();
            let has_batch = !self.intake.is_empty();
            let SourceIo { out, acked, .. } = &mut *self.io;
            tokio::select! {
                biased;
                changed = acked.changed() => if changed.is_err() { break },
                ready = out.ready(), if has_batch => {
                    if ready.is_err() || self.intake.send(&mut self.io.out).await.is_err() {
                        break;
                    }
                }
                () = sleep_until(due.into()) => {}
            }
        }
        self.note_ack();
        self.report(Reply::NotNeeded);
        self.link.goodbye();
        let goodbye = async {
            self.link.flush().await?;
            loop {
                // The server hangs up once it has read our last report and the goodbye behind it.
                let mut rest = Vec::with_capacity(64 << 10);
                self.link.read(&mut rest).await?;
            }
        };
        let _: Result<Result<(), WireError>, _> =
            tokio::time::timeout(self.limits.goodbye_timeout, goodbye).await;
        Ok(())
    }

    /// Everything complete was sent, and the last commit sent, if there was one, is acknowledged.
    fn is_settled(&self) -> bool {
        let acked = self.io.acked.borrow();
        let acked = acked.as_ref().map_or(0, Position::order);
        let last = self.assembler.last_position();
        self.intake.is_empty() && (last == self.started_at || acked >= last)
    }
}

/// Whether a keepalive asks for an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Now,
    Whenever,
}

impl From<bool> for Wanted {
    fn from(now: bool) -> Self {
        if now { Self::Now } else { Self::Whenever }
    }
}

/// Keeps a walsender while nothing is consumed: answers keepalives until the first change arrives, and
/// from then on reports in time without reading. Cancel safe; returns only with an error.
pub(crate) async fn hold(link: &mut Link, confirmed: u64) -> SourceError {
    let mut has_change = false;
    let mut last_read_at = Instant::now();
    let mut asked_at = None;
    loop {
        let now = Instant::now();
        if link.report_due() <= now {
            let silent = !has_change && now.duration_since(last_read_at) > link.reply_timeout() / 3;
            let reply = if silent {
                Reply::Requested
            } else {
                Reply::NotNeeded
            };
            if silent && asked_at.is_none() {
                asked_at = Some(now);
            }
            link.report(confirmed, reply);
        }
        if asked_at.is_some_and(|at| now.duration_since(at) > link.reply_timeout()) {
            return SourceError::transient("the server does not answer while its slot is held");
        }
        if let Err(error) = link.flush().await {
            return error.into();
        }
        let due = link.report_due();
        tokio::select! {
            read = link.read_held(), if !has_change => {
                if let Err(error) = read {
                    return error.into();
                }
                last_read_at = Instant::now();
                asked_at = None;
                match held_frames(link, confirmed) {
                    Ok(found) => has_change = found,
                    Err(error) => return error,
                }
            }
            () = sleep_until(due.into()) => {}
        }
    }
}

/// Consumes keepalives at the front of the input; says whether anything else is there.
fn held_frames(link: &mut Link, confirmed: u64) -> Result<bool, SourceError> {
    loop {
        let total = crate::wire::frame_bytes(&link.input, usize::MAX)?;
        let Some(total) = total.filter(|total| link.input.len() >= *total) else {
            // A frame too long for the buffer can only be a change.
            return Ok(link.input.len() == link.input.capacity() && !link.input.is_empty());
        };
        let frame = &link.input[..total];
        match (frame[0], frame.get(5)) {
            (b'E', _) => return Err(walsender_error(&server_message(frame)?)),
            (b'd', Some(b'k')) => {
                if frame.get(5 + 17).is_some_and(|wanted| *wanted != 0) {
                    link.report(confirmed, Reply::NotNeeded);
                }
                link.input.drain(..total);
            }
            _ => return Ok(true),
        }
    }
}

/// The verdict on an error, or a warning, of the walsender.
pub(crate) fn walsender_error(error: &ServerError) -> SourceError {
    let problem = format!("the walsender failed: {error}");
    match error.code.as_str() {
        sqlstate::UNDEFINED_FILE => SourceError::refused(
            State::SlotLost,
            format!(
                "{problem}; the WAL that the slot needs is gone, and with it every change since the slot's position"
            ),
            crate::slot::START_OVER,
        ),
        sqlstate::NOT_IN_PREREQUISITE_STATE if error.message.contains("publication") => {
            publication_gone(problem)
        }
        sqlstate::NOT_IN_PREREQUISITE_STATE if error.message.contains("slot") => {
            SourceError::refused(State::SlotLost, problem, crate::slot::START_OVER)
        }
        sqlstate::UNDEFINED_OBJECT if error.message.contains("slot") => {
            SourceError::refused(State::SlotLost, problem, crate::slot::START_OVER)
        }
        sqlstate::UNDEFINED_OBJECT => publication_gone(problem),
        _ => SourceError::transient(problem),
    }
}

fn publication_gone(problem: String) -> SourceError {
    SourceError::refused(
        State::PublicationChanged,
        problem,
        "a publication made again does not cover what was committed before: run `rowbridge drop` and start over, \
         or `rowbridge check` for the statement that creates it and then `rowbridge position set LSN --accept-gap`",
    )
}

fn be_u64(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |chunk| u64::from_be_bytes(*chunk))
}
