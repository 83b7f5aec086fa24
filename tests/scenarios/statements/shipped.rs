//! The packs below `mappings/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bson::doc;
use mongodb::Client;
use rowbridge_testbed::{Kafka, Mongo, PgVersion, Postgres};

use super::{Collections, Ran, Tables, publish_what_cases_say, staged};
use crate::rig::Rig;

/// Each pack, with the cases that no statement gives, and why.
const PACKS: [(&str, &[(&str, &str)]); 6] = [
    ("airline", &[]),
    ("booking-platform", &[]),
    (
        "bus",
        &[(
            "without REPLICA IDENTITY FULL the old claim is unknown: quarantined, never guessed",
            "schema.sql declares it, so the server always sends the old row",
        )],
    ),
    (
        "hotel",
        &[(
            "an update without its pre-image is loud",
            "schema.js has the collection keep pre-images, and one has to be some minutes old to expire",
        )],
    ),
    ("marketplace", &[]),
    ("marketplace-prices", &[]),
];

fn mappings() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mappings")
}

fn left_out(pack: &str) -> &'static [(&'static str, &'static str)] {
    let known = PACKS.iter().find(|(name, _)| *name == pack);
    known.expect("a pack of the list").1
}

#[test]
fn every_shipped_pack_is_on_the_list() {
    let folders = std::fs::read_dir(mappings()).expect("mappings");
    let mut shipped: Vec<String> = folders
        .map(|entry| {
            entry
                .expect("a pack")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    shipped.sort();
    assert_eq!(shipped, PACKS.map(|(name, _)| name));
}

#[tokio::test]
async fn what_the_airlines_cases_say_is_published_of_statements() -> Result<()> {
    let ran = of_tables("airline").await?;
    println!("{ran:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_buses_cases_say_is_published_of_statements() -> Result<()> {
    let ran = of_tables("bus").await?;
    println!("{ran:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_booking_platforms_cases_say_is_published_of_statements() -> Result<()> {
    let ran = of_tables("booking-platform").await?;
    println!("{ran:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_marketplaces_cases_say_is_published_of_statements() -> Result<()> {
    let ran = of_tables("marketplace").await?;
    println!("{ran:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_cases_of_the_marketplaces_prices_say_is_published_of_writes() -> Result<()> {
    let ran = of_collections("marketplace-prices").await?;
    println!("{ran:?}");
    Ok(())
}

#[tokio::test]
async fn what_the_hotels_cases_say_is_published_of_writes() -> Result<()> {
    let ran = of_collections("hotel").await?;
    println!("{ran:?}");
    Ok(())
}

/// A pack on the tables of its schema.sql.
async fn of_tables(pack: &str) -> Result<Ran> {
    let name = format!("stated_{}", pack.replace('-', "_"));
    let url = Postgres::shared(PgVersion::V15)
        .await?
        .database(&name)
        .await?;
    let schema = std::fs::read_to_string(mappings().join(pack).join("schema.sql"))?;
    Postgres::sql_at(&url, &schema).await?;
    let rig = Rig::of_tables(&name, &url, &Kafka::shared().await?.brokers())?;
    staged(&mappings().join(pack), &name, None, &rig.pack())?;
    let tables = Tables::at(&url).await?;
    whole(
        pack,
        publish_what_cases_say(&rig, &tables, left_out(pack)).await?,
    )
}

/// A pack on the collections of its schema.js.
async fn of_collections(pack: &str) -> Result<Ran> {
    let name = format!("stated_{}", pack.replace('-', "_"));
    let mongo = Mongo::shared().await?;
    let database = Client::with_uri_str(mongo.url())
        .await?
        .database(&mongo.database(&name));
    let script = std::fs::read_to_string(mappings().join(pack).join("schema.js"))?;
    for create in script.split("db.createCollection(\"").skip(1) {
        let (collection, rest) = create.split_once('"').context("its name")?;
        ensure!(
            rest.starts_with(", { changeStreamPreAndPostImages: { enabled: true } })"),
            "{collection} without images before changes"
        );
        let images = doc! { "enabled": true };
        let create = doc! { "create": collection, "changeStreamPreAndPostImages": images };
        database.run_command(create).await?;
    }
    let rig = Rig::on_documents(&name, mongo, &Kafka::shared().await?.brokers())?;
    staged(
        &mappings().join(pack),
        &name,
        Some(database.name()),
        &rig.pack(),
    )?;
    let collections = Collections(database);
    whole(
        pack,
        publish_what_cases_say(&rig, &collections, left_out(pack)).await?,
    )
}

/// All cases of the folder have run, but for those on the list.
fn whole(pack: &str, ran: Ran) -> Result<Ran> {
    let files = std::fs::read_dir(mappings().join(pack).join("cases"))?.count();
    ensure!(
        ran.cases + ran.left_out == files,
        "{ran:?} of {files} cases"
    );
    Ok(ran)
}
