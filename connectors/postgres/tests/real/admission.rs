//! TLS, certificates, passwords and pg_hba.conf: who is let in, and what is said to who is not.

use std::fs;
use std::path::PathBuf;

use rowbridge_api::{Source, SourceError, State};
use rowbridge_postgres::{ClientCertificate, Password, PostgresConfig, PostgresSource, TlsMode};
use rowbridge_testbed::certificates::{Authority, Issued};
use rowbridge_testbed::{PgVersion, Postgres};
use tempfile::TempDir;

const PASSWORD: &str = "first-s3cret";
const PASSPHRASE: &str = "passphrase-s3cret";

/// Who may come in: `app` by password and `badge` by certificate, both only inside TLS.
const LINES: [&str; 2] = [
    "hostssl all app all scram-sha-256",
    "hostssl all badge all cert",
];

/// A server whose certificate `authority` signed for `localhost`, and a folder for files of ours.
struct Stage {
    server: Postgres,
    authority: Authority,
    dir: TempDir,
}

impl Stage {
    async fn set() -> Self {
        let server = Postgres::start(PgVersion::V15).await.unwrap();
        let authority = Authority::new("the authority").unwrap();
        let certificate = authority.server(&["localhost"]).unwrap();
        server.use_tls(&certificate, &authority).await.unwrap();
        server.let_in(&LINES).await.unwrap();
        let stage = Self {
            server,
            authority,
            dir: TempDir::new().unwrap(),
        };
        stage.write("ca.pem", stage.authority.pem());
        for role in ["app", "badge"] {
            let create = format!("CREATE ROLE {role} LOGIN REPLICATION");
            stage.server.sql(&create).await.unwrap();
        }
        stage.set_password(PASSWORD).await;
        stage
    }

    async fn set_password(&self, password: &str) {
        let alter = format!("ALTER ROLE app PASSWORD '{password}'");
        self.server.sql(&alter).await.unwrap();
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// How `role` comes in, if nothing is wrong.
    fn role(&self, role: &str) -> PostgresConfig {
        let url = format!(
            "postgres://{role}@localhost:{}/postgres",
            self.server.port()
        );
        let mut config = PostgresConfig::from_url(&url).unwrap();
        config.ca_file = Some(self.dir.path().join("ca.pem"));
        config
    }

    fn app(&self) -> PostgresConfig {
        let mut config = self.role("app");
        config.password = Password::Literal(PASSWORD.to_owned());
        config
    }

    fn badge(&self, shown: &Issued) -> PostgresConfig {
        let mut config = self.role("badge");
        config.client_certificate = Some(ClientCertificate {
            certificate_file: self.write("client.pem", &shown.certificate),
            key_file: self.write("client.key", &shown.key),
        });
        config
    }
}

/// Changes a configuration.
fn with(mut config: PostgresConfig, change: impl FnOnce(&mut PostgresConfig)) -> PostgresConfig {
    change(&mut config);
    config
}

async fn is_let_in(config: &PostgresConfig, why: &str) {
    match PostgresSource::new(config.clone(), "admission").own().await {
        Ok(_) => {}
        Err(error) => panic!("{why}: {error}"),
    }
}

/// Refused with words about the problem and about the way out, by both kinds of session alike.
async fn is_refused(config: &PostgresConfig, problem: &str, hint: &str) {
    let mut source = PostgresSource::new(config.clone(), "admission");
    let by_walsender = source.own().await.map(drop);
    let by_session = source.check(&[]).await.map(drop);
    for (session, ended) in [("walsender", by_walsender), ("SQL", by_session)] {
        let Err(SourceError::Refused {
            state,
            problem: said,
            hint: way_out,
        }) = ended
        else {
            panic!("{session}: expected `{problem}`, not {ended:?}");
        };
        assert_eq!(state, State::Invalid);
        assert!(
            said.contains(problem),
            "{session}: `{problem}` is not in: {said}"
        );
        assert!(
            way_out.contains(hint),
            "{session}: `{hint}` is not in: {way_out} (for {said})"
        );
        assert!(
            !format!("{said}{way_out}").contains("s3cret"),
            "{session}: {said}; {way_out}"
        );
    }
}

#[tokio::test]
async fn certificates_of_the_server_are_judged_as_configured() {
    let stage = Stage::set().await;
    let app = stage.app();
    let by_address = with(app.clone(), |config| {
        let url = format!("postgres://app@127.0.0.1:{}/postgres", stage.server.port());
        config.address = PostgresConfig::from_url(&url).unwrap().address;
    });
    is_let_in(&app, "own authority, right name").await;
    is_refused(&by_address, "issued to another name", "subjectAltName").await;
    let any_name = with(by_address.clone(), |config| config.tls = TlsMode::VerifyCa);
    is_let_in(&any_name, "verify-ca takes any name").await;

    let stranger = Authority::new("a stranger").unwrap();
    let stranger = stage.write("stranger.pem", stranger.pem());
    let misled = with(app.clone(), |config| config.ca_file = Some(stranger));
    is_refused(
        &misled,
        "not signed by an authority in",
        "source.postgres.ca_file",
    )
    .await;
    let any_name = with(misled.clone(), |config| config.tls = TlsMode::VerifyCa);
    is_refused(
        &any_name,
        "not signed by an authority in",
        "source.postgres.ca_file",
    )
    .await;
    let believing = with(misled, |config| config.tls = TlsMode::Require);
    is_let_in(&believing, "require believes whoever answers").await;
    let of_the_system = with(app.clone(), |config| config.ca_file = None);
    is_refused(&of_the_system, "authorit", "source.postgres.ca_file").await;
    let garbage = stage.write("garbage.pem", "no certificate");
    let garbage = with(app.clone(), |config| config.ca_file = Some(garbage));
    is_refused(
        &garbage,
        "garbage.pem holds nothing usable",
        "source.postgres.ca_file",
    )
    .await;
    let absent = with(app.clone(), |config| {
        config.ca_file = Some("/nonexistent.pem".into());
    });
    is_refused(
        &absent,
        "cannot read the file of trusted authorities",
        "source.postgres.ca_file",
    )
    .await;

    let expired = stage.authority.expired_server(&["localhost"]).unwrap();
    stage
        .server
        .use_tls(&expired, &stage.authority)
        .await
        .unwrap();
    is_refused(&app, "has expired", "ssl_cert_file").await;
    let any_name = with(app.clone(), |config| config.tls = TlsMode::VerifyCa);
    is_refused(&any_name, "has expired", "ssl_cert_file").await;

    // TLS is one of the things that the server may not do at all.
    stage
        .server
        .sql("ALTER SYSTEM SET ssl = off")
        .await
        .unwrap();
    stage
        .server
        .let_in(&["host all app all scram-sha-256"])
        .await
        .unwrap();
    is_refused(&app, "does not offer TLS", "ssl = on").await;
    let plain = with(app, |config| config.tls = TlsMode::Disable);
    is_let_in(&plain, "plain text, as both sides want it").await;
}

#[tokio::test]
async fn client_certificates_are_shown_and_judged() {
    let stage = Stage::set().await;
    let own = stage.authority.client("badge").unwrap();
    is_let_in(&stage.badge(&own), "the role's certificate").await;
    is_refused(
        &stage.role("badge"),
        "client certificate",
        "source.postgres.client_cert_file",
    )
    .await;
    let of_another = stage.authority.client("somebody").unwrap();
    is_refused(
        &stage.badge(&of_another),
        "certificate authentication failed",
        "must be issued to CN=badge",
    )
    .await;
    let expired = stage.authority.expired_client("badge").unwrap();
    is_refused(
        &stage.badge(&expired),
        "does not accept the client certificate",
        "expired",
    )
    .await;
    let forged = Authority::new("the authority")
        .unwrap()
        .client("badge")
        .unwrap();
    is_refused(
        &stage.badge(&forged),
        "does not accept the client certificate",
        "ssl_ca_file",
    )
    .await;

    let mixed = Issued {
        certificate: own.certificate.clone(),
        key: of_another.key.clone(),
    };
    is_refused(
        &stage.badge(&mixed),
        "is not the key of the client certificate",
        "source.postgres.client_key_file",
    )
    .await;
    let locked = Issued {
        certificate: own.certificate.clone(),
        key: own.locked_key(stage.dir.path(), PASSPHRASE).await.unwrap(),
    };
    is_refused(
        &stage.badge(&locked),
        "passphrase",
        "source.postgres.client_key_file",
    )
    .await;
}

#[tokio::test]
async fn passwords_and_pg_hba_conf_say_what_is_missing() {
    let stage = Stage::set().await;
    let wrong = with(stage.app(), |config| {
        config.password = Password::Literal("other-s3cret".to_owned());
    });
    is_refused(
        &wrong,
        "password authentication failed",
        "correct source.postgres.password,",
    )
    .await;
    let file = stage.write("password", "other-s3cret\n");
    let wrong = with(stage.app(), |config| config.password = Password::File(file));
    is_refused(
        &wrong,
        "password authentication failed",
        "source.postgres.password_file",
    )
    .await;
    let absent = with(stage.app(), |config| {
        config.password = Password::File("/nonexistent/password".into());
    });
    is_refused(
        &absent,
        "cannot read the password file",
        "source.postgres.password_file",
    )
    .await;
    let none = with(stage.app(), |config| config.password = Password::None);
    is_refused(
        &none,
        "wants a password for `app`",
        "source.postgres.password_file",
    )
    .await;
    let plain = with(stage.app(), |config| config.tls = TlsMode::Disable);
    is_refused(&plain, "no encryption", "source.postgres.tls").await;
    let uninvited = stage.role("uninvited");
    is_refused(
        &uninvited,
        "pg_hba.conf",
        "hostssl postgres uninvited ADDRESS",
    )
    .await;
    let unknown = with(stage.role("unknown"), |config| {
        config.user = "app2".to_owned();
    });
    stage
        .server
        .let_in(&["hostssl all app2 all trust"])
        .await
        .unwrap();
    is_refused(&unknown, "does not exist", "CREATE ROLE").await;
}

/// Owning anew is what every session of the pipeline begins with.
async fn own_again(source: &mut PostgresSource) -> Result<(), String> {
    match source.own().await {
        Ok(_) => Ok(()),
        Err(SourceError::Transient { problem, .. }) => Err(problem),
        Err(refused) => panic!("a running source must not be refused: {refused}"),
    }
}

#[tokio::test]
async fn what_is_rotated_under_a_running_source_is_waited_for_and_read_again() {
    let stage = Stage::set().await;
    let file = stage.write("password", PASSWORD);
    let config = with(stage.app(), |config| {
        config.password = Password::File(file.clone());
    });
    let mut source = PostgresSource::new(config.clone(), "rotation");
    own_again(&mut source).await.unwrap();

    // The password, the server first and then our file.
    stage.set_password("second-s3cret").await;
    let said = own_again(&mut source).await.unwrap_err();
    assert!(said.contains("password authentication failed"), "{said}");
    assert!(said.contains("source.postgres.password_file"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    fs::remove_file(&file).unwrap();
    let said = own_again(&mut source).await.unwrap_err();
    assert!(said.contains("cannot read the password file"), "{said}");
    stage.write("password", "second-s3cret\n");
    own_again(&mut source).await.unwrap();

    // The authority and with it the server's certificate.
    let next = Authority::new("the next authority").unwrap();
    let certificate = next.server(&["localhost"]).unwrap();
    stage.server.use_tls(&certificate, &next).await.unwrap();
    let said = own_again(&mut source).await.unwrap_err();
    assert!(said.contains("source.postgres.ca_file"), "{said}");
    stage.write("ca.pem", next.pem());
    own_again(&mut source).await.unwrap();

    // pg_hba.conf.
    stage
        .server
        .let_in(&["host all app all reject"])
        .await
        .unwrap();
    let said = own_again(&mut source).await.unwrap_err();
    assert!(said.contains("pg_hba.conf"), "{said}");
    stage.server.let_in(&LINES).await.unwrap();
    own_again(&mut source).await.unwrap();

    // A process that starts with the old password has a mistake to correct.
    stage.write("password", PASSWORD);
    is_refused(
        &config,
        "password authentication failed",
        "source.postgres.password_file",
    )
    .await;
}
