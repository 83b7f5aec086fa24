//! Who is let in by brokers with SASL_SSL and mutual TLS, and what is said to who is not.

use std::fs;
use std::time::{Duration, Instant};

use rowbridge::config::{Config, SinkConfig};
use rowbridge::sink::kafka::LetIn;
use rowbridge::sink::{Opened, Sink as _, SinkError};
use rowbridge_testbed::certificates::{Authority, Issued};
use rowbridge_testbed::{Kafka, KafkaTools};

use crate::bed::{Bed, source, wait};
use crate::guarded::{Files, Guarded, MARK, Wallet, bed, password, paste, publish, refusal};

/// Longer than being turned away may take, shorter than a time-out.
const SOON: Duration = Duration::from_secs(8);
/// Until the broker knows of a change.
const CHANGE_LIMIT: Duration = Duration::from_secs(30);

/// Refused in words about the problem and about the way out, by `run` and by `check` alike, and at once.
fn is_refused(brokers: &str, wallet: &Wallet, problem: &str, hint: &str) {
    let bed = bed(brokers, "barred", wallet);
    let began = Instant::now();
    let (said, way_out) = refusal(bed.sink().open(&source("a")));
    assert!(said.contains(problem), "`{problem}` is not in: {said}");
    assert!(
        way_out.contains(hint),
        "`{hint}` is not in: {way_out} (for {said})"
    );
    let findings = bed.sink().check().unwrap();
    assert!(began.elapsed() < SOON, "{said}: {:?}", began.elapsed());
    let [finding] = &findings[..] else {
        panic!("one finding, not {findings:#?}");
    };
    assert_eq!((&finding.problem, &finding.fix), (&said, &way_out));
}

fn transient(outcome: Result<Opened, SinkError>) -> String {
    match outcome {
        Err(SinkError::Transient { problem }) => {
            assert!(!problem.contains(MARK), "{problem}");
            problem
        }
        other => panic!("not a passing error: {other:?}"),
    }
}

#[test]
fn every_mechanism_logs_in_and_publishes() {
    let Guarded { kafka, authority } = Guarded::shared();
    let files = Files::trusting(authority);
    for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] {
        let login = files.login("admin").with("sasl.mechanism", mechanism);
        let bed = bed(&kafka.sasl_ssl().unwrap(), "mechanism", &login);
        assert_eq!(publish(&bed).unwrap(), Opened::First, "{mechanism}");
        assert!(matches!(publish(&bed).unwrap(), Opened::Resume(_)));
        assert_eq!(bed.sink().check().unwrap(), [], "{mechanism}");
    }
}

/// What docs/operations.md shows, with our files and names.
#[test]
fn the_configurations_of_the_operations_guide_let_us_in() {
    let Guarded { kafka, authority } = Guarded::shared();
    let files = Files::trusting(authority);
    let badge = authority.client("admin").unwrap();
    files.badge(&badge);
    files.write(
        "client.key",
        &wait(badge.locked_key(files.folder(), "key-s3cret")),
    );
    files.write("client_key_password", "key-s3cret\n");
    files.write("kafka_password", password("admin"));
    let guide = include_str!("../../docs/operations.md");
    let blocks: Vec<_> = guide.split("```toml\n[sink.kafka]").skip(1).collect();
    let listeners = [kafka.sasl_ssl().unwrap(), kafka.ssl().unwrap()];
    assert_eq!(blocks.len(), listeners.len());
    for (block, brokers) in blocks.into_iter().zip(listeners) {
        let block = block.split("```").next().unwrap();
        let block = block
            .replace("/run/secrets/rowbridge", files.folder().to_str().unwrap())
            .replace("\"rowbridge\"", "\"admin\"");
        let text = format!(
            "pipeline = \"guide\"\nmapping = \"pack\"\n[source.postgres]\nurl = \"postgres://me@db/x\"\n[sink.kafka]{block}"
        );
        let config = Config::from_text("rowbridge.toml".as_ref(), &text, &[]).unwrap();
        let SinkConfig::Kafka(settings) = config.sink else {
            panic!("not Kafka");
        };
        let pairs = settings.properties.iter();
        let pairs: Vec<_> = pairs
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let wallet = Wallet::of(&pairs);
        let bed = bed(&brokers, "guide", &wallet);
        assert_eq!(publish(&bed).unwrap(), Opened::First, "{block}");
    }
}

#[test]
fn wrong_passwords_users_and_mechanisms_are_told_apart() {
    let Guarded { kafka, authority } = Guarded::shared();
    let brokers = kafka.sasl_ssl().unwrap();
    let files = Files::trusting(authority);
    let app = files.login("app");
    let wrong = app
        .clone()
        .with("sasl.password_file", files.write("wrong", "wrong-s3cret"));
    is_refused(
        &brokers,
        &wrong,
        "invalid credentials",
        "sasl.password_file",
    );
    is_refused(
        &brokers,
        &wrong,
        "invalid credentials",
        "--entity-name 'app'",
    );
    let in_place = app
        .clone()
        .without("sasl.password_file")
        .with("sasl.password", "wrong-s3cret");
    is_refused(
        &brokers,
        &in_place,
        "invalid credentials",
        "\"sasl.password\"",
    );
    let unknown = app.clone().with("sasl.username", "nobody");
    is_refused(&brokers, &unknown, "invalid credentials", "sasl.username");
    let plain = wrong.with("sasl.mechanism", "PLAIN");
    is_refused(
        &brokers,
        &plain,
        "Invalid username or password",
        "sasl.username",
    );
    let absent = app
        .clone()
        .with("sasl.password_file", files.path("nothing-here"));
    is_refused(&brokers, &absent, "nothing-here", "or the file");
    let empty = app.with("sasl.password_file", files.write("empty", "\n"));
    is_refused(&brokers, &empty, "is empty", "or the file");
}

#[test]
fn brokers_that_cannot_be_believed_are_refused() {
    let Guarded { kafka, authority } = Guarded::shared();
    let brokers = kafka.sasl_ssl().unwrap();
    let files = Files::trusting(authority);
    let app = files.login("app");
    let stranger = Authority::new("a stranger").unwrap();
    let misled = app.clone().with(
        "ssl.ca.location",
        files.write("stranger.pem", stranger.pem()),
    );
    is_refused(
        &brokers,
        &misled,
        "not signed by an authority",
        "must hold the authority",
    );
    let of_the_system = app.clone().without("ssl.ca.location");
    is_refused(
        &brokers,
        &of_the_system,
        "not signed by an authority",
        "to a PEM file",
    );
    let by_address = brokers.replace("localhost", "127.0.0.1");
    is_refused(
        &by_address,
        &app,
        "not for the host 127.0.0.1",
        "subjectAltName",
    );
    let absent = app
        .clone()
        .with("ssl.ca.location", files.path("nothing-here"));
    is_refused(&brokers, &absent, "ssl.ca.location", "or the file");
    let garbage = app.with("ssl.ca.location", files.write("garbage", "no certificate"));
    is_refused(&brokers, &garbage, "ssl.ca.location", "or the file");
}

#[test]
fn an_expired_certificate_of_the_broker_is_refused_and_a_missing_mechanism_named() {
    let authority = Authority::new("the authority of tests").unwrap();
    let server = authority.expired_server(&["localhost"]).unwrap();
    let expired = Guarded::start(authority, server, |builder| {
        builder.property("sasl.enabled.mechanisms", "SCRAM-SHA-512")
    });
    let brokers = expired.kafka.sasl_ssl().unwrap();
    let files = Files::trusting(&expired.authority);
    let app = files.login("app");
    is_refused(
        &brokers,
        &app,
        "certificate has expired",
        "renew the brokers' certificate",
    );
    let careless = app
        .with("enable.ssl.certificate.verification", "false")
        .with("sasl.mechanism", "SCRAM-SHA-256");
    is_refused(
        &brokers,
        &careless,
        "does not take SCRAM-SHA-256, but SCRAM-SHA-512",
        "\"sasl.mechanism\" to one that the brokers take: SCRAM-SHA-512",
    );
}

#[test]
fn a_listener_of_another_protocol_is_named_as_what_may_be_wrong() {
    let Guarded { kafka, authority } = Guarded::shared();
    let files = Files::trusting(authority);
    let app = files.login("app");
    is_refused(
        &kafka.sasl_ssl().unwrap(),
        &Wallet::of(&[]),
        "the listener speaks it",
        "security.protocol",
    );
    let without_login =
        Wallet::of(&[("security.protocol", "SSL")]).with("ssl.ca.location", files.path("ca.pem"));
    for (brokers, wallet) in [
        (kafka.sasl_ssl().unwrap(), &without_login),
        (kafka.brokers(), &app),
    ] {
        let began = Instant::now();
        let bed = bed(&brokers, "protocol", wallet);
        let said = transient(bed.sink().open(&source("a")));
        assert!(said.contains("another security.protocol"), "{said}");
        assert!(began.elapsed() < SOON, "{said}");
    }
}

#[test]
fn a_certificate_and_its_key_are_a_login_of_least_privilege() {
    let Guarded { kafka, authority } = Guarded::shared();
    let brokers = kafka.ssl().unwrap();
    let files = Files::trusting(authority);
    let tools = files.tools_by_badge(&authority.client("admin").unwrap());
    let own = authority.client("the badge, of tests").unwrap();
    let bed = bed(&brokers, "badge", &files.badge(&own));
    let findings = bed.sink().check().unwrap();
    assert!(!findings.is_empty());
    for finding in &findings {
        paste(&tools, &finding.fix);
    }
    assert_eq!(bed.sink().check().unwrap(), [], "one round is enough");
    assert_eq!(publish(&bed).unwrap(), Opened::First);
    behind_a_passphrase(bed, &files, &own);
}

/// The same key once more, encrypted.
fn behind_a_passphrase(mut bed: Bed, files: &Files, own: &Issued) {
    let locked = Issued {
        certificate: own.certificate.clone(),
        key: wait(own.locked_key(files.folder(), "key-s3cret")),
    };
    let badge = files.badge(&locked);
    let passphrase = files.write("passphrase", "key-s3cret\n");
    bed.config.properties = badge
        .clone()
        .with("ssl.key.password_file", &passphrase)
        .properties();
    assert!(matches!(publish(&bed).unwrap(), Opened::Resume(_)));
    files.write("passphrase", "wrong-s3cret");
    bed.config.let_in = LetIn::default();
    let (said, _) = refusal(bed.sink().open(&source("a")));
    assert!(said.contains("ssl.key.location"), "{said}");
    bed.config.properties = badge.properties();
    let (said, _) = refusal(bed.sink().open(&source("a")));
    assert!(said.contains("ssl.key.location"), "{said}");
}

#[test]
fn certificates_that_the_broker_does_not_take_are_refused() {
    let Guarded { kafka, authority } = Guarded::shared();
    let brokers = kafka.ssl().unwrap();
    let files = Files::trusting(authority);
    let own = authority.client("somebody").unwrap();
    let none = files
        .badge(&own)
        .without("ssl.certificate.location")
        .without("ssl.key.location");
    is_refused(&brokers, &none, "or misses one", "show a certificate: set");
    let forged = Authority::new("a stranger").unwrap().client("admin");
    let forged = files.badge(&forged.unwrap());
    is_refused(
        &brokers,
        &forged,
        "does not accept our certificate",
        "ssl.truststore.location",
    );
    let expired = files.badge(&authority.expired_client("admin").unwrap());
    is_refused(
        &brokers,
        &expired,
        "does not accept our certificate",
        "be valid now",
    );
    let mixed = Issued {
        certificate: own.certificate,
        key: authority.client("somebody").unwrap().key,
    };
    is_refused(
        &brokers,
        &files.badge(&mixed),
        "ssl.key.location",
        "or the file",
    );
}

fn change_password(kafka: &Kafka, tools: &KafkaTools, password: &str) {
    paste(
        tools,
        &format!(
            "kafka-configs.sh --bootstrap-server {} --alter --entity-type users --entity-name rotated \
             --add-config 'SCRAM-SHA-512=[iterations=4096,password={password}]'",
            kafka.brokers()
        ),
    );
}

#[test]
fn a_password_that_is_rotated_under_a_running_sink_is_waited_for_and_read_again() {
    let Guarded { kafka, authority } = Guarded::shared();
    let files = Files::trusting(authority);
    let tools = files.tools_by_password();
    let login = files.login("rotated");
    let bed = bed(&kafka.sasl_ssl().unwrap(), "rotation", &login);
    publish(&bed).unwrap();

    // The broker first and then our file.
    change_password(kafka, &tools, "second-s3cret");
    let began = Instant::now();
    let said = loop {
        match publish(&bed) {
            Ok(_) => assert!(
                began.elapsed() < CHANGE_LIMIT,
                "the old password still works"
            ),
            refused => break transient(refused),
        }
    };
    assert!(said.contains("invalid credentials"), "{said}");
    assert!(said.contains("sasl.password_file"), "{said}");
    let path = files.path("rotated.password");
    fs::remove_file(&path).unwrap();
    let said = transient(publish(&bed));
    assert!(said.contains(&path), "{said}");
    files.write("rotated.password", "second-s3cret\n");
    assert!(matches!(publish(&bed).unwrap(), Opened::Resume(_)));

    // A process that starts with the old password has a mistake to correct.
    files.write("rotated.password", "first-s3cret\n");
    is_refused(
        &bed.config.brokers,
        &login,
        "invalid credentials",
        "sasl.password_file",
    );
}
