//! What of the packs the cases exercise: what is missing, with its place and what a case would have to do.

use std::io::{self, Write};

use super::TestedPack;
use crate::mapping::coverage::{Coverage, Kind, Share};
use crate::paint::{Look, Tone};

/// The kinds that count, as the closing line names them.
const COUNTED: [(&str, Kind); 3] = [
    ("rules", Kind::Rule),
    ("branches", Kind::Branch),
    ("transitions", Kind::Transition),
];

/// Per pack what is missing, then the closing line over all of them.
pub(super) fn print(tested: &[TestedPack], look: Look, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    for pack in tested {
        let coverages = || std::iter::once(&pack.coverage);
        let title = format!("coverage of {}", pack.folder);
        writeln!(
            out,
            "{}: {}",
            look.paint.tone(Tone::Strong, title),
            shares(coverages)
        )?;
        for point in pack.coverage.missing() {
            let place = format!("{}:{}", point.file, point.line);
            let place = look.paint.tone(Tone::Faint, place);
            let missing = look.paint.tone(Tone::Bad, &point.missing);
            writeln!(
                out,
                "{}",
                look.wrapped(&format!("  {place} {missing}"), "      ")
            )?;
            let wanted = format!("      a case needs {}", point.wanted);
            writeln!(out, "{}", look.wrapped(&wanted, "      "))?;
        }
    }
    let coverages = || tested.iter().map(|pack| &pack.coverage);
    let tone = match counted(coverages) {
        Share { seen, all } if seen == all => Tone::Good,
        _ => Tone::Bad,
    };
    let closing = format!("coverage: {}", shares(coverages));
    writeln!(out, "{}", look.paint.tone(tone, closing))
}

/// Whether the share of what counts, over all packs, reaches `wanted` percent.
pub(super) fn is_enough(
    tested: &[TestedPack],
    wanted: Option<u8>,
    err: &mut dyn Write,
) -> io::Result<bool> {
    let Some(wanted) = wanted else {
        return Ok(true);
    };
    let Share { seen, all } = counted(|| tested.iter().map(|pack| &pack.coverage));
    let is_enough = seen * 100 >= all * usize::from(wanted);
    if !is_enough {
        writeln!(
            err,
            "error: cases exercise {seen} of {all} rules, branches and transitions ({} %), wanted are {wanted} %",
            seen * 100 / all
        )?;
        writeln!(err, "hint: --coverage lists what is missing")?;
    }
    Ok(is_enough)
}

/// `rules 30/30, branches 81/84, transitions 12/12`
fn shares<'a, C: Iterator<Item = &'a Coverage>>(coverages: impl Fn() -> C) -> String {
    let parts = COUNTED.map(|(name, kind)| {
        let share: Share = coverages().map(|coverage| coverage.share(kind)).sum();
        format!("{name} {share}")
    });
    parts.join(", ")
}

fn counted<'a, C: Iterator<Item = &'a Coverage>>(coverages: impl Fn() -> C) -> Share {
    let shares = COUNTED.iter();
    shares
        .flat_map(|(_, kind)| coverages().map(|coverage| coverage.share(*kind)))
        .sum()
}
