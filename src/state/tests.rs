//! The working copy beside a model of its changelog: whatever is done to the folder, what is read is as of the last
//! commit, and what was put since.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::fault::Kind;
use super::{Changelog, Copy, Place, Recorder, Store};
use crate::mapping::Generations;
use crate::mapping::memory::Memory as _;

/// Keys and what is remembered under them.
type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

const NOW_MS: i64 = 1_800_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);

/// A topic, and what is remembered at its end.
#[derive(Clone, Default)]
struct Topic {
    name: String,
    log: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    since: usize,
}

impl Topic {
    fn changelog(&self) -> Changelog {
        Changelog {
            beginning: format!("topic {}", self.name),
            since: offset(self.since),
            end: offset(self.log.len()),
            generations: Generations::new(),
        }
    }

    fn remembered(&self) -> Entries {
        let mut entries = Entries::new();
        for (key, value) in &self.log[self.since..] {
            match value {
                Some(value) => entries.insert(key.clone(), value.clone()),
                None => entries.remove(key),
            };
        }
        entries
    }
}

fn offset(number: usize) -> i64 {
    i64::try_from(number).unwrap()
}

/// A copy that is open, and how many entries were read to get there.
struct Session {
    recorder: Recorder,
    store: Store,
    read: usize,
}

impl Session {
    fn open(place: &Place, topic: &Topic) -> Self {
        Self::open_at(place, topic, NOW_MS).unwrap()
    }

    fn open_at(place: &Place, topic: &Topic, now_ms: i64) -> Result<Self, super::Fault> {
        let changelog = topic.changelog();
        let mut copy = Copy::open(place, &changelog, now_ms)?;
        if copy.is_old() {
            copy = copy.if_younger_than(DAY / 2, &changelog, now_ms)?;
        }
        let from = usize::try_from(copy.offset()).unwrap();
        let mut restoring = copy.follow()?;
        for (number, (key, value)) in topic.log.iter().enumerate().skip(from) {
            restoring.take(offset(number), key, value.as_deref())?;
        }
        let read = restoring.taken();
        let (recorder, store) = restoring.finish(changelog.end, now_ms)?;
        Ok(Self {
            recorder,
            store,
            read,
        })
    }

    /// Hands over what was put; `lag` is how much less than its end the topic says of itself.
    fn record(&mut self, topic: &mut Topic) {
        let recorder = &mut self.recorder;
        let mut record = |key: &[u8], value: Option<&[u8]>| {
            recorder.take(key, value).unwrap();
            topic.log.push((key.to_vec(), value.map(<[u8]>::to_vec)));
        };
        self.store.drain(&mut record).unwrap();
    }

    fn commit(&mut self, topic: &mut Topic) {
        self.record(topic);
        let reached = topic.log.len().saturating_sub(3).max(topic.since);
        self.recorder.committed(offset(reached), NOW_MS).unwrap();
    }

    fn get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.try_get(key).unwrap()
    }

    fn try_get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, crate::mapping::Stop> {
        let mut value = Vec::new();
        let found = self.store.get(key, &mut value)?;
        Ok(found.then_some(value))
    }

    fn holds(&mut self, expected: &Entries, keys: &[Vec<u8>]) {
        for key in keys {
            assert_eq!(self.get(key), expected.get(key).cloned(), "{key:?}");
        }
    }
}

fn place(folder: &Path) -> Place {
    Place {
        folder: folder.to_owned(),
        cache_bytes: 1 << 20,
    }
}

fn key(number: usize) -> Vec<u8> {
    format!("row\0public\0t\0{number:06}\0").into_bytes()
}

/// Some entries in several commits, enough for several files.
fn filled(folder: &Path, entries: usize) -> (Topic, Vec<Vec<u8>>) {
    let mut topic = Topic::default();
    let mut session = Session::open(&place(folder), &topic);
    for round in 0..4_usize {
        for number in (0..entries).filter(|number| number % 4 <= round) {
            let value = format!("{round} of {number}").repeat(8);
            session.store.put(&key(number), Some(value.as_bytes()));
            if number % 7 == round {
                session.store.put(&key(number), None);
            }
        }
        session.commit(&mut topic);
        drop(session);
        session = Session::open(&place(folder), &topic);
        assert_eq!(session.read.min(3), session.read, "rolled forward");
    }
    (topic, (0..entries).map(key).collect())
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &to),
            // The follower removes files while we look.
            false => {
                let _ = fs::copy(entry.path(), to);
            }
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

#[test]
fn what_was_committed_is_there_again_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (mut topic, keys) = filled(folder.path(), 100);
    let mut session = Session::open(&place(folder.path()), &topic);
    session.store.put(b"drained", Some(b"1"));
    session.record(&mut topic.clone());
    session.store.put(b"put", Some(b"1"));
    assert_eq!(session.get(b"drained").as_deref(), Some(&b"1"[..]));
    drop(session);
    let mut session = Session::open(&place(folder.path()), &topic);
    assert_eq!((session.get(b"drained"), session.get(b"put")), (None, None));
    session.holds(&topic.remembered(), &keys);
    session.store.forget_all(b"row\0public\0t\0").unwrap();
    session.holds(&Entries::new(), &keys);
    session.commit(&mut topic);
    assert_eq!(topic.remembered(), Entries::new());
    drop(session);
    Session::open(&place(folder.path()), &topic).holds(&Entries::new(), &keys);
}

#[test]
fn a_commit_that_is_too_large_for_memory_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut topic = Topic::default();
    let small = Place {
        cache_bytes: 64 << 10,
        ..place(folder.path())
    };
    let keys: Vec<_> = (0..40_000).map(key).collect();
    let mut session = Session::open(&small, &topic);
    for (number, key) in keys.iter().enumerate() {
        session
            .store
            .put(key, Some(number.to_string().repeat(30).as_bytes()));
        if number % 5 == 0 {
            session.store.put(&keys[number / 2], None);
        }
    }
    assert!(folder.path().join("pending").exists(), "it spills");
    assert!(session.store.size().memory_bytes < 1 << 20);
    let mut told = BTreeSet::new();
    let mut uncommitted = topic.clone();
    session.record(&mut uncommitted);
    for (key, _) in &uncommitted.log {
        assert!(told.insert(key.clone()), "told twice");
    }
    let expected = uncommitted.remembered();
    session.holds(&expected, &keys);
    // Without its commit nothing of it is there.
    drop(session);
    let mut session = Session::open(&small, &topic);
    session.holds(&Entries::new(), &keys);
    for (key, value) in &uncommitted.log {
        session.store.put(key, value.as_deref());
    }
    session.commit(&mut topic);
    session.holds(&expected, &keys);
    // What was put away goes once it is written.
    let started = std::time::Instant::now();
    while folder.path().join("pending").exists() {
        assert!(started.elapsed() < Duration::from_secs(20), "still pending");
        session.store.put(b"more", Some(b"1"));
        session.commit(&mut topic);
    }
    session.holds(&expected, &keys);
    drop(session);
    let mut session = Session::open(&small, &topic);
    assert!(session.read <= 3, "{} read again", session.read);
    session.holds(&topic.remembered(), &keys);
}

#[test]
fn an_older_copy_is_rolled_forward() {
    let place_of_all = tempfile::tempdir().unwrap();
    let (folder, older) = (place_of_all.path().join("p"), place_of_all.path().join("o"));
    let (mut topic, keys) = filled(&folder, 500);
    copy_folder(&folder, &older);
    let at = topic.log.len();
    let mut session = Session::open(&place(&folder), &topic);
    for number in (0..500).step_by(3) {
        session
            .store
            .put(&key(number), (number % 2 == 0).then_some(b"new"));
    }
    session.commit(&mut topic);
    drop(session);
    let mut session = Session::open(&place(&older), &topic);
    let since = topic.log.len() - at;
    assert!(
        (since..=since + 3).contains(&session.read),
        "{}",
        session.read
    );
    session.holds(&topic.remembered(), &keys);
}

/// What was done to a folder, and whether it is then made anew.
type Case = (&'static str, fn(&Path, &mut Topic) -> i64);

/// Also if the follower has taken all of it by then, as it does at once with what is long.
#[test]
fn what_was_read_is_on_disk_when_the_session_begins() {
    let (folder, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let entry = |number| (key(number), Some(vec![b'x'; 10_000]));
    let topic = Topic {
        log: (0..100).map(entry).collect(),
        ..Topic::default()
    };
    let changelog = topic.changelog();
    let copy = Copy::open(&place(folder.path()), &changelog, NOW_MS).unwrap();
    let mut restoring = copy.follow().unwrap();
    for (number, (key, value)) in topic.log.iter().enumerate() {
        let taken = restoring.take(offset(number), key, value.as_deref());
        taken.unwrap();
    }
    let mut recorder = restoring.recorder;
    recorder.committed(changelog.end, NOW_MS).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    recorder.begin_session().unwrap();
    copy_folder(folder.path(), copied.path());
    assert_eq!(Session::open(&place(copied.path()), &topic).read, 0);
}

#[test]
fn what_is_not_certain_to_be_earlier_is_made_anew() {
    let cases: [Case; 10] = [
        ("missing", |folder, _| {
            fs::remove_dir_all(folder).unwrap();
            NOW_MS
        }),
        ("without entries", |folder, _| {
            fs::remove_dir_all(folder.join("entries")).unwrap();
            NOW_MS
        }),
        ("opened and never closed", |folder, _| {
            fs::write(folder.join("distrusted"), "").unwrap();
            NOW_MS
        }),
        ("of a newer version", |folder, _| {
            fs::write(folder.join("form"), "rowbridge state 2\n").unwrap();
            fs::write(folder.join("entries/current"), "of another form").unwrap();
            NOW_MS
        }),
        ("without a form", |folder, _| {
            fs::remove_file(folder.join("form")).unwrap();
            NOW_MS
        }),
        ("half made", |folder, _| {
            fs::remove_dir_all(folder.join("entries")).unwrap();
            super::Tree::open(&folder.join("entries"), 1 << 20).unwrap();
            NOW_MS
        }),
        ("of another pipeline", |_, topic| {
            topic.name = "other".to_owned();
            topic.log = vec![(key(3), Some(b"other".to_vec()))];
            NOW_MS
        }),
        ("of an earlier beginning", |_, topic| {
            topic.name = "again".to_owned();
            topic.since = topic.log.len();
            topic.log.push((key(3), Some(b"again".to_vec())));
            NOW_MS
        }),
        ("past the end of the topic", |_, topic| {
            topic.log.truncate(topic.log.len() / 2);
            NOW_MS
        }),
        ("too old", |_, _| NOW_MS + 13 * 3_600_000),
    ];
    let filled_once = tempfile::tempdir().unwrap();
    let (whole, keys) = filled(&filled_once.path().join("p"), 200);
    for (what, change) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        copy_folder(&filled_once.path().join("p"), &path);
        let mut topic = whole.clone();
        let now_ms = change(&path, &mut topic);
        let mut session = Session::open_at(&place(&path), &topic, now_ms).unwrap();
        assert_eq!(session.read, topic.log.len() - topic.since, "{what}");
        session.holds(&topic.remembered(), &keys);
        drop(session);
        let mut session = Session::open_at(&place(&path), &topic, now_ms).unwrap();
        assert_eq!(session.read, 0, "{what}: and then it is there");
        session.holds(&topic.remembered(), &keys);
    }
    // The same folder without a change is used.
    let session = Session::open_at(
        &place(&filled_once.path().join("p")),
        &whole,
        NOW_MS + 3_600_000,
    );
    assert!(session.unwrap().read <= 3);
}

/// Opens a folder that something happened to and reads everything; whether a fault was found on the way. What is
/// read is right, or it is a fault that has the next session make everything anew.
fn is_found_out(folder: &Path, topic: &Topic, keys: &[Vec<u8>]) -> bool {
    let expected = topic.remembered();
    let all = topic.log.len() - topic.since;
    let read = catch_unwind(AssertUnwindSafe(|| {
        let mut session = match Session::open_at(&place(folder), topic, NOW_MS) {
            Ok(session) => session,
            Err(fault) => {
                assert_ne!(fault.kind, Kind::Lasting, "{fault}");
                return true;
            }
        };
        for key in keys {
            match session.try_get(key) {
                Ok(found) => assert!(found.as_ref() == expected.get(key), "WRONG {key:?}"),
                Err(_) => return true,
            }
        }
        session.read == all
    }));
    let found_out = read.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        assert!(!text.contains("WRONG"), "{text}");
        // As the hook of the daemon does before it ends.
        fs::write(folder.join("distrusted"), "").unwrap();
        true
    });
    if found_out {
        let mut session = Session::open(&place(folder), topic);
        session.holds(&expected, keys);
    }
    found_out
}

#[test]
fn no_damage_gives_a_wrong_value() {
    let whole = tempfile::tempdir().unwrap();
    let original = whole.path().join("p");
    let (topic, keys) = filled(&original, 300);
    let current = fs::read(original.join("entries/current")).unwrap();
    let last_list = u64::from_le_bytes(*current.first_chunk().unwrap());
    let last_list = PathBuf::from(format!("entries/v{last_list}"));
    let mut found_out = 0;
    let mut tried = 0;
    for file in files(&original.join("entries")) {
        let name = file.strip_prefix(&original).unwrap();
        let bytes = fs::read(&file).unwrap();
        let length = bytes.len();
        let places = (0..length).step_by((length / 24).max(1));
        let flipped = places.map(|place| {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            flipped
        });
        let cut = [0, 1, length / 2, length - 1].map(|length| bytes[..length].to_vec());
        let longer = [bytes.iter().chain(b"more").copied().collect()];
        for damaged in flipped.chain(cut).chain(longer) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("p");
            copy_folder(&original, &path);
            fs::write(path.join(name), damaged).unwrap();
            tried += 1;
            found_out += usize::from(is_found_out(&path, &topic, &keys));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        copy_folder(&original, &path);
        fs::remove_file(path.join(name)).unwrap();
        // Lists of files before the last one are left over, and nobody misses them.
        let is_left_over = name.to_str().unwrap().starts_with("entries/v") && name != last_list;
        let found_out = is_found_out(&path, &topic, &keys);
        assert_eq!(found_out, !is_left_over, "{name:?} is missing");
    }
    println!("{found_out} of {tried} damages were found out, the others did no harm");
    assert!(found_out > tried / 2, "{found_out} of {tried}");
}

#[test]
fn a_folder_that_is_removed_while_it_is_used_ends_the_session_and_no_more() {
    let place_of_all = tempfile::tempdir().unwrap();
    let folder = place_of_all.path().join("p");
    let (mut topic, keys) = filled(&folder, 100);
    let mut session = Session::open(&place(&folder), &topic);
    fs::remove_dir_all(&folder).unwrap();
    let mut number = 0;
    let fault = loop {
        number += 1;
        assert!(number < 1_000, "nobody noticed");
        let before = topic.clone();
        session.store.put(&key(number % 100), Some(&[1; 100_000]));
        if session
            .store
            .drain(&mut |key, value| {
                topic.log.push((key.to_vec(), value.map(<[u8]>::to_vec)));
            })
            .is_err()
        {
            topic = before;
            break session.recorder.check().unwrap_err();
        }
        let entries = topic.log[before.log.len()..].iter();
        let taken = entries.map(|(key, value)| session.recorder.take(key, value.as_deref()));
        taken.collect::<Result<(), _>>().unwrap();
        // The commit is made, whatever becomes of the copy.
        if let Err(fault) = session.recorder.committed(offset(topic.log.len()), NOW_MS) {
            break fault;
        }
    };
    assert_eq!(fault.kind, Kind::Passing, "{fault}");
    assert!(fault.to_string().contains("removed"), "{fault}");
    drop(session);
    let mut session = Session::open(&place(&folder), &topic);
    assert_eq!(session.read, topic.log.len());
    session.holds(&topic.remembered(), &keys);
}

#[test]
fn a_crash_while_it_is_open_has_it_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (topic, keys) = filled(folder.path(), 100);
    let session = Session::open(&place(folder.path()), &topic);
    super::folder::distrust_open(folder.path());
    drop(session);
    let mut session = Session::open(&place(folder.path()), &topic);
    assert_eq!(session.read, topic.log.len());
    session.holds(&topic.remembered(), &keys);
}

#[test]
fn what_is_remembered_is_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = Session::open(&place(folder.path()), &Topic::default());
    session.store.put(b"passenger", Some(b"Turing"));
    session
        .recorder
        .take(b"passenger", Some(b"Turing"))
        .unwrap();
    let printed = format!("{:?} {:?}", session.store, session.recorder);
    assert!(
        !printed.contains("passenger") && !printed.contains("Turing"),
        "{printed}"
    );
}

/// What is done to a copy.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, Option<u16>),
    Get(u8),
    ForgetAll(u8),
    Commit,
    /// Hand over without a commit, and start again.
    Lose,
    /// Start again.
    Reopen,
    /// Keep a copy of the folder as it is now.
    Keep,
    /// Start again from that copy.
    GoBack,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (any::<u8>(), proptest::option::weighted(0.8, 0..3_000_u16))
            .prop_map(|(key, length)| Step::Put(key, length)),
        10 => any::<u8>().prop_map(Step::Get),
        1 => (0..4_u8).prop_map(Step::ForgetAll),
        6 => Just(Step::Commit),
        1 => Just(Step::Lose),
        1 => Just(Step::Reopen),
        1 => Just(Step::Keep),
        1 => Just(Step::GoBack),
    ];
    proptest::collection::vec(step, 1..250)
}

/// Keys in four groups, which are forgotten together.
fn grouped(number: u8) -> Vec<u8> {
    vec![b'a' + number % 4, b'/', number]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn it_is_as_the_model_says(steps in steps(), cache_bytes in 1_000..60_000_usize) {
        let root = tempfile::tempdir().unwrap();
        let (folder, kept) = (root.path().join("p"), root.path().join("kept"));
        let place = Place { folder: folder.clone(), cache_bytes };
        let mut topic = Topic::default();
        let mut model = Entries::new();
        let mut session = Session::open(&place, &topic);
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(key, length) => {
                    let value = length.map(|length| vec![key ^ u8::try_from(number % 256).unwrap(); length.into()]);
                    session.store.put(&grouped(key), value.as_deref());
                    match value {
                        Some(value) => model.insert(grouped(key), value),
                        None => model.remove(&grouped(key)),
                    };
                }
                Step::Get(key) => {
                    prop_assert_eq!(session.get(&grouped(key)), model.get(&grouped(key)).cloned());
                }
                Step::ForgetAll(group) => {
                    let prefix = [b'a' + group, b'/'];
                    session.store.forget_all(&prefix).unwrap();
                    model.retain(|key, _| !key.starts_with(&prefix));
                }
                Step::Commit => session.commit(&mut topic),
                Step::Lose => {
                    session.record(&mut topic.clone());
                    drop(session);
                    session = Session::open(&place, &topic);
                    model = topic.remembered();
                }
                Step::Reopen => {
                    drop(session);
                    session = Session::open(&place, &topic);
                    model = topic.remembered();
                }
                Step::Keep => {
                    let _ = fs::remove_dir_all(&kept);
                    copy_folder(&folder, &kept);
                }
                Step::GoBack => {
                    drop(session);
                    fs::remove_dir_all(&folder).unwrap();
                    if kept.exists() {
                        copy_folder(&kept, &folder);
                    }
                    session = Session::open(&place, &topic);
                    model = topic.remembered();
                }
            }
        }
        for number in 0..=u8::MAX {
            prop_assert_eq!(session.get(&grouped(number)), model.get(&grouped(number)).cloned());
        }
        session.commit(&mut topic);
        prop_assert_eq!(topic.remembered(), model);
    }
}
