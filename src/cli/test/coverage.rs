//! Which rules the cases make fire.

use std::io::{self, Write};

use super::TestedPack;
use crate::mapping::Mapping;
use crate::mapping::cases::{Case, Outcome};
use crate::paint::{Paint, Tone};

/// One rule and how often cases made it fire.
struct CoveredRule {
    event_type: String,
    /// Line of mapping.toml.
    line: usize,
    /// Events it published or set aside.
    events: usize,
}

/// The rules of one pack.
pub(super) struct Coverage {
    mapping_file: String,
    rules: Vec<CoveredRule>,
}

impl Coverage {
    pub(super) fn of(mapping: &Mapping, mapping_file: &str, cases: &[(Case, Outcome)]) -> Self {
        let fired = |number: usize| {
            let rules = cases.iter().flat_map(|(_, outcome)| &outcome.rules);
            rules.filter(|rule| usize::from(**rule) == number).count()
        };
        let rules = mapping
            .rule_infos()
            .enumerate()
            .map(|(number, info)| CoveredRule {
                event_type: info.event_type.to_owned(),
                line: info.line,
                events: fired(number),
            });
        Self {
            mapping_file: mapping_file.to_owned(),
            rules: rules.collect(),
        }
    }

    fn fired(&self) -> usize {
        self.rules.iter().filter(|rule| rule.events > 0).count()
    }
}

pub(super) fn print(pack: &TestedPack, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    let coverage = &pack.coverage;
    writeln!(
        out,
        "{}",
        paint.tone(Tone::Strong, format!("coverage of {}", pack.folder))
    )?;
    for rule in &coverage.rules {
        let place = format!("{}:{}", coverage.mapping_file, rule.line);
        let place = paint.tone(Tone::Faint, place);
        let count = match rule.events {
            0 => paint.tone(Tone::Bad, "never".to_owned()),
            count => paint.tone(Tone::Good, count.to_string()),
        };
        writeln!(out, "  {count:>5}  {:<24} {place}", rule.event_type)?;
    }
    let (fired, all) = (coverage.fired(), coverage.rules.len());
    writeln!(
        out,
        "{fired} of {all} rules fired ({:.1} %)\n",
        percent(fired, all)
    )
}

/// Whether the share of rules that fired, over all packs, reaches `wanted` percent.
pub(super) fn is_enough(
    tested: &[TestedPack],
    wanted: Option<u8>,
    err: &mut dyn Write,
) -> io::Result<bool> {
    let Some(wanted) = wanted else {
        return Ok(true);
    };
    let fired = tested.iter().map(|pack| pack.coverage.fired()).sum();
    let all = tested.iter().map(|pack| pack.coverage.rules.len()).sum();
    let reached = percent(fired, all);
    let is_enough = reached >= f64::from(wanted);
    if !is_enough {
        writeln!(
            err,
            "error: cases make {reached:.1} % of the rules fire, wanted are {wanted} %"
        )?;
        writeln!(err, "hint: --coverage lists the rules that never fire")?;
    }
    Ok(is_enough)
}

#[expect(clippy::cast_precision_loss, reason = "rules are counted in tens")]
fn percent(part: usize, whole: usize) -> f64 {
    match whole {
        0 => 100.0,
        whole => part as f64 * 100.0 / whole as f64,
    }
}
