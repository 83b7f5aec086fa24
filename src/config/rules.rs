//! What must hold between keys: what is required, and what contradicts what.

use super::given::{Given, Origin, Problem, size_of};
use super::schema::{KEYS, Presence, key};

/// Adds every rule that is broken to the problems of `given`.
pub(super) fn check(given: &mut Given) {
    let mut problems = Vec::new();
    required(given, &mut problems);
    one_sink(given, &mut problems);
    passwords_and_certificates(given, &mut problems);
    limits(given, &mut problems);
    properties(given, &mut problems);
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
        problems.push(missing("no source", "add `[source.postgres]`"));
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
    if given.has(&postgres("password")) && given.has(&postgres("password_file")) {
        problems.push(Problem {
            title: "two passwords".to_owned(),
            origin: given.origin(&postgres("password")),
            label: "`password_file` is given too".to_owned(),
            help: Some("keep one of the two".to_owned()),
        });
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

/// Pairs of limits of which the first must not pass the second.
fn limits(given: &Given, problems: &mut Vec<Problem>) {
    for (small, large) in [
        ("batch_bytes", "channel_bytes"),
        ("max_record_bytes", "transaction_bytes"),
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

/// librdkafka properties that the guarantee rests on, with the reason why they are ours.
pub(super) const RESERVED_PROPERTIES: &[(&str, &str)] = &[
    ("bootstrap.servers", "is `sink.kafka.brokers`"),
    ("metadata.broker.list", "is `sink.kafka.brokers`"),
    (
        "transactional.id",
        "is `rowbridge.<pipeline>`: it is what fences an earlier instance",
    ),
    (
        "transaction.timeout.ms",
        "follows from `limits`: commits must end well before it",
    ),
    (
        "enable.idempotence",
        "is always on: exactly once rests on it",
    ),
    (
        "acks",
        "is always `all`: a committed event must survive a broker",
    ),
    (
        "request.required.acks",
        "is always `all`: a committed event must survive a broker",
    ),
    (
        "max.in.flight",
        "is set by the idempotent producer: order rests on it",
    ),
    (
        "max.in.flight.requests.per.connection",
        "is set by the idempotent producer: order rests on it",
    ),
    ("retries", "is set by the idempotent producer"),
    (
        "message.send.max.retries",
        "is set by the idempotent producer",
    ),
    (
        "message.timeout.ms",
        "follows from the transaction's time-out",
    ),
    (
        "delivery.timeout.ms",
        "follows from the transaction's time-out",
    ),
    (
        "partitioner",
        "is always `murmur2_random`: order per key rests on it",
    ),
    (
        "isolation.level",
        "is always `read_committed`: the position is read with it",
    ),
    (
        "group.id",
        "is not used: the position is kept with the events",
    ),
    (
        "enable.auto.commit",
        "is not used: the position is kept with the events",
    ),
    (
        "message.max.bytes",
        "follows from `limits.max_record_bytes`",
    ),
];

fn properties(given: &Given, problems: &mut Vec<Problem>) {
    for (path, value) in &given.values {
        let Some(name) = path.strip_prefix("sink.kafka.properties.") else {
            continue;
        };
        let reserved = RESERVED_PROPERTIES
            .iter()
            .find(|(reserved, _)| *reserved == name);
        if let Some((_, reason)) = reserved {
            problems.push(Problem {
                title: format!("`{name}` cannot be set"),
                origin: value.origin.clone(),
                label: format!("`{name}` {reason}"),
                help: Some("remove it".to_owned()),
            });
        }
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
