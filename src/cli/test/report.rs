//! Results for people: cases by name, and of those that fail a difference read at a glance.

use std::io::{self, Write};

use super::TestedPack;
use crate::mapping::cases::{Case, Difference, Outcome, Side, Verdict};
use crate::paint::{Paint, Tone};

/// Where a failed case's explanation starts.
const INDENT: &str = "          ";

pub(super) fn pack(pack: &TestedPack, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", paint.tone(Tone::Strong, &pack.folder))?;
    for (case, outcome) in &pack.cases {
        if outcome.passed() {
            writeln!(out, "  {}      {}", paint.tone(Tone::Good, "ok"), case.name)?;
        } else {
            writeln!(out, "  {}  {}", paint.tone(Tone::Bad, "FAILED"), case.name)?;
            failure(case, outcome, paint, out)?;
        }
    }
    writeln!(out)
}

/// The closing count, and which files failed.
pub(super) fn closing(tested: &[TestedPack], paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let cases = || tested.iter().flat_map(|pack| &pack.cases);
    let failed: Vec<_> = cases().filter(|(_, outcome)| !outcome.passed()).collect();
    for (case, _) in &failed {
        writeln!(out, "{}", paint.tone(Tone::Bad, &case.file))?;
    }
    let passed = cases().count() - failed.len();
    let tone = if failed.is_empty() {
        Tone::Good
    } else {
        Tone::Bad
    };
    let count = format!("{passed} passed, {} failed", failed.len());
    writeln!(out, "{}", paint.tone(tone, count))
}

/// A failed case without colour, for reports in files.
pub(super) fn failure_text(case: &Case, outcome: &Outcome) -> String {
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = failure(case, outcome, Paint::Plain, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn failure(case: &Case, outcome: &Outcome, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let legend = paint.tone(Tone::Faint, "(- expected, + published)");
    writeln!(out, "{INDENT}{} {legend}", case.file)?;
    for difference in &outcome.differences {
        event(difference, paint, out)?;
    }
    if let Some(stop) = &outcome.stopped {
        writeln!(
            out,
            "{INDENT}{}",
            paint.tone(Tone::Bad, format!("stopped: {stop}"))
        )?;
    }
    Ok(())
}

fn event(difference: &Difference, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let name = &difference.event_type;
    let (sign, tone, title) = match difference.verdict {
        Verdict::Same => (' ', Tone::Faint, format!("{name}: as expected")),
        Verdict::Differs => (' ', Tone::Strong, format!("{name}: differs")),
        Verdict::Missing => (
            '-',
            Tone::Bad,
            format!("{name}: expected, and was not published"),
        ),
        Verdict::Unexpected => (
            '+',
            Tone::Good,
            format!("{name}: published, and was not expected"),
        ),
    };
    writeln!(
        out,
        "{INDENT}{}",
        paint.tone(tone, format!("{sign} {title}"))
    )?;
    if difference.verdict == Verdict::Same {
        return Ok(());
    }
    let width = difference
        .lines
        .iter()
        .map(|line| line.field.chars().count())
        .max();
    let width = width.unwrap_or_default();
    for line in &difference.lines {
        let (sign, tone) = match line.side {
            Side::Both => (' ', Tone::Faint),
            Side::Expected => ('-', Tone::Bad),
            Side::Published => ('+', Tone::Good),
        };
        let text = format!("{sign}     {:width$}  {}", line.field, line.value);
        writeln!(out, "{INDENT}{}", paint.tone(tone, text))?;
    }
    Ok(())
}
