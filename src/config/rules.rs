//! What must hold between keys: what is required, and what contradicts what.

use super::given::{Given, Origin, Problem, size_of};
use super::schema::{KEYS, Presence, key};

/// Adds every rule that is broken to the problems of `given`.
pub(super) fn check(given: &mut Given) {
    let mut problems = Vec::new();
    required(given, &mut problems);
    one_source(given, &mut problems);
    one_sink(given, &mut problems);
    passwords_and_certificates(given, &mut problems);
    hash_key(given, &mut problems);
    limits(given, &mut problems);
    #[cfg(feature = "postgres")]
    source_url(given, &mut problems);
    #[cfg(feature = "kafka")]
    librdkafka_properties(given, &mut problems);
    given.problems.append(&mut problems);
}

fn required(given: &Given, problems: &mut Vec<Problem>) {
    for key in KEYS {
        let wanted = match key.presence {
            Presence::Required => true,
            Presence::RequiredInTable => given.has(key.table()),
            Presence::Optional | Presence::Default(_) => false,
        };
        if wanted && !given.has(key.path) {
            problems.push(Problem {
                title: format!("`{}` is missing", key.path),
                origin: given.origin(key.table()),
                label: "this table needs it".to_owned(),
                help: Some(format!("set it in the file, or as {}", key.variable())),
            });
        }
    }
    if !given.has("source") {
        problems.push(missing(
            "no source",
            "add `[source.postgres]` or `[source.mongodb]`",
        ));
    }
}

fn one_source(given: &Given, problems: &mut Vec<Problem>) {
    if given.has("source.postgres") && given.has("source.mongodb") {
        problems.push(Problem {
            title: "two sources".to_owned(),
            origin: given.origin("source.mongodb"),
            label: "`[source.postgres]` is given too".to_owned(),
            help: Some("one pipeline reads one source: make it two configurations".to_owned()),
        });
    }
}

fn one_sink(given: &Given, problems: &mut Vec<Problem>) {
    match (given.has("sink.kafka"), given.has("sink.stdout")) {
        (false, false) => problems.push(missing(
            "no sink",
            "add `[sink.kafka]`, or `[sink.stdout]` to look at the events",
        )),
        (true, true) => problems.push(Problem {
            title: "two sinks".to_owned(),
            origin: given.origin("sink.stdout"),
            label: "`[sink.kafka]` is given too".to_owned(),
            help: Some("keep one of the two".to_owned()),
        }),
        _ => {}
    }
}

/// Pairs of keys that exclude each other, or of which the first needs the second.
fn passwords_and_certificates(given: &Given, problems: &mut Vec<Problem>) {
    let postgres = |name: &str| format!("source.postgres.{name}");
    for source in ["source.postgres", "source.mongodb"] {
        let password = format!("{source}.password");
        if given.has(&password) && given.has(&format!("{source}.password_file")) {
            problems.push(Problem {
                title: "two passwords".to_owned(),
                origin: given.origin(&password),
                label: "`password_file` is given too".to_owned(),
                help: Some("keep one of the two".to_owned()),
            });
        }
    }
    for (one, other) in [
        ("client_cert_file", "client_key_file"),
        ("client_key_file", "client_cert_file"),
    ] {
        if given.has(&postgres(one)) && !given.has(&postgres(other)) {
            problems.push(Problem {
                title: format!("`{one}` without `{other}`"),
                origin: given.origin(&postgres(one)),
                label: "a certificate and its key go together".to_owned(),
                help: None,
            });
        }
    }
    let tls = given.values.get(&postgres("tls"));
    let tls = tls.and_then(|tls| tls.value.as_str());
    for (mode, file) in [
        ("disable", "ca_file"),
        ("disable", "client_cert_file"),
        ("require", "ca_file"),
    ] {
        if tls == Some(mode) && given.has(&postgres(file)) {
            problems.push(Problem {
                title: format!("`{file}` has no effect with `tls = \"{mode}\"`"),
                origin: given.origin(&postgres(file)),
                label: "would be ignored".to_owned(),
                help: Some("use `tls = \"verify-full\"`, or remove it".to_owned()),
            });
        }
    }
}

/// One key, from one place.
fn hash_key(given: &Given, problems: &mut Vec<Problem>) {
    let has = |name: &str| given.has(&format!("privacy.{name}"));
    match (has("hash_key"), has("hash_key_file")) {
        (true, true) => problems.push(Problem {
            title: "two keys to hash with".to_owned(),
            origin: given.origin("privacy.hash_key"),
            label: "`hash_key_file` is given too".to_owned(),
            help: Some("keep one of the two".to_owned()),
        }),
        (false, false) if given.has("privacy") => problems.push(Problem {
            title: "`privacy.hash_key_id` without a key".to_owned(),
            origin: given.origin("privacy"),
            label: "the id of which key?".to_owned(),
            help: Some(
                "set `hash_key_file`, or ROWBRIDGE_PRIVACY__HASH_KEY in the environment".to_owned(),
            ),
        }),
        _ => {}
    }
}

/// Pairs of limits of which the first must not pass the second.
fn limits(given: &Given, problems: &mut Vec<Problem>) {
    for (small, large) in [
        ("batch_bytes", "channel_bytes"),
        ("transaction_age_ms", "transaction_timeout_ms"),
        ("commit_min_interval_ms", "commit_suspect_ms"),
        ("retry_min_ms", "retry_max_ms"),
    ] {
        let (small, large) = (format!("limits.{small}"), format!("limits.{large}"));
        if let (Some(low), Some(high)) = (limit(given, &small), limit(given, &large))
            && low > high
        {
            let origin = match given.origin(&small) {
                Origin::Nowhere => given.origin(&large),
                origin => origin,
            };
            problems.push(Problem {
                title: format!("`{small}` is larger than `{large}`"),
                origin,
                label: format!("{low} is larger than {high}"),
                help: None,
            });
        }
    }
}

/// The value of a limit, or its default; `None` if it was given and is wrong.
fn limit(given: &Given, path: &str) -> Option<u64> {
    if let Some(given) = given.values.get(path) {
        return size_of(&given.value);
    }
    match key(path)?.presence {
        Presence::Default(toml) if !given.has(path) => size_of(&toml.parse::<toml::Value>().ok()?),
        _ => None,
    }
}

/// Only the connector knows whether a URL is one of its own.
#[cfg(feature = "postgres")]
fn source_url(given: &Given, problems: &mut Vec<Problem>) {
    if let Some(url) = given.values.get("source.postgres.url")
        && let Err(error) =
            rowbridge_postgres::PostgresConfig::from_url(url.value.as_str().unwrap_or_default())
    {
        problems.push(Problem {
            title: "`source.postgres.url` is not valid".to_owned(),
            origin: url.origin.clone(),
            label: error.to_string(),
            help: Some("write it as `postgres://user@host:5432/database`".to_owned()),
        });
    }
    if let Some(url) = given.values.get("source.mongodb.url") {
        let text = url.value.as_str().unwrap_or_default();
        if !["mongodb://", "mongodb+srv://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
        {
            problems.push(Problem {
                title: "`source.mongodb.url` is not valid".to_owned(),
                origin: url.origin.clone(),
                label: "it does not begin with `mongodb://` or `mongodb+srv://`".to_owned(),
                help: Some("write it as `mongodb://user@host:27017/?replicaSet=rs0`".to_owned()),
            });
        }
    }
}

/// Only the sink knows which of librdkafka's properties are its own.
#[cfg(feature = "kafka")]
fn librdkafka_properties(given: &Given, problems: &mut Vec<Problem>) {
    use crate::sink::kafka::properties::Properties;
    const TABLE: &str = "sink.kafka.properties";
    let name_and_value = |(path, given): (&String, &super::given::Value)| {
        let name = path.strip_prefix(TABLE)?.strip_prefix('.')?;
        Some((name.to_owned(), given.value.as_str()?.to_owned()))
    };
    let properties = given.values.iter().filter_map(name_and_value).collect();
    for problem in Properties::checked(&properties).err().unwrap_or_default() {
        problems.push(Problem {
            title: format!(
                "the librdkafka property `{}` cannot be set so",
                problem.name
            ),
            origin: given.origin(&format!("{TABLE}.{}", problem.name)),
            label: problem.reason,
            help: None,
        });
    }
}

fn missing(title: &str, help: &str) -> Problem {
    Problem {
        title: title.to_owned(),
        origin: Origin::Nowhere,
        label: String::new(),
        help: Some(help.to_owned()),
    }
}
