//! `rowbridge check`: everything that would keep the pipeline from running, at once, each with its fix.
//!
//! Configuration, then mapping, then source and sink. What cannot be looked at because something before it
//! is broken is said to be left out. Writes nothing, anywhere.

mod remembers;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use rowbridge_api::{Finding, Severity};

use self::remembers::Known;
use super::args::CheckArgs;
use super::{REFUSED, hash_key};
use crate::config::{Config, ConfigError};
use crate::mapping::{self, Diagnostics, Mapping};
use crate::pack;
use crate::paint::{Look, Tone};
use crate::refusal::Refusal;

/// Where the lines below a finding's first begin.
const INDENT: &str = "   ";

/// Where a finding comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    not(all(feature = "postgres", feature = "mongodb", feature = "kafka")),
    allow(dead_code, reason = "without connectors no server is looked at")
)]
enum Area {
    Configuration,
    Mapping,
    Source,
    Sink,
}

impl Area {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Mapping => "mapping",
            Self::Source => "source",
            Self::Sink => "sink",
        }
    }
}

/// How the words of a finding are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    /// Lines break where the terminal ends.
    Flow,
    /// Source lines with carets: they stay as they are.
    Stand,
}

#[derive(Debug)]
struct Found {
    area: Area,
    finding: Finding,
    words: Words,
}

/// Everything that was found, and what was not looked at.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<Found>,
    /// What the mapping knows of rows beside the change at hand.
    remembers: Vec<Known>,
    left_out: Vec<&'static str>,
}

impl Report {
    fn error(&mut self, area: Area, problem: String, fix: String) {
        let finding = Finding {
            severity: Severity::Error,
            problem,
            fix,
            cost: None,
        };
        self.push(area, finding);
    }

    fn push(&mut self, area: Area, finding: Finding) {
        self.findings.push(Found {
            area,
            finding,
            words: Words::Flow,
        });
    }

    /// A problem with a place in a file, drawn with its source line.
    fn drawn(&mut self, area: Area, severity: Severity, problem: String) {
        let finding = Finding {
            severity,
            problem,
            fix: String::new(),
            cost: None,
        };
        self.findings.push(Found {
            area,
            finding,
            words: Words::Stand,
        });
    }

    fn diagnostics(&mut self, diagnostics: &Diagnostics, look: Look) {
        for (severity, text) in diagnostics.render_each(look) {
            let severity = match severity {
                mapping::Severity::Error => Severity::Error,
                mapping::Severity::Warning => Severity::Warning,
            };
            self.drawn(Area::Mapping, severity, text);
        }
    }

    #[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
    fn take(&mut self, area: Area, found: Result<Vec<Finding>, (String, String)>) {
        match found {
            Ok(findings) => findings
                .into_iter()
                .for_each(|finding| self.push(area, finding)),
            Err((problem, fix)) => self.error(area, problem, fix),
        }
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings
            .iter()
            .filter(|found| found.finding.severity == severity)
            .count()
    }
}

/// Runs the command.
///
/// # Errors
/// Standard output cannot be written.
pub(super) async fn run(named: Option<&Path>, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let stdout = io::stdout();
    let look = if args.json {
        Look::PLAIN
    } else {
        Look::of(&stdout)
    };
    let mut report = gather(named, args, look).await;
    report
        .findings
        .sort_by_key(|found| (std::cmp::Reverse(found.finding.severity), found.area));
    if args.json {
        print_json(&report, &mut stdout.lock())?;
    } else {
        print_text(&report, look, &mut stdout.lock())?;
    }
    Ok(match report.count(Severity::Error) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(REFUSED),
    })
}

async fn gather(named: Option<&Path>, args: &CheckArgs, look: Look) -> Report {
    let mut report = Report::default();
    let config = match Config::load(named) {
        Ok(config) => config,
        Err(error) => {
            configuration(&error, look, &mut report);
            report
                .left_out
                .push("mapping, source and sink: the configuration says where they are");
            return report;
        }
    };
    let mapping = compiled(&config, look, &mut report);
    report.remembers = mapping.as_ref().map(Known::of).unwrap_or_default();
    if args.offline {
        report.left_out.push("source and sink: --offline");
        return report;
    }
    #[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
    {
        if mapping.is_none() {
            report
                .left_out
                .push("tables and topics: the mapping names them");
        }
        state_folder(&config, mapping.as_ref(), &mut report);
        report.take(Area::Source, source(&config, mapping.as_ref()).await);
        extents(&config, &mut report.remembers).await;
        report.take(Area::Sink, sink(&config, mapping.as_ref()).await);
    }
    #[cfg(not(all(feature = "postgres", feature = "mongodb", feature = "kafka")))]
    {
        let _compiled_for_its_findings: Option<Mapping> = mapping;
        report
            .left_out
            .push("source and sink: this binary was built without them");
    }
    report
}

fn configuration(error: &ConfigError, look: Look, report: &mut Report) {
    let area = Area::Configuration;
    match error {
        ConfigError::Invalid(problems) => problems
            .render_each(look)
            .for_each(|problem| report.drawn(area, Severity::Error, problem)),
        ConfigError::NoFile => {
            let fix = "name one with -c FILE; docs/configuration.md describes it";
            report.error(area, chain(error), fix.to_owned());
        }
        ConfigError::Unreadable { .. } => report.error(area, chain(error), String::new()),
    }
}

/// The mapping, if it compiles.
fn compiled(config: &Config, look: Look, report: &mut Report) -> Option<Mapping> {
    let pack = match pack::read(&config.mapping, config.params.clone()) {
        Ok(pack) => pack,
        Err(error) => {
            let fix = format!(
                "rowbridge init --table TABLE --out {}   # `rowbridge init` lists the tables; or correct `mapping` in the configuration",
                config.mapping.display()
            );
            report.error(Area::Mapping, chain(&error), fix);
            return None;
        }
    };
    match Mapping::compile(&pack) {
        Ok((mapping, warnings)) => {
            report.diagnostics(&warnings, look);
            if let Err(error) = hash_key::of(&mapping, Some(&config.privacy)) {
                let (problem, fix) = match error.downcast::<Refusal>() {
                    Ok(refusal) => (refusal.problem, refusal.hint),
                    Err(error) => (format!("{error:#}"), String::new()),
                };
                report.error(Area::Configuration, problem, fix);
            }
            Some(mapping)
        }
        Err(diagnostics) => {
            report.diagnostics(&diagnostics, look);
            None
        }
    }
}

#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
async fn source(
    config: &Config,
    mapping: Option<&Mapping>,
) -> Result<Vec<Finding>, (String, String)> {
    use rowbridge_api::{Source as _, SourceError};
    let mut source =
        super::source::configured(config).map_err(|error| (error.to_string(), String::new()))?;
    let needs = mapping.map_or(&[][..], Mapping::needs);
    source.check(needs).await.map_err(|error| {
        let problem = chain(&error);
        match error {
            SourceError::Refused { hint, .. } => (problem, hint),
            SourceError::Transient { .. } => (
                problem,
                format!("start the server, or correct {}.url", config.source.table()),
            ),
        }
    })
}

/// Whether there can be a working copy of what the rules remember. Whoever checks may be another user than runs.
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
fn state_folder(config: &Config, mapping: Option<&Mapping>, report: &mut Report) {
    let remembers = mapping.is_some_and(|mapping| mapping.kept().is_some());
    let folder = super::peers::state(config).of(&config.pipeline).folder;
    if !remembers || !matches!(config.sink, crate::config::SinkConfig::Kafka(_)) {
        return;
    }
    if let Err(nearest) = crate::state::could_be_made(&folder) {
        let (folder, nearest) = (folder.display(), nearest.display());
        report.push(
            Area::Configuration,
            Finding {
                severity: Severity::Warning,
                problem: format!(
                    "what the rules remember is kept in {folder}, and this user may not write to {nearest}"
                ),
                fix: "state.directory = \"...\"   # a folder of the user that runs the pipeline".to_owned(),
                cost: None,
            },
        );
    }
}

/// Asks the source how much there is of the tables. What keeps it from answering is among its findings.
#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
async fn extents(config: &Config, known: &mut [Known]) {
    if known.is_empty() {
        return;
    }
    let Ok(surveyor) = super::init::surveyor(config).await else {
        return;
    };
    if let Ok(extents) = surveyor.extents(&remembers::wanted(known)).await {
        remembers::told(known, extents);
    }
}

#[cfg(all(feature = "postgres", feature = "mongodb", feature = "kafka"))]
async fn sink(
    config: &Config,
    mapping: Option<&Mapping>,
) -> Result<Vec<Finding>, (String, String)> {
    use crate::sink::SinkError;
    use crate::sink::kafka::{KafkaSink, Published};
    let crate::config::SinkConfig::Kafka(settings) = &config.sink else {
        return Ok(Vec::new());
    };
    let settings = super::peers::kafka(config, settings)
        .map_err(|error| (error.to_string(), String::new()))?;
    let published = mapping.map_or_else(Published::nothing, Published::of);
    let check = move || KafkaSink::new(settings, published).check();
    let found = tokio::task::spawn_blocking(check).await;
    found.expect("the check does not panic").map_err(|error| {
        let problem = chain(&error);
        match error {
            SinkError::Refused { hint, .. } => (problem, hint),
            _ => (
                problem,
                "start the brokers, or correct sink.kafka.brokers".to_owned(),
            ),
        }
    })
}

/// An error and what caused it, in one line each.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!("\ncaused by: {error}"));
        cause = error.source();
    }
    text
}

fn print_text(report: &Report, look: Look, out: &mut dyn Write) -> io::Result<()> {
    let paint = look.paint;
    for (number, found) in (1..).zip(&report.findings) {
        let Found {
            area,
            finding,
            words,
        } = found;
        let word = match finding.severity {
            Severity::Error => paint.tone(Tone::Bad, "error"),
            Severity::Warning => paint.tone(Tone::Strong, "warning"),
        };
        let text = format!(
            "{number}. {word} in the {}: {}",
            area.as_str(),
            finding.problem
        );
        match words {
            Words::Flow => writeln!(out, "{}", look.wrapped(&text, INDENT))?,
            Words::Stand => writeln!(out, "{text}")?,
        }
        if !finding.fix.is_empty() {
            writeln!(out, "{INDENT}{}", paint.tone(Tone::Faint, "fix:"))?;
            // At the margin, so that it can be copied as it stands.
            writeln!(out, "{}", finding.fix)?;
        }
        if let Some(cost) = &finding.cost {
            let text = format!("{INDENT}{} {cost}", paint.tone(Tone::Faint, "cost:"));
            writeln!(out, "{}", look.wrapped(&text, INDENT))?;
        }
        writeln!(out)?;
    }
    remembers::print(&report.remembers, look, out)?;
    for left_out in &report.left_out {
        writeln!(out, "not looked at: {left_out}")?;
    }
    let (errors, warnings) = (
        report.count(Severity::Error),
        report.count(Severity::Warning),
    );
    writeln!(
        out,
        "{errors} error{}, {warnings} warning{}",
        plural(errors),
        plural(warnings)
    )
}

const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn print_json(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for Found { area, finding, .. } in &report.findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let object = serde_json::json!({
            "severity": severity,
            "area": area.as_str(),
            "problem": finding.problem,
            "fix": Some(&finding.fix).filter(|fix| !fix.is_empty()),
            "cost": finding.cost,
        });
        writeln!(out, "{object}")?;
    }
    remembers::print_json(&report.remembers, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        let finding = Finding {
            severity: Severity::Warning,
            problem: "public.segments has no full replica identity".to_owned(),
            fix: "ALTER TABLE public.segments REPLICA IDENTITY FULL;".to_owned(),
            cost: Some("updates write the old row to the WAL too".to_owned()),
        };
        report.push(Area::Source, finding);
        report.error(
            Area::Sink,
            "no WRITE on travel.bookings".to_owned(),
            "kafka-acls --add ...".to_owned(),
        );
        report.left_out.push("source and sink: --offline");
        report
    }

    #[test]
    fn findings_are_numbered_with_their_fix_at_the_margin() {
        let mut out = Vec::new();
        print_text(&report(), Look::PLAIN, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "1. warning in the source: public.segments has no full replica identity\n   fix:\n\
             ALTER TABLE public.segments REPLICA IDENTITY FULL;\n\
             \x20  cost: updates write the old row to the WAL too\n\n\
             2. error in the sink: no WRITE on travel.bookings\n   fix:\nkafka-acls --add ...\n\n\
             not looked at: source and sink: --offline\n1 error, 1 warning\n"
        );
    }

    #[test]
    fn json_is_one_object_per_line() {
        let mut out = Vec::new();
        print_json(&report(), &mut out).unwrap();
        let lines: Vec<serde_json::Value> = String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["area"], "sink");
    }
}
