//! `rowbridge test`: runs the cases of packs.
//!
//! Exit status 0 when every case passes, 1 when one fails, a capture stops the mapping, or coverage is under the mark, 2 when a mapping
//! or a case does not compile.

mod capture;
mod case_files;
mod coverage;
mod junit;
mod report;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use super::args::TestArgs;
use super::{FAILED, REFUSED};
use crate::mapping::cases::{Case, Outcome, Problems};
use crate::mapping::change_json::Tables;
use crate::mapping::coverage::{Coverage, Seen};
use crate::mapping::{HashKey, Mapping};
use crate::pack;
use crate::paint::Look;
use crate::refusal::Refusal;
use capture::Replayed;

/// One pack after its cases ran.
struct TestedPack {
    folder: String,
    cases: Vec<(Case, Outcome)>,
    coverage: Coverage,
    replayed: Option<Replayed>,
}

/// Runs the command, printing to standard output.
///
/// # Errors
/// A file cannot be read or written.
pub(super) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let looks = (Look::of(&stdout), Look::of(&stderr));
    let code = run_to(args, looks, &mut stdout.lock(), &mut stderr.lock())?;
    Ok(ExitCode::from(code))
}

/// The command with its streams, and how each looks, as parameters; the exit status.
fn run_to(
    args: &TestArgs,
    (told, look): (Look, Look),
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<u8> {
    if let (Some(capture), [_, _, ..]) = (&args.capture, &args.packs[..]) {
        let problem = format!("{} is evaluated with one pack", capture.display());
        return Err(Refusal::invalid(problem, "name one PACK").into());
    }
    let mut tested = Vec::new();
    let mut code = 0;
    for folder in &args.packs {
        match test_pack(folder, args.capture.as_deref(), look)? {
            Ok((pack, warnings)) => {
                write!(err, "{warnings}")?;
                report::pack(&pack, told.paint, out)?;
                tested.push(pack);
            }
            Err(problems) => {
                writeln!(err, "{problems}")?;
                code = REFUSED;
            }
        }
    }
    report::closing(&tested, told.paint, out)?;
    for replayed in tested.iter().filter_map(|pack| pack.replayed.as_ref()) {
        replayed.print(told.paint, out)?;
        if args.coverage {
            replayed.print_unexplained(out)?;
        }
    }
    if args.coverage {
        coverage::print(&tested, told, out)?;
    }
    let is_covered = coverage::is_enough(&tested, args.fail_under, err)?;
    if let Some(path) = &args.junit {
        junit::write(&tested, path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let all_passed = tested
        .iter()
        .flat_map(|pack| &pack.cases)
        .all(|(_, outcome)| outcome.passed());
    let stopped = |pack: &TestedPack| {
        pack.replayed
            .as_ref()
            .is_some_and(|capture| capture.stopped.is_some())
    };
    if code == 0 && !(all_passed && is_covered && !tested.iter().any(stopped)) {
        code = FAILED;
    }
    Ok(code)
}

/// Compiles a pack, runs its cases and evaluates a capture. The inner result is what is wrong with its files, rendered; on
/// success the warnings.
fn test_pack(
    folder: &Path,
    capture: Option<&Path>,
    look: Look,
) -> anyhow::Result<Result<(TestedPack, String), String>> {
    let pack = pack::read(folder, toml::Table::new())?;
    let case_files = case_files::read(folder)?;
    let (mapping, warnings) = match Mapping::compile(&pack) {
        Ok(compiled) => compiled,
        Err(diagnostics) => return Ok(Err(diagnostics.render(look))),
    };
    let warnings = match warnings.is_empty() {
        true => String::new(),
        false => warnings.render(look) + "\n",
    };
    let mapping = Arc::new(mapping.with_hash_key(HashKey::published()));
    let tables = Tables::of(&mapping);
    let mut cases = Vec::new();
    let mut problems = Vec::new();
    for file in case_files {
        match Case::parse(&file, &tables) {
            Ok(case) => cases.push(case),
            Err(list) => problems.push(Problems { file, list }.render(look)),
        }
    }
    if !problems.is_empty() {
        return Ok(Err(problems.join("\n\n")));
    }
    let mut seen = Seen::default();
    let cases: Vec<_> = cases
        .into_iter()
        .map(|case| {
            let outcome = case.run(&mapping, &tables);
            case.cover(&mapping, &tables, &mut seen);
            (case, outcome)
        })
        .collect();
    let coverage = Coverage::of(&mapping, &pack, seen);
    let tested = TestedPack {
        folder: folder.display().to_string(),
        cases,
        coverage,
        replayed: capture
            .map(|path| capture::replay(path, &mapping))
            .transpose()?,
    };
    Ok(Ok((tested, warnings)))
}
