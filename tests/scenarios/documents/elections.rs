//! Another primary: streaming goes on within 5 s of the first write that it confirms, and nothing is lost.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bson::doc;
use mongodb::Client;
use rowbridge_testbed::Mongo;

use super::stage::{Documents, Load};
use crate::oracle::Reads;

/// From the first write that the new primary confirms, by a majority, to its event. Before, no change stream shows it:
/// where the old primary hangs, the remaining secondary replicated from it and needs seconds to notice.
const STREAMING_AGAIN: Duration = Duration::from_secs(5);
/// An account that only the measurement changes.
const MARKER: i64 = 21;

#[tokio::test]
async fn a_new_primary_is_followed_within_five_seconds_and_nothing_is_lost() -> Result<()> {
    let mut mongo = Mongo::builder().nodes(3).start().await?;
    let documents = Documents::on("documents_elected", &mongo).await?;
    documents.open_accounts(MARKER).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    let load = Load::start(&documents, 2, 20);
    load.more(30).await?;
    mongo.step_down().await?;
    streaming_again(&documents, &mongo, "step-down").await?;
    load.more(30).await?;
    let primary = mongo.primary().await?;
    mongo.kill9(primary).await?;
    streaming_again(&documents, &mongo, "kill -9 of the primary").await?;
    load.more(30).await?;
    mongo.start_again(primary).await?;
    load.stop().await;
    documents.settled(Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// Its connections stay open and say nothing.
#[tokio::test]
async fn a_primary_that_hangs_is_left_for_the_new_one() -> Result<()> {
    let mut mongo = Mongo::builder().nodes(3).start().await?;
    let documents = Documents::on("documents_hung", &mongo).await?;
    documents.open_accounts(MARKER).await?;
    let mut daemon = documents.rig.daemon().await?;
    daemon.ready().await?;
    documents.visible_since(MARKER, Instant::now()).await?;
    let primary = mongo.primary().await?;
    mongo.freeze(primary).await?;
    streaming_again(&documents, &mongo, "a primary that hangs").await?;
    mongo.thaw(primary).await?;
    documents.settled(Reads::Once).await?;
    assert_eq!(daemon.terminate().await?, 0, "{}", daemon.log());
    Ok(())
}

/// The election is by the new primary's own clock, which is also ours.
#[expect(clippy::print_stdout, reason = "the figures are worth seeing")]
async fn streaming_again(documents: &Documents, mongo: &Mongo, fault: &str) -> Result<()> {
    let primary = mongo.primary().await?;
    let client = Client::with_uri_str(mongo.direct_url(primary)).await?;
    let status = client
        .database("admin")
        .run_command(doc! { "replSetGetStatus": 1 })
        .await?;
    let elected = status
        .get_document("electionCandidateMetrics")?
        .get_datetime("lastElectionDate")?;
    let ver = documents.acknowledged(MARKER).await?;
    let confirmed = elected.to_system_time().elapsed()?;
    documents.visible(MARKER, &ver).await?;
    let visible = elected.to_system_time().elapsed()?;
    println!(
        "{fault}: after the election the first write was confirmed in {confirmed:?} and published in {visible:?}"
    );
    ensure!(
        visible - confirmed <= STREAMING_AGAIN,
        "{fault}: {visible:?}"
    );
    Ok(())
}
