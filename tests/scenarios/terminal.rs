//! What `run` says on a terminal, and what it says anywhere else.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;

use crate::rig::{Daemon, Rig, SOON, eventually};
use crate::workload::{Workload, open_accounts};

const COLUMNS: u16 = 80;
/// Enough for their snapshot to be seen.
const ACCOUNTS: u32 = 200_000;
const ERASE: &str = "\u{1b}[2K";

/// A daemon on a terminal of its own, and what it wrote there.
struct OnTerminal {
    daemon: Daemon,
    transcript: PathBuf,
    recorder: JoinHandle<Result<()>>,
}

impl OnTerminal {
    fn start(rig: &Rig, environment: &[(&str, &str)]) -> Result<Self> {
        Self::started(rig, &["run"], environment)
    }

    /// As [`OnTerminal::start`], of another command.
    fn started(rig: &Rig, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self> {
        let size = Winsize {
            ws_row: 24,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None)?;
        let transcript = rig.path("terminal");
        let mut ours = File::from(pty.master);
        let mut kept = File::create(&transcript)?;
        let recorder = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Linux answers EIO once the last writer is gone.
            while let Ok(read) = ours.read(&mut buffer)
                && read > 0
            {
                kept.write_all(&buffer[..read])?;
            }
            Ok(())
        });
        let mut all = vec![("TERM", "xterm-256color"), ("ROWBRIDGE_LOG__LEVEL", "info")];
        all.extend_from_slice(environment);
        let daemon = rig.started_on(arguments, Stdio::from(pty.slave), transcript.clone(), &all)?;
        Ok(Self {
            daemon,
            transcript,
            recorder,
        })
    }

    /// Waits until the terminal got every one of `parts` in one drawing of the line.
    async fn shows(&self, parts: &[&str]) -> Result<()> {
        eventually(&format!("a line with {parts:?}"), SOON, || async {
            let all = self.daemon.log();
            Ok(all
                .split(ERASE)
                .skip(1)
                .any(|drawn| parts.iter().all(|part| drawn.contains(part))))
        })
        .await
        .with_context(|| self.daemon.log())
    }

    /// SIGINT, as Ctrl-C sends it, and everything the terminal got.
    async fn interrupt(mut self) -> Result<String> {
        self.daemon.signal(Signal::SIGINT)?;
        let code = self.daemon.exit_code().await?;
        self.end(code, 0)
    }

    async fn ends(mut self, wanted: i32) -> Result<String> {
        let code = self.daemon.exit_code().await?;
        self.end(code, wanted)
    }

    fn end(self, code: i32, wanted: i32) -> Result<String> {
        self.recorder.join().expect("the recorder does not panic")?;
        let all = std::fs::read_to_string(&self.transcript)?;
        ensure!(code == wanted, "exit code {code}:\n{all}");
        Ok(all)
    }
}

/// What stands on a terminal after `written`: it obeys what the daemon may send, and refuses the rest.
fn screen(written: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut column = 0;
    let mut rest = written;
    while let Some(char) = rest.chars().next() {
        rest = &rest[char.len_utf8()..];
        let line = lines.last_mut().expect("there is always a line");
        match char {
            '\r' => column = 0,
            '\n' => lines.push(String::new()),
            '\u{1b}' => {
                let end = rest.find(char::is_alphabetic).expect("a whole sequence");
                match rest[..=end].chars().last() {
                    Some('m') => {}
                    Some('K') => line.clear(),
                    _ => panic!("the terminal got {:?}", &rest[..=end]),
                }
                rest = &rest[end + 1..];
            }
            char => {
                assert!(!char.is_control(), "the terminal got {char:?}");
                *line = line
                    .chars()
                    .take(column)
                    .chain([char])
                    .chain(line.chars().skip(column + 1))
                    .collect();
                column += 1;
            }
        }
    }
    lines
}

/// Only whole log lines and what follows the last one are left.
fn only_logs(written: &str, last: &str) {
    let mut lines = screen(written);
    assert_eq!(lines.pop().as_deref(), Some(""), "{written:?}");
    let end = lines.iter().position(|line| line.starts_with(last));
    let logged = &lines[..end.unwrap_or(lines.len())];
    assert!(logged.len() > 1, "{written}");
    for line in logged {
        let is_dated = line.get(..2) == Some("20") && line.get(10..11) == Some("T");
        assert!(is_dated, "torn: {line:?}\nin {written:?}");
    }
}

#[tokio::test]
async fn a_terminal_shows_one_line_below_the_log_that_leaves_no_trace() -> Result<()> {
    let rig = Rig::shared("terminal").await?;
    open_accounts(&rig, ACCOUNTS).await?;
    rig.sql("ANALYZE public.account").await?;
    let mut on_terminal = OnTerminal::start(&rig, &[])?;
    on_terminal
        .shows(&["snapshot", "blic.account", " of ~200k rows", "/s", " left"])
        .await?;
    on_terminal.daemon.ready().await?;
    let load = Workload::start(&rig, 2, 50, Duration::from_millis(1));
    on_terminal
        .shows(&["\u{1b}[32mstreaming", "lag ", " events/s", "0 quarantined"])
        .await?;
    load.stop().await;
    let all = on_terminal.interrupt().await?;
    only_logs(&all, "the end");
    assert!(
        !all.split(ERASE)
            .last()
            .is_some_and(|last| last.contains("events/s")),
        "{all}"
    );
    Ok(())
}

#[tokio::test]
async fn a_broker_that_is_away_is_told_in_the_line() -> Result<()> {
    let mut rig = Rig::shared("terminal_no_broker").await?;
    rig.brokers = "127.0.0.1:1".to_owned();
    rig.write_config("")?;
    let on_terminal = OnTerminal::start(&rig, &[])?;
    on_terminal
        .shows(&["\u{1b}[31mretrying ", "sink: "])
        .await?;
    only_logs(&on_terminal.interrupt().await?, "the end");
    Ok(())
}

#[tokio::test]
async fn a_refusal_stands_alone_below_the_log() -> Result<()> {
    let rig = Rig::shared("terminal_refused").await?;
    open_accounts(&rig, 5).await?;
    let mut on_terminal = OnTerminal::start(&rig, &[])?;
    on_terminal.daemon.ready().await?;
    on_terminal.shows(&["idle "]).await?;
    rig.sql("ALTER TABLE account DROP COLUMN owner; UPDATE account SET ver = ver + 1")
        .await?;
    let all = on_terminal.ends(2).await?;
    only_logs(&all, "error: INVALID");
    let shown = screen(&all);
    let error = shown
        .iter()
        .position(|line| line.starts_with("error: INVALID"));
    let after = &shown[error.context("the refusal is shown")?..];
    assert!(after.iter().any(|line| line.starts_with("hint: ")), "{all}");
    assert!(!after.concat().contains("events/s"), "{all}");
    Ok(())
}

#[tokio::test]
async fn no_color_keeps_the_line_and_drops_its_colours() -> Result<()> {
    let rig = Rig::shared("terminal_plain").await?;
    let mut on_terminal = OnTerminal::start(&rig, &[("NO_COLOR", "1")])?;
    on_terminal.daemon.ready().await?;
    on_terminal.shows(&["idle ", "0 events/s"]).await?;
    let all = on_terminal.interrupt().await?;
    let without_line = all.replace(ERASE, "");
    assert!(!without_line.contains('\u{1b}'), "{all:?}");
    only_logs(&all, "the end");
    Ok(())
}

#[tokio::test]
async fn what_cannot_redraw_a_line_gets_none_and_not_one_control_character() -> Result<()> {
    let rig = Rig::shared("no_terminal").await?;
    let nothing_but_lines = |all: &str| {
        let lines = all.replace("\r\n", "\n");
        assert!(lines.contains("starting"), "{all}");
        assert!(!lines.contains("events/s"), "{all}");
        assert!(
            !lines.contains(|char: char| char.is_control() && char != '\n'),
            "{all:?}"
        );
    };
    for environment in [("TERM", "dumb"), ("ROWBRIDGE_LOG__FORMAT", "json")] {
        let mut on_terminal = OnTerminal::start(&rig, &[environment])?;
        on_terminal.daemon.ready().await?;
        drawn_twice().await;
        nothing_but_lines(&on_terminal.interrupt().await?);
    }
    let mut piped = rig.daemon().await?;
    piped.ready().await?;
    drawn_twice().await;
    assert_eq!(piped.terminate().await?, 0);
    nothing_but_lines(&piped.log());
    Ok(())
}

/// Long enough for a line to be drawn where one is.
async fn drawn_twice() {
    tokio::time::sleep(Duration::from_millis(600)).await;
}

#[tokio::test]
async fn a_recording_shows_how_much_it_has_and_takes_its_line_away() -> Result<()> {
    let rig = Rig::shared("terminal_record").await?;
    open_accounts(&rig, 10).await?;
    let load = Workload::start(&rig, 1, 10, Duration::from_millis(5));
    let capture = rig.path("ledger.capture");
    let path = capture.to_str().context("a path")?;
    let words = ["record", "--create-publication", "--out", path];
    let recording = OnTerminal::started(&rig, &words, &[])?;
    recording
        .shows(&["recording  ", " changes  ", " transactions  at "])
        .await?;
    let written = recording.interrupt().await?;
    load.stop().await;
    let lines = screen(&written);
    let left: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("record"))
        .collect();
    let [begun, ended] = &left[..] else {
        anyhow::bail!("{left:?} of {written:?}");
    };
    ensure!(begun.starts_with("recording from "), "{begun}");
    ensure!(ended.starts_with("recorded "), "{ended}");
    Ok(())
}
