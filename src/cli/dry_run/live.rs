//! A dry run on the configuration's source.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use rowbridge_postgres::PreviewPublication;

use super::super::args::DryRunArgs;
use super::super::follow::{self, Live};
use super::super::{REFUSED, hash_key, load};
use super::compile;
use super::session::Session;
use crate::pack;
use crate::paint::Look;

/// Follows the source until the time, the limit or the user ends it; then leaves it as it was.
///
/// # Errors
/// The configuration is invalid, the source refuses or breaks, or output fails.
pub(super) async fn run(config: Option<&Path>, args: &DryRunArgs) -> anyhow::Result<ExitCode> {
    let config = load(config)?;
    let Some(mapping) = compile(&pack::read(&config.mapping, config.params.clone())?)? else {
        return Ok(ExitCode::from(REFUSED));
    };
    let mapping = Arc::new(hash_key::keyed(mapping, Some(&config.privacy))?);
    let publication = if args.create_publication {
        PreviewPublication::Temporary
    } else {
        PreviewPublication::OfPipeline
    };
    let mut live = Live::open(&config, &mapping, publication).await?;
    let stdout = io::stdout();
    let look = Look::of(&stdout);
    let mut session = Session::new(&mapping, live.stamp.clone(), args, look, stdout.lock());
    follow::follow(&mut live, &config, &mapping, &mut session, args.duration).await?;
    session.finish()
}
