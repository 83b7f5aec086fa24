//! `rowbridge check`: everything that would keep the pipeline from running, at once, each with its fix.
//!
//! Configuration, then mapping, then source and sink. What cannot be looked at because something before it
//! is broken is said to be left out. Writes nothing, anywhere.

use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;

use rowbridge_api::{Finding, Severity};

use super::REFUSED;
use super::args::CheckArgs;
use super::paint::{Paint, Tone};
use crate::config::{Config, ConfigError};
use crate::mapping::Mapping;
use crate::pack;

/// Where a finding comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    not(all(feature = "postgres", feature = "kafka")),
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

/// Everything that was found, and what was not looked at.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<(Area, Finding)>,
    left_out: Vec<&'static str>,
}

impl Report {
    fn error(&mut self, area: Area, problem: String, fix: String) {
        let severity = Severity::Error;
        self.findings.push((
            area,
            Finding {
                severity,
                problem,
                fix,
                cost: None,
            },
        ));
    }

    #[cfg(all(feature = "postgres", feature = "kafka"))]
    fn take(&mut self, area: Area, found: Result<Vec<Finding>, (String, String)>) {
        match found {
            Ok(findings) => self
                .findings
                .extend(findings.into_iter().map(|finding| (area, finding))),
            Err((problem, fix)) => self.error(area, problem, fix),
        }
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings
            .iter()
            .filter(|(_, finding)| finding.severity == severity)
            .count()
    }
}

/// Runs the command.
///
/// # Errors
/// Standard output cannot be written.
pub(super) async fn run(named: Option<&Path>, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut report = gather(named, args).await;
    report
        .findings
        .sort_by_key(|(area, finding)| (std::cmp::Reverse(finding.severity), *area));
    let stdout = io::stdout();
    let paint = Paint::for_terminal(stdout.is_terminal());
    if args.json {
        print_json(&report, &mut stdout.lock())?;
    } else {
        print_text(&report, paint, &mut stdout.lock())?;
    }
    Ok(match report.count(Severity::Error) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(REFUSED),
    })
}

async fn gather(named: Option<&Path>, args: &CheckArgs) -> Report {
    let mut report = Report::default();
    let config = match Config::load(named) {
        Ok(config) => config,
        Err(error) => {
            let fix = match error {
                ConfigError::NoFile => "name one with -c FILE; docs/configuration.md describes it",
                _ => "",
            };
            report.error(Area::Configuration, chain(&error), fix.to_owned());
            report
                .left_out
                .push("mapping, source and sink: the configuration says where they are");
            return report;
        }
    };
    let Some(mapping) = mapping(&config, &mut report) else {
        report
            .left_out
            .push("source and sink: the mapping says what is needed of them");
        return report;
    };
    if args.offline {
        report.left_out.push("source and sink: --offline");
        return report;
    }
    #[cfg(all(feature = "postgres", feature = "kafka"))]
    {
        report.take(Area::Source, source(&config, &mapping).await);
        report.take(Area::Sink, sink(&config, mapping).await);
    }
    #[cfg(not(all(feature = "postgres", feature = "kafka")))]
    {
        let _compiled_for_its_findings: Mapping = mapping;
        report
            .left_out
            .push("source and sink: this binary was built without them");
    }
    report
}

/// The mapping, if it compiles.
fn mapping(config: &Config, report: &mut Report) -> Option<Mapping> {
    let pack = match pack::read(&config.mapping, config.params.clone()) {
        Ok(pack) => pack,
        Err(error) => {
            report.error(
                Area::Mapping,
                chain(&error),
                "correct `mapping` in the configuration".to_owned(),
            );
            return None;
        }
    };
    let colour = Paint::for_terminal(io::stdout().is_terminal()).into();
    match Mapping::compile(&pack) {
        Ok((mapping, warnings)) => {
            if !warnings.is_empty() {
                let problem = warnings.render(colour);
                let severity = Severity::Warning;
                let fix = String::new();
                report.findings.push((
                    Area::Mapping,
                    Finding {
                        severity,
                        problem,
                        fix,
                        cost: None,
                    },
                ));
            }
            Some(mapping)
        }
        Err(diagnostics) => {
            report.error(Area::Mapping, diagnostics.render(colour), String::new());
            None
        }
    }
}

#[cfg(all(feature = "postgres", feature = "kafka"))]
async fn source(config: &Config, mapping: &Mapping) -> Result<Vec<Finding>, (String, String)> {
    use rowbridge_api::{Source as _, SourceError};
    let crate::config::SourceConfig::Postgres(settings) = &config.source;
    let settings = super::peers::postgres(config, settings)
        .map_err(|error| (error.to_string(), String::new()))?;
    let mut source = rowbridge_postgres::PostgresSource::new(settings, &config.pipeline);
    source.check(mapping.needs()).await.map_err(|error| {
        let problem = chain(&error);
        match error {
            SourceError::Refused { hint, .. } => (problem, hint),
            SourceError::Transient { .. } => (problem, String::new()),
        }
    })
}

#[cfg(all(feature = "postgres", feature = "kafka"))]
async fn sink(config: &Config, mapping: Mapping) -> Result<Vec<Finding>, (String, String)> {
    use crate::sink::SinkError;
    use crate::sink::kafka::{KafkaSink, Published};
    let crate::config::SinkConfig::Kafka(settings) = &config.sink else {
        return Ok(Vec::new());
    };
    let settings = super::peers::kafka(config, settings)
        .map_err(|error| (error.to_string(), String::new()))?;
    let check = move || KafkaSink::new(settings, Published::of(&mapping)).check();
    let found = tokio::task::spawn_blocking(check).await;
    found.expect("the check does not panic").map_err(|error| {
        let problem = chain(&error);
        match error {
            SinkError::Refused { hint, .. } => (problem, hint),
            _ => (problem, String::new()),
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

fn print_text(report: &Report, paint: Paint, out: &mut dyn Write) -> io::Result<()> {
    for (number, (area, finding)) in (1..).zip(&report.findings) {
        let word = match finding.severity {
            Severity::Error => paint.tone(Tone::Bad, "error"),
            Severity::Warning => paint.tone(Tone::Strong, "warning"),
        };
        writeln!(
            out,
            "{number}. {word} in the {}: {}",
            area.as_str(),
            finding.problem
        )?;
        if !finding.fix.is_empty() {
            writeln!(out, "{}", paint.tone(Tone::Faint, "   fix:"))?;
            // At the margin, so that it can be copied as it stands.
            writeln!(out, "{}", finding.fix)?;
        }
        if let Some(cost) = &finding.cost {
            writeln!(out, "{} {cost}", paint.tone(Tone::Faint, "   cost:"))?;
        }
        writeln!(out)?;
    }
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
    for (area, finding) in &report.findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let object = serde_json::json!({
            "severity": severity,
            "area": area.as_str(),
            "problem": finding.problem,
            "fix": finding.fix,
            "cost": finding.cost,
        });
        writeln!(out, "{object}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.findings.push((
            Area::Source,
            Finding {
                severity: Severity::Warning,
                problem: "public.segments has no full replica identity".to_owned(),
                fix: "ALTER TABLE public.segments REPLICA IDENTITY FULL;".to_owned(),
                cost: Some("updates write the old row to the WAL too".to_owned()),
            },
        ));
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
        print_text(&report(), Paint::Plain, &mut out).unwrap();
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
