//! What state costs: the same backlog through the airline's rules and through rules that know all they may.

use anyhow::Result;

use crate::Servers;
use crate::backlog::Backlog;
use crate::drain::{REPEATS, drain, report};
use crate::pipeline::{Pack, Pipeline};
use crate::report::Report;

/// The floor is the drain without state.
pub(crate) async fn run(servers: &Servers, backlog: &Backlog<'_>) -> Result<Report> {
    let source = &servers.source;
    source.prepare().await?;
    let mut pairs = Vec::new();
    for repeat in 1..=REPEATS {
        let plain = Pipeline::new(servers, &format!("plain{repeat}"))?;
        let pack = Pack {
            mapping: include_str!("full/mapping.toml").to_owned(),
            schema: include_str!("full/schema.toml").to_owned(),
            ..source.pack()?
        };
        let full = Pipeline::with_pack(servers, &format!("full{repeat}"), &pack)?;
        for pipeline in [&plain, &full] {
            let mut first = pipeline.start()?;
            first.ready().await?;
            first.stop().await?;
        }
        pairs.push((plain, full));
    }
    eprintln!("{}: writing {} rows", backlog.name, backlog.rows);
    let end = source.write(backlog).await?;
    let (mut plains, mut fulls) = (Vec::new(), Vec::new());
    for (plain, full) in &pairs {
        let mut took = Vec::new();
        for pipeline in [plain, full] {
            let drained = drain(servers, pipeline, backlog, &end).await?;
            eprintln!(
                "{}: {} took {:.2} s, {:.2} CPU-s, {:.0} MiB",
                backlog.name,
                pipeline.name,
                drained.tally.took.as_secs_f64(),
                drained.cpu_s,
                drained.rss_mib
            );
            took.push(drained);
        }
        fulls.extend(took.pop());
        plains.extend(took.pop().map(|plain| plain.tally.took));
    }
    Ok(report(backlog, &plains, &fulls))
}
