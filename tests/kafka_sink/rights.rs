//! A broker that asks for a login and grants nothing: every missing right is found at once, and the printed
//! commands, run as they are printed, are all that is needed.

use std::collections::BTreeMap;

use rowbridge::sink::kafka::properties::Properties;
use rowbridge::sink::{Opened, Sink as _, SinkError};
use rowbridge_api::{Severity, State};
use rowbridge_testbed::{Kafka, KafkaTools};
use tempfile::TempDir;

use crate::bed::{Bed, at, batch, read_all, source, wait};

const PASSWORD: &str = "a-secret-of-the-app";

/// A broker with a listener for administrators, and one for applications that wants SCRAM and grants nothing.
fn guarded() -> Kafka {
    wait(
        Kafka::builder()
            .proxied()
            .property(
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,PROXIED:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            )
            .property("sasl.enabled.mechanisms", "SCRAM-SHA-512")
            .property(
                "listener.name.proxied.scram-sha-512.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            )
            .property(
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            )
            .property("super.users", "User:ANONYMOUS;User:admin")
            .start(),
    )
}

fn login(user: &str, password: &str) -> Properties {
    let properties = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", user),
        ("sasl.password", password),
    ];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Properties::checked(&BTreeMap::from(properties)).unwrap()
}

fn refusal(opened: Result<Opened, SinkError>) -> (State, String, String) {
    match opened {
        Err(SinkError::Refused {
            state,
            problem,
            hint,
        }) => (state, problem, hint),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_missing_right_is_found_at_once_and_the_printed_commands_grant_them() {
    let kafka = guarded();
    let dir = TempDir::new().unwrap();
    let admin = "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n\
                 sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required \
                 username=\"admin\" password=\"admin-secret\";\n";
    let tools = wait(KafkaTools::install(dir.path(), admin));
    for (user, password) in [("admin", "admin-secret"), ("app", PASSWORD)] {
        wait(tools.paste(&format!(
            "kafka-configs.sh --bootstrap-server {} --alter --entity-type users --entity-name {user} \
             --add-config 'SCRAM-SHA-512=[iterations=4096,password={password}]'",
            kafka.brokers()
        )));
    }
    let mut bed = Bed::at(&kafka.proxied_brokers().unwrap(), "guarded", 3);
    bed.config.properties = login("app", PASSWORD);

    let (state, problem, hint) = refusal(bed.sink().open(&source("a")));
    assert_eq!(state, State::Invalid);
    assert!(!hint.is_empty(), "{problem}");

    let findings = bed.sink().check().unwrap();
    let problems: Vec<&str> = findings
        .iter()
        .map(|found| found.problem.as_str())
        .collect();
    let [first_id, second_id] = bed.config.transactional_ids();
    for missing in [
        bed.events_topic(),
        &bed.config.position_topic(),
        &bed.config.quarantine_topic(),
        &format!("no right to use the transactional id {first_id} and {second_id}"),
    ] {
        assert!(
            problems.iter().any(|problem| problem.contains(missing)),
            "nothing says {missing}: {problems:#?}"
        );
    }
    for finding in &findings {
        assert_eq!(finding.severity, Severity::Error, "{finding:?}");
        for command in finding.fix.lines() {
            wait(tools.paste(command));
        }
    }
    assert_eq!(bed.sink().check().unwrap(), [], "one round is enough");

    let mut sink = bed.sink();
    assert_eq!(sink.open(&source("a")).unwrap(), Opened::First);
    sink.write(&batch(0, 10)).unwrap();
    sink.commit(&at(1)).unwrap();
    sink.write(&batch(10, 10)).unwrap();
    sink.commit(&at(2)).unwrap();
    drop(sink);
    let seen = read_all(&kafka.brokers(), bed.events_topic(), "read_committed");
    assert_eq!(seen.len(), 20);

    one_id_is_not_enough(&bed, &tools, &second_id);
    a_wrong_password_is_refused(&mut bed);
}

fn one_id_is_not_enough(bed: &Bed, tools: &KafkaTools, id: &str) {
    wait(tools.paste(&format!(
        "kafka-acls.sh --bootstrap-server {} --command-config admin.properties --remove --force \
         --allow-principal User:app --operation Write --operation Describe --transactional-id '{id}'",
        bed.config.brokers
    )));
    let (state, problem, hint) = refusal(bed.sink().open(&source("a")));
    assert_eq!(state, State::Invalid);
    assert!(problem.contains(id), "{problem}");
    wait(tools.paste(&hint));
    assert!(matches!(
        bed.sink().open(&source("a")),
        Ok(Opened::Resume(_))
    ));
}

fn a_wrong_password_is_refused(bed: &mut Bed) {
    bed.config.properties = login("app", "another-secret");
    let (state, problem, hint) = refusal(bed.sink().open(&source("a")));
    assert_eq!(state, State::Invalid);
    assert!(
        problem.contains("authentication") || problem.contains("Authentication"),
        "{problem}"
    );
    assert!(
        !format!("{problem}{hint}").contains("secret"),
        "{problem}: {hint}"
    );
}
