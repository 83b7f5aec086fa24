//! Golden diagnostics, layering, and that the schema and the types agree.

use super::schema::Kind;
use super::*;
use crate::paint::Look;

const SMALLEST: &str = r#"
pipeline = "airline"
mapping = "mappings/airline"
[source.postgres]
url = "postgres://rowbridge@db.internal:5432/reservations"
[sink.kafka]
brokers = "kafka:9092"
"#;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::from_text(Path::new("/etc/rowbridge/rowbridge.toml"), text, &variables)
}

fn refused(text: &str, variables: &[(&str, &str)]) -> String {
    match load(text, variables).unwrap_err() {
        ConfigError::Invalid(problems) => {
            format!("{problems}:\n\n{}", problems.render(Look::PLAIN))
        }
        other => other.to_string(),
    }
}

fn kafka(config: &Config) -> &KafkaSettings {
    let SinkConfig::Kafka(kafka) = &config.sink else {
        panic!("not Kafka: {:?}", config.sink)
    };
    kafka
}

#[test]
fn the_smallest_file_has_every_default() {
    insta::assert_debug_snapshot!(load(SMALLEST, &[]).unwrap());
}

#[test]
fn variables_win_over_the_file_and_the_file_over_defaults() {
    let text = format!("{SMALLEST}\n[limits]\nchannel_bytes = \"64MiB\"\nbatch_bytes = 65536\n");
    let config = load(
        &text,
        &[
            ("ROWBRIDGE__PIPELINE", "night"),
            ("ROWBRIDGE_SOURCE__POSTGRES__PASSWORD", "12345"),
            ("ROWBRIDGE_SOURCE__POSTGRES__CREATE_SLOT", "false"),
            ("ROWBRIDGE_SINK__KAFKA__PROPERTIES__SASL_PASSWORD", "true"),
            ("ROWBRIDGE_LIMITS__BATCH_BYTES", "128KiB"),
            ("ROWBRIDGE_LIMITS__COMMIT_MIN_INTERVAL_MS", "7"),
            ("ROWBRIDGE_PARAMS__PROPERTY_ID", "42"),
            ("ROWBRIDGE_ROUNDS", "20"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    let SourceConfig::Postgres(postgres) = &config.source else {
        panic!("a PostgreSQL source");
    };
    assert_eq!(config.pipeline, "night");
    assert_eq!(postgres.password, Some(Secret::new("12345")));
    assert!(!postgres.create_slot);
    assert_eq!(
        kafka(&config).properties,
        [("sasl.password".to_owned(), "true".to_owned())]
    );
    assert_eq!(config.limits.channel_bytes, 64 << 20);
    assert_eq!(config.limits.batch_bytes, 128 << 10);
    assert_eq!(config.limits.commit_min_interval.as_millis(), 7);
    assert_eq!(config.params["property_id"], toml::Value::Integer(42));
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9464");
}

#[test]
fn a_pipeline_can_be_configured_by_variables_alone() {
    let config = load(
        "",
        &[
            ("ROWBRIDGE__PIPELINE", "airline"),
            ("ROWBRIDGE__MAPPING", "/mappings/airline"),
            ("ROWBRIDGE_SOURCE__POSTGRES__URL", "postgres://me@db/x"),
            ("ROWBRIDGE_SINK__KAFKA__BROKERS", "kafka:9092"),
        ],
    )
    .unwrap();
    assert_eq!(config.mapping, Path::new("/mappings/airline"));
    assert!(kafka(&config).create_topics);
}

#[test]
fn stdout_is_chosen_by_its_table() {
    let text = SMALLEST.replace("[sink.kafka]\nbrokers = \"kafka:9092\"", "[sink.stdout]");
    assert!(matches!(
        load(&text, &[]).unwrap().sink,
        SinkConfig::Stdout {}
    ));
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = load(
        SMALLEST,
        &[("ROWBRIDGE_SOURCE__POSTGRES__CA_FILE", "ca.pem")],
    )
    .unwrap();
    assert_eq!(config.mapping, Path::new("/etc/rowbridge/mappings/airline"));
    let SourceConfig::Postgres(postgres) = &config.source else {
        panic!("a PostgreSQL source");
    };
    assert_eq!(
        postgres.ca_file.as_deref(),
        Some(Path::new("/etc/rowbridge/ca.pem"))
    );
}

#[cfg(feature = "kafka")]
#[test]
fn files_of_properties_are_relative_to_the_file_and_need_not_be_there() {
    let text = format!(
        "{SMALLEST}[sink.kafka.properties]\nsecurity.protocol = \"SASL_SSL\"\nsasl.mechanism = \"PLAIN\"\n\
         sasl.username = \"app\"\n\"ssl.ca.location\" = \"ca.pem\"\n"
    );
    let variable = "ROWBRIDGE_SINK__KAFKA__PROPERTIES__SASL_PASSWORD_FILE";
    let config = load(&text, &[(variable, "secret/kafka")]).unwrap();
    for (name, path) in [
        ("ssl.ca.location", "/etc/rowbridge/ca.pem"),
        ("sasl.password_file", "/etc/rowbridge/secret/kafka"),
        ("sasl.mechanism", "PLAIN"),
    ] {
        let given = (name.to_owned(), path.to_owned());
        assert!(kafka(&config).properties.contains(&given), "{given:?}");
    }
}

#[test]
fn properties_may_be_quoted_or_dotted() {
    let quoted = load(
        &format!("{SMALLEST}[sink.kafka.properties]\n\"linger.ms\" = \"5\"\n"),
        &[],
    )
    .unwrap();
    let dotted = load(
        &format!("{SMALLEST}[sink.kafka.properties]\nlinger.ms = \"5\"\n"),
        &[],
    )
    .unwrap();
    assert_eq!(
        kafka(&quoted).properties,
        [("linger.ms".to_owned(), "5".to_owned())]
    );
    assert_eq!(kafka(&dotted).properties, kafka(&quoted).properties);
}

#[cfg(feature = "kafka")]
#[test]
fn everything_wrong_is_reported_at_once() {
    insta::assert_snapshot!(refused(
        r#"pipeline = "Airline"
maping = "mappings/airline"
tls = "require"
[source.postgres]
url = 5432
tls = "verify"
pasword = "hunter2"
create_slot = "yes"
[sink.kafka.properties]
"acks" = "1"
"linger.ms" = 5
[limits]
channel_bytes = "32 apples"
batch_bytes = "1MiB"
commit_min_interval_ms = 99999
[http]
listen = "localhost"
[log.file]
path = "x"
"#,
        &[
            (
                "ROWBRIDGE_SOURCE__POSTGRES__URI",
                "postgres://me:hunter2@db/x"
            ),
            ("ROWBRIDGE_LIMITS__GRACE_PERIOD_SECONDS", "soon"),
        ],
    ));
}

#[test]
fn contradictions_are_reported_with_their_lines() {
    insta::assert_snapshot!(refused(
        r#"pipeline = "airline"
mapping = "mappings/airline"
[source.postgres]
url = "postgres://me:hunter2@db/x"
password = "hunter2"
password_file = "pg"
tls = "disable"
ca_file = "ca.pem"
client_cert_file = "client.pem"
[sink.kafka]
brokers = "kafka:9092"
[sink.stdout]
[limits]
channel_bytes = "1MiB"
batch_bytes = "2MiB"
retry_min_ms = 60000
"#,
        &[],
    ));
}

#[test]
fn an_empty_file_says_what_is_missing() {
    insta::assert_snapshot!(refused("", &[]));
}

#[test]
fn text_that_is_not_toml_shows_where_and_no_secret() {
    insta::assert_snapshot!(refused(
        "pipeline = \"airline\nmapping = 1 2\n[source.postgres]\npassword = \"hunter2\n",
        &[],
    ));
}

#[test]
fn no_message_and_no_debug_print_shows_a_secret() {
    let secret = "hunter2";
    for broken in ["", "nonsense = 1\n"] {
        for line in [
            "url = \"postgres://me:hunter2@db/x\"",
            "url = \"me:hunter2@db\"",
            "url = \"postgres://me@db/x\"\npassword = \"hunter2\"",
            "url = \"postgres://me@db/x\"\npassword = [\"hunter2\"]",
            "url = \"postgres://me@db/x\"\npasswort = \"hunter2\"",
            "url = \"postgres://me@db/x\"\npassword = \"hunter2",
            "url = \"postgres://me@db/x\"\npassword = \"\"\"\nhunter2",
        ] {
            let text = format!(
                "{broken}pipeline = \"a\"\nmapping = \"m\"\nsink.kafka = {{ brokers = \"k\", properties = {{ \"acks\" = \"hunter2\" }} }}\n[source.postgres]\n{line}\n"
            );
            let printed = match load(
                &text,
                &[("ROWBRIDGE_SINK__KAFKA__PROPERTIES__SASL_PASSWORD", secret)],
            ) {
                Ok(config) => format!("{config:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!printed.contains(secret), "{printed}");
        }
    }
}

#[test]
fn types_and_schema_have_the_same_keys() {
    // Every key of the schema, given at once, must be accepted by the types, and every default too.
    for sink in ["sink.kafka", "sink.stdout"] {
        let mut root = toml::Table::new();
        for key in KEYS {
            if key.path.starts_with("sink.") && !key.path.starts_with(sink) {
                continue;
            }
            let value = match (&key.presence, &key.kind) {
                (Presence::Default(text), _) => text.parse().unwrap(),
                (_, Kind::Integer(range)) => {
                    toml::Value::Integer(i64::try_from(*range.start()).unwrap())
                }
                (_, Kind::Marker | Kind::Params | Kind::Properties) => {
                    toml::Value::Table(toml::Table::new())
                }
                _ => toml::Value::String("postgres://x".to_owned()),
            };
            given::insert(&mut root, key.path, value);
        }
        let config: Result<Config, _> = Figment::from(Serialized::defaults(root)).extract();
        assert!(config.is_ok(), "{config:?}");
    }
}

#[test]
fn defaults_pass_their_own_validation() {
    let mut text = SMALLEST.replace(
        "[sink.kafka]",
        "sink.kafka.create_topics = true\n[sink.kafka]",
    );
    text = text.replace("sink.kafka.create_topics = true\n", "");
    for key in KEYS {
        if let Presence::Default(value) = key.presence {
            let variable = key.variable();
            let value = value.trim_matches('"');
            let text = match key.path.strip_prefix("source.mongodb.") {
                Some(_) => text
                    .replace("source.postgres", "source.mongodb")
                    .replace("postgres://", "mongodb://"),
                None => text.clone(),
            };
            load(&text, &[(&variable, value)])
                .unwrap_or_else(|error| panic!("{variable}: {error}"));
        }
    }
}
