//! What the two groups promise.

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::downstream::{Answer, Asked, Downstream};
use crate::stage::{Service, Stage, Transaction, wait_for};
use crate::stays::{Published, Step, events, reservation};

const CARDS: &str = "hotel.key-cards";
const DOCUMENTS: &str = "hotel.identity-documents";
const DELAY: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(60);

/// A guest who comes, is given another room, stays on, is checked out by mistake, and leaves.
const STAY: [Step; 6] = [
    Step::CheckIn,
    Step::ChangeRoom("512"),
    Step::Extend("2026-12-06"),
    Step::CheckOut,
    Step::TakeBack,
    Step::CheckOut,
];

const CARD_OF_STAY: [&str; 6] = [
    "PUT /cards/*",
    "PUT /cards/*",
    "PATCH /cards/*",
    "DELETE /cards/*",
    "PUT /cards/*",
    "DELETE /cards/*",
];

/// The same stay of so many guests, who all do a step before anybody does the next.
fn stays(guests: usize) -> Result<Vec<Published>> {
    let step = |step: &Step| (0..guests).map(|guest| (guest, *step)).collect::<Vec<_>>();
    events(&STAY.iter().flat_map(step).collect::<Vec<_>>())
}

/// The same effects for so many guests.
fn of_each(guests: usize, effects: &[&str]) -> BTreeMap<String, Vec<String>> {
    let effects: Vec<String> = effects.iter().map(|effect| (*effect).to_owned()).collect();
    let of = |guest| (reservation(guest), effects.clone());
    (0..guests).map(of).collect()
}

/// How often an event's effect fails before it succeeds.
fn failures(events: &[Published]) -> HashMap<String, usize> {
    let often = |at| match at % 8 {
        3 => 1,
        5 => 2,
        _ => 0,
    };
    let events = events.iter().enumerate();
    events
        .map(|(at, event)| (event.id.clone(), often(at)))
        .collect()
}

#[tokio::test]
async fn every_card_follows_its_stay_though_the_system_fails_and_instances_die() -> Result<()> {
    const GUESTS: usize = 20;
    let stage = Stage::start(4).await?;
    let all = stays(GUESTS)?;
    let failures = failures(&all);
    let lost = [10, 50, 90].map(|at: usize| all[at].id.clone());
    let (lose, losses) = channel();
    let downstream = Downstream::start(move |asked: &Asked| {
        if asked.before < failures[&asked.id] {
            Answer::Status(503)
        } else if lost.contains(&asked.id) {
            let _ = lose.send(());
            Answer::DoneInSilence
        } else {
            Answer::Done
        }
    })?;
    let start = |instance| stage.service("key-cards", &downstream.address, instance, DELAY);
    let kill_between_effect_and_commit = |service: &mut Service| -> Result<()> {
        losses.recv_timeout(SOON).context("no effect was done")?;
        service.kill9()?;
        *service = start("1")?;
        Ok(())
    };

    let (before, after) = all.split_at(all.len() / 2);
    let nobody = events(&[(1_000, Step::CheckIn)])?;
    stage.publish(&nobody, Transaction::Abort)?;
    stage.publish(before, Transaction::Commit)?;
    stage.publish(&before[..GUESTS], Transaction::Commit)?; // Once more.
    let mut service = start("1")?;
    kill_between_effect_and_commit(&mut service)?;
    kill_between_effect_and_commit(&mut service)?;
    let mut second = start("2")?;
    stage.publish(after, Transaction::Commit)?;
    kill_between_effect_and_commit(&mut service)?;
    second.kill9()?;
    stage.wait_until_done(CARDS)?;

    assert_eq!(downstream.applied(), of_each(GUESTS, &CARD_OF_STAY));
    assert_eq!(stage.read(&format!("{CARDS}.failed"))?.len(), 0);
    let asked = downstream.asked();
    let repeated = asked.iter().filter(|asked| asked.known).count();
    println!(
        "{} requests, {repeated} of them for what was done",
        asked.len()
    );
    assert!(repeated > 0, "no kill came between effect and commit");
    // One for each death, and for each answer that is lost to an instance that lives.
    assert!(repeated <= stage.deaths() + 3, "{repeated} were repeated");

    // All of it again, to an instance that knows nothing but what is in Kafka.
    service.kill9()?;
    stage.publish(&all, Transaction::Commit)?;
    let _service = start("1")?;
    stage.wait_until_done(CARDS)?;
    assert_eq!(downstream.asked().len(), asked.len());
    Ok(())
}

#[tokio::test]
async fn what_fails_for_good_is_set_aside_and_what_waits_behind_it_goes_on_in_order() -> Result<()>
{
    const GUESTS: usize = 12;
    let stage = Stage::start(4).await?;
    let all = stays(GUESTS)?;
    let (bad, reservation_of_bad) = (all[0].id.clone(), reservation(0));
    let always = bad.clone();
    let downstream = Downstream::start(move |asked: &Asked| match asked.id == always {
        true => Answer::Status(503),
        false => Answer::Done,
    })?;
    stage.publish(&all, Transaction::Commit)?;
    let delay = Duration::from_secs(2);
    let _service = stage.service("key-cards", &downstream.address, "1", delay)?;
    stage.wait_until_done(CARDS)?;

    let mut expected = of_each(GUESTS, &CARD_OF_STAY);
    expected.insert(
        reservation_of_bad.clone(),
        CARD_OF_STAY[1..]
            .iter()
            .copied()
            .map(String::from)
            .collect(),
    );
    assert_eq!(downstream.applied(), expected);

    let asked = downstream.asked();
    let attempts = asked.iter().filter(|asked| asked.id == bad);
    let attempts: Vec<_> = attempts.map(|asked| asked.at).collect();
    let gaps: Vec<_> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps.len(), 2, "three attempts");
    // It is counted from the time of a record, which has whole milliseconds.
    let counted = delay - Duration::from_millis(1);
    assert!(gaps.iter().all(|gap| *gap >= counted), "{gaps:?}");
    let others = asked
        .iter()
        .filter(|asked| !asked.path.contains(&reservation_of_bad));
    let last = others.map(|asked| asked.at).max().context("others")?;
    assert!(
        last < attempts[1],
        "others waited for the retry of one reservation"
    );

    let failed = stage.read(&format!("{CARDS}.failed"))?;
    let [failed] = failed.as_slice() else {
        panic!("{failed:?}")
    };
    assert_eq!(
        (failed.id(), failed.key.as_str()),
        (&*bad, &*reservation_of_bad)
    );
    assert_eq!(failed.kind(), "CheckedIn");
    assert_eq!(failed.field("room"), "412");
    assert_eq!(failed.header("failed-attempts"), "3");
    assert_eq!(failed.header("failed-topic"), "hotel.stays");
    let error = failed.header("failed-error");
    assert!(error.contains("503"), "{error}");
    Ok(())
}

/// The instance is killed when the topic of retries holds a change of rooms before the check-in, which failed again. The
/// next one is assigned its partition twice while an event of it waits there.
#[tokio::test]
async fn an_event_waits_for_the_one_before_it_also_after_a_restart() -> Result<()> {
    let stage = Stage::start(1).await?;
    let all = stays(2)?;
    let [check_in, other_check_in] = [0, 1].map(|at: usize| all[at].id.clone());
    let (lose, losses) = channel();
    let downstream = Downstream::start(move |asked: &Asked| match asked.before {
        0 | 1 if asked.id == check_in => Answer::Status(500),
        0 if asked.id == other_check_in => Answer::Status(500),
        1 if asked.id == other_check_in => {
            let _ = lose.send(());
            Answer::DoneInSilence
        }
        _ => Answer::Done,
    })?;
    let delay = Duration::from_secs(3);
    let start = |instance| stage.service("key-cards", &downstream.address, instance, delay);
    stage.publish(&all[..4], Transaction::Commit)?;
    let mut service = start("1")?;
    losses
        .recv_timeout(SOON)
        .context("no second attempt of the other check-in")?;
    service.kill9()?;
    stage.publish(&all[4..], Transaction::Commit)?;
    let _service = start("1")?;
    wait_for("the other check-in to be asked for again", || {
        Ok(downstream.asked().iter().any(|asked| asked.known))
    })?;
    // What follows in the topic of retries was put there a moment ago, and waits.
    let _second = start("2")?;
    stage.wait_until_done(CARDS)?;

    assert_eq!(downstream.applied(), of_each(2, &CARD_OF_STAY));
    let asked = downstream.asked();
    let new = asked.iter().filter(|asked| !asked.known).count();
    assert_eq!(new, all.len() + 3, "{asked:#?}");
    Ok(())
}

#[tokio::test]
async fn documents_go_with_the_guest_and_come_back_while_they_can() -> Result<()> {
    let stage = Stage::start(4).await?;
    let steps = [0, 1].map(|guest| STAY.map(|step| (guest, step)));
    stage.publish(&events(steps.as_flattened())?, Transaction::Commit)?;
    // Of the second guest the store's bin was emptied in between.
    let emptied = format!("/documents/{}/restore", reservation(1));
    let downstream = Downstream::start(move |asked: &Asked| match asked.path == emptied {
        true => Answer::Status(410),
        false => Answer::Done,
    })?;
    let cards = Downstream::start(|_| Answer::Done)?;
    let _documents = stage.service("identity-documents", &downstream.address, "1", DELAY)?;
    let _cards = stage.service("key-cards", &cards.address, "1", DELAY)?;
    stage.wait_until_done(DOCUMENTS)?;
    stage.wait_until_done(CARDS)?;

    let kept = [
        "DELETE /documents/*",
        "POST /documents/*/restore",
        "DELETE /documents/*",
    ];
    let mut expected = of_each(1, &kept);
    let gone = [kept[0], kept[2]].map(str::to_owned);
    expected.insert(reservation(1), gone.into());
    assert_eq!(downstream.applied(), expected);
    let failed = stage.read(&format!("{DOCUMENTS}.failed"))?;
    let [failed] = failed.as_slice() else {
        panic!("{failed:?}")
    };
    assert_eq!(failed.kind(), "CheckOutReverted");
    assert_eq!(failed.key, reservation(1));
    // A refusal is not asked again.
    assert_eq!(failed.header("failed-attempts"), "1");
    assert_eq!(cards.applied(), of_each(2, &CARD_OF_STAY));
    Ok(())
}
