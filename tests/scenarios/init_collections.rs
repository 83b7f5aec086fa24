//! `init` on real collections: fields and types by looking at documents, and a pipeline of what it writes publishes what
//! its cases say.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bson::{Bson, DateTime, Decimal128, Document, doc, oid::ObjectId};
use mongodb::{Client, Database};
use rowbridge_testbed::{Kafka, Mongo};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::init::{files_of, rowbridge};
use crate::rig::Rig;
use crate::statements::{Collections, publish_what_cases_say, staged};

#[tokio::test]
async fn init_of_collections_publishes_what_its_cases_say() -> Result<()> {
    let stage = Stage::new("init_collections").await?;
    stage.fill().await?;
    let listed = rowbridge(&["init", "--url", &stage.url()]).await?;
    let told = String::from_utf8(listed.stdout)?;
    for part in [
        "not ",
        "a view: it has no changes of its own",
        "it has no documents, and MongoDB declares no fields",
        "rowbridge init --url 'mongodb://",
    ] {
        ensure!(told.contains(part), "no {part:?} in:\n{told}");
    }

    let said = stage.init(&["--all"]).await?;
    let seen = format!(
        "{}.reservations (60 documents, all there were)",
        stage.name()
    );
    ensure!(said.contains(&seen), "{said}");
    let schema = stage.read("schema.toml")?;
    for line in [
        "_id           = \"objectid\"",
        "bookingStatus = \"string\"",
        "roomNumber    = \"bson\"        # 40 int32, 20 string; no one type: see what it holds first; no rule reads it",
        "nights        = \"int64\"       # 30 int32, 30 int64",
        "deposit       = \"decimal128\"  # a value in 20 of 60",
        "party         = \"document\"    # { adults, children };",
        "tags          = \"array\"",
        "reservations: from 60 documents, all there were.",
    ] {
        ensure!(schema.contains(line), "no {line:?} in:\n{schema}");
    }
    let mapping = stage.read("mapping.toml")?;
    for event in [
        "ReservationCreated",
        "ReservationBookingArrived",
        "ReservationBalanceChanged",
        "ReservationDeleted",
        "GuestUpdated",
        "VisitCreated",
    ] {
        ensure!(
            mapping.contains(&format!("\"{event}\"")),
            "no {event} in:\n{mapping}"
        );
    }
    stage.publishes_what_cases_say().await?;
    stage.holds_none_of(&["ana.reis@", "Reis", "555 0100"])
}

#[tokio::test]
async fn what_init_offers_without_images_works_once_its_command_was_run() -> Result<()> {
    let stage = Stage::new("init_images").await?;
    stage.fill().await?;
    let guests = format!("{}.guests", stage.name());
    stage.init(&["--table", &guests]).await?;
    let mapping = stage.read("mapping.toml")?;
    let active: Vec<&str> = mapping
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    ensure!(
        !active.join("\n").contains("$.before"),
        "it needs old values:\n{mapping}"
    );
    let command = mapping
        .lines()
        .find_map(|line| line.strip_prefix("#     "))
        .context("a command")?;
    ensure!(command.contains("collMod"), "{command}");
    run_printed(&stage.database, command).await?;

    let again = Stage {
        dir: TempDir::new()?,
        database: stage.database.clone(),
        host: stage.host.clone(),
    };
    again.init(&["--table", &guests]).await?;
    let mapping = again.read("mapping.toml")?;
    ensure!(mapping.contains("\"GuestPointsChanged\""), "{mapping}");
    again.publishes_what_cases_say().await
}

#[tokio::test]
async fn init_says_what_it_looked_at_and_why_it_cannot() -> Result<()> {
    let mongo = Mongo::builder().auth().start().await?;
    let admin = Client::with_uri_str(mongo.url()).await?;
    let database = admin.database("shop");
    let order = |number: i32| doc! { "_id": number, "status": (["NEW", "PAID"][usize::from(number % 2 == 0)]), "total": 1.5 };
    database
        .collection("orders")
        .insert_many((0..3_000).map(order))
        .await?;
    database.create_collection("empty").await?;
    mongo
        .create_user("reader", "canary-secret", &["read@shop"])
        .await?;
    mongo.create_user("nobody", "canary-secret", &[]).await?;
    let dir = TempDir::new()?;
    let pack = dir.path().join("shop").display().to_string();
    let url = |user: &str| {
        mongo
            .url_of(user, "canary-secret")
            .replace("/?", "/shop?authSource=admin&")
    };

    let empty = [
        "init",
        "--url",
        &url("reader"),
        "--table",
        "shop.empty",
        "--out",
        &pack,
    ];
    let refused = rowbridge(&empty).await?;
    let said = String::from_utf8(refused.stderr)?;
    ensure!(refused.status.code() == Some(2), "{said}");
    ensure!(
        said.contains("there is nothing to make a mapping from"),
        "{said}"
    );

    let denied = rowbridge(&["init", "--url", &url("nobody"), "--all", "--out", &pack]).await?;
    let said = String::from_utf8(denied.stderr)?;
    ensure!(denied.status.code() == Some(2), "{said}");
    ensure!(said.contains("role: \"read\", db: \"shop\""), "{said}");
    ensure!(!dir.path().join("shop/mapping.toml").exists());

    let all = ["init", "--url", &url("reader"), "--all", "--out", &pack];
    let written = rowbridge(&all).await?;
    let mut everything = String::from_utf8(written.stderr)? + &String::from_utf8(written.stdout)?;
    ensure!(written.status.success(), "{everything}");
    for part in [
        "shop.orders (1,000 documents taken at random, of about 3,000)",
        "export ROWBRIDGE_SOURCE__MONGODB__PASSWORD=",
        "rowbridge.toml --limit 10",
    ] {
        ensure!(everything.contains(part), "no {part:?} in:\n{everything}");
    }
    for file in files_of(&dir.path().join("shop"))? {
        everything.push_str(&fs::read_to_string(file)?);
    }
    ensure!(!everything.contains("canary-secret"), "{everything}");

    again_from_its_configuration(dir.path()).await
}

/// From the configuration that was written, into another folder.
async fn again_from_its_configuration(dir: &Path) -> Result<()> {
    let config = dir.join("shop/rowbridge.toml").display().to_string();
    let other = dir.join("other").display().to_string();
    let again = Command::new(env!("CARGO_BIN_EXE_rowbridge"))
        .args(["init", "-c", &config, "--table", "orders", "--out", &other])
        .env("ROWBRIDGE_SOURCE__MONGODB__PASSWORD", "canary-secret")
        .output()
        .await?;
    ensure!(again.status.success(), "{again:?}");
    let text = fs::read_to_string(format!("{other}/rowbridge.toml"))?;
    ensure!(
        text.contains("[source.mongodb]")
            && text.contains("mongodb://reader@")
            && !text.contains("canary"),
        "{text}"
    );
    Ok(())
}

/// A database and a folder to write to.
struct Stage {
    database: Database,
    /// `127.0.0.1:PORT`
    host: String,
    dir: TempDir,
}

impl Stage {
    async fn new(name: &str) -> Result<Self> {
        let mongo = Mongo::shared().await?;
        let client = Client::with_uri_str(mongo.url()).await?;
        Ok(Self {
            database: client.database(&mongo.database(name)),
            host: mongo.addr(0).to_string(),
            dir: TempDir::new()?,
        })
    }

    fn name(&self) -> &str {
        self.database.name()
    }

    fn url(&self) -> String {
        format!("mongodb://{}/{}?replicaSet=rs0", self.host, self.name())
    }

    fn pack(&self) -> PathBuf {
        self.dir.path().join("pack")
    }

    fn read(&self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(self.pack().join(name))?)
    }

    fn holds_none_of(&self, personal: &[&str]) -> Result<()> {
        for file in files_of(&self.pack())? {
            let text = fs::read_to_string(&file)?;
            for personal in personal {
                ensure!(
                    !text.contains(personal),
                    "{personal} is in {}",
                    file.display()
                );
            }
        }
        Ok(())
    }

    /// Collections as applications leave them: nested documents, arrays, fields that are missing, null or of several types.
    async fn fill(&self) -> Result<()> {
        let images = doc! { "enabled": true };
        for name in ["reservations", "visits", "Odd.Names"] {
            let create = doc! { "create": name, "changeStreamPreAndPostImages": images.clone() };
            self.database.run_command(create).await?;
        }
        self.database.create_collection("empty").await?;
        let view = doc! { "create": "arrivals", "viewOn": "reservations", "pipeline": [] };
        self.database.run_command(view).await?;
        let reservations = (0..60_u8).map(reservation);
        self.database
            .collection("reservations")
            .insert_many(reservations)
            .await?;
        let guest = |number: i32| {
            doc! { "_id": format!("G-{number}"), "tier": (["GOLD", "BASIC"][usize::from(number % 2 == 0)]),
            "points": number * 10, "email": "ana.reis@example.org", "phone": "+44 20 555 0100" }
        };
        self.database
            .collection("guests")
            .insert_many((0..40).map(guest))
            .await?;
        let visit = |number: i32| {
            doc! { "_id": { "day": DateTime::from_millis(86_400_000), "room": number }, "state": "OPEN", "count": number }
        };
        self.database
            .collection("visits")
            .insert_many((0..3).map(visit))
            .await?;
        let odd = [
            doc! { "_id": 1, "Unit Price": "1.20".parse::<Decimal128>()?, "a.b": true, "order": "x", "2nd": Bson::Null },
            doc! { "_id": "text", "Unit Price": 7, "a.b": false, "order": "y", "2nd": 2 },
            doc! { "_id": ObjectId::from_bytes([9; 12]), "Unit Price": 7_i64, "raw": Bson::MaxKey },
        ];
        self.database
            .collection::<Document>("Odd.Names")
            .insert_many(odd)
            .await?;
        Ok(())
    }

    /// Runs `init`; what it said on standard error.
    async fn init(&self, arguments: &[&str]) -> Result<String> {
        let (url, out) = (self.url(), self.pack().display().to_string());
        let mut all = vec!["init", "--url", &url, "--out", &out];
        all.extend(arguments);
        let output = rowbridge(&all).await?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(output.status.success(), "init failed: {said}");
        ensure!(!said.contains("no case was found"), "{said}");
        Ok(said)
    }

    /// Runs the cases, and then the changes of each as writes.
    async fn publishes_what_cases_say(&self) -> Result<()> {
        let pack = self.pack().display().to_string();
        let tested = rowbridge(&["test", &pack, "--coverage", "--fail-under", "100"]).await?;
        let told = String::from_utf8(tested.stdout)?;
        let said = String::from_utf8(tested.stderr)?;
        ensure!(tested.status.success(), "{told}\n{said}");
        ensure!(said.is_empty(), "the mapping has warnings: {said}");

        let mongo = Mongo::shared().await?;
        let brokers = Kafka::shared().await?.brokers();
        let rig = Rig::on_documents(self.name(), mongo, &brokers)?;
        staged(&self.pack(), self.name(), None, &rig.pack())?;
        let collections = Collections(self.database.clone());
        let ran = publish_what_cases_say(&rig, &collections, &[]).await?;
        ensure!(ran.events > 0, "{ran:?}");
        Ok(())
    }
}

fn reservation(number: u8) -> Document {
    let statuses = ["Not Arrived", "Arrived", "Departure"];
    let money = |text: &str| text.parse::<Decimal128>().expect("a decimal");
    let mut reservation = doc! {
        "_id": ObjectId::from_bytes([number; 12]),
        "bookingStatus": (statuses[usize::from(number % 3)]),
        "roomNumber": (if number.is_multiple_of(3) { Bson::from("412") } else { i32::from(number).into() }),
        "nights": (if number.is_multiple_of(2) { Bson::Int32(2) } else { Bson::Int64(3) }),
        "balance": money("567.00"),
        "arrival": DateTime::from_millis(1_796_119_200_000 + i64::from(number)),
        "party": { "adults": 2, "children": 1 },
        "guest": { "id": "G-1", "name": { "family": "Reis" } },
        "tags": ["vip", 7, { "deep": [1] }],
        "note": Bson::Null,
    };
    match number % 3 {
        0 => drop(reservation.insert("deposit", money("50.00"))),
        1 => drop(reservation.insert("deposit", Bson::Null)),
        _ => {}
    }
    reservation
}

/// Runs a command as it is printed for the shell.
async fn run_printed(database: &Database, printed: &str) -> Result<()> {
    let (_, command) = printed.split_once(".runCommand(").context("a command")?;
    let command = command.strip_suffix(')').context("its end")?;
    let command: Value = serde_json::from_str(command)?;
    database
        .run_command(bson::serialize_to_document(&command)?)
        .await?;
    Ok(())
}
