//! A MongoDB deployment, or one database of it.

use rowbridge_api::Password;
use rowbridge_mongodb::MongoConfig;

use super::super::super::args::InitArgs;
use super::super::super::peers;
use super::{Database, PasswordFrom, Settings, absolute};
use crate::config::{Config, MongoDbSettings};
use crate::init::{Connection, SourceKind};
use crate::refusal::Refusal;

/// Options of a URL that hold a secret, in lower case.
const SECRET_OPTIONS: [&str; 3] = [
    "authmechanismproperties",
    "tlscertificatekeyfilepassword",
    "proxypassword",
];

pub(super) fn is_url(url: &str) -> bool {
    url.starts_with("mongodb://") || url.starts_with("mongodb+srv://")
}

/// The database of a URL.
pub(super) fn named(url: &str, args: &InitArgs) -> anyhow::Result<Database> {
    if args.tls.is_some() {
        let problem =
            "--tls is for PostgreSQL: the URL of MongoDB says how the connection is protected";
        return Err(Refusal::invalid(problem, "?tls=true in the URL, or --ca-file").into());
    }
    let mut mongodb = MongoConfig::new(url);
    let (written, secrets) = without_secrets(url);
    let mut password = match secrets {
        Secrets::Some => PasswordFrom::NotCopied,
        Secrets::None => PasswordFrom::Elsewhere,
    };
    if let Ok(secret) = std::env::var(SourceKind::MongoDb.password_variable()) {
        mongodb.password = Password::Literal(secret);
        password = PasswordFrom::Elsewhere;
    }
    if let Some(file) = &args.password_file {
        mongodb.password = Password::File(file.clone());
        password = PasswordFrom::Elsewhere;
    }
    mongodb.ca_file.clone_from(&args.ca_file);
    let files = [
        ("password_file", args.password_file.as_ref()),
        ("ca_file", args.ca_file.as_ref()),
    ];
    Ok(database(mongodb, written, absolute(files)?, password))
}

/// The database of a configuration.
pub(super) fn configured(config: &Config, settings: &MongoDbSettings) -> anyhow::Result<Database> {
    let mongodb = peers::mongodb(config, settings);
    let (written, secrets) = without_secrets(&mongodb.url);
    let is_in_environment = std::env::var_os(SourceKind::MongoDb.password_variable()).is_some();
    let password = match (&mongodb.password, secrets) {
        (Password::Literal(_), _) if !is_in_environment => PasswordFrom::NotCopied,
        (Password::None, Secrets::Some) => PasswordFrom::NotCopied,
        _ => PasswordFrom::Elsewhere,
    };
    let files = [
        ("password_file", settings.password_file.as_ref()),
        ("ca_file", settings.ca_file.as_ref()),
        (
            "certificate_key_file",
            settings.certificate_key_file.as_ref(),
        ),
    ];
    Ok(database(mongodb, written, absolute(files)?, password))
}

fn database(
    mongodb: MongoConfig,
    url: String,
    files: Vec<(String, String)>,
    password: PasswordFrom,
) -> Database {
    Database {
        connection: Connection {
            kind: SourceKind::MongoDb,
            url,
            tls: None,
            files,
            brokers: None,
            properties: Vec::new(),
        },
        settings: Settings::MongoDb(mongodb),
        given: None,
        password,
    }
}

/// Whether a URL had any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secrets {
    Some,
    None,
}

/// The URL without its password and the options that hold secrets.
fn without_secrets(url: &str) -> (String, Secrets) {
    let mut secrets = Secrets::None;
    let (scheme, rest) = url.split_once("://").unwrap_or(("mongodb", url));
    // A password that is not escaped may hold any of the characters that end it.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((login, rest)) => {
            let user = match login.split_once(':') {
                Some((user, _)) => {
                    secrets = Secrets::Some;
                    user
                }
                None => login,
            };
            (format!("{user}@"), rest)
        }
        None => (String::new(), rest),
    };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let options: Vec<&str> = query
        .split('&')
        .filter(|option| {
            let name = option.split('=').next().unwrap_or_default();
            let is_secret = SECRET_OPTIONS.contains(&name.to_ascii_lowercase().as_str());
            if is_secret {
                secrets = Secrets::Some;
            }
            !option.is_empty() && !is_secret
        })
        .collect();
    let query = match options.as_slice() {
        [] => String::new(),
        options => format!("?{}", options.join("&")),
    };
    (format!("{scheme}://{user}{place}{query}"), secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_written_without_its_secrets() {
        for (url, written, secrets) in [
            (
                "mongodb://app:hunter2@a:27017,b:27018/shop?replicaSet=rs0&authSource=admin",
                "mongodb://app@a:27017,b:27018/shop?replicaSet=rs0&authSource=admin",
                Secrets::Some,
            ),
            (
                "mongodb+srv://app:hun:t@er/2@cluster.example/?tlsCertificateKeyFilePassword=x&w=1",
                "mongodb+srv://app@cluster.example/?w=1",
                Secrets::Some,
            ),
            (
                "mongodb://db/?authMechanismProperties=AWS_SESSION_TOKEN:x",
                "mongodb://db/",
                Secrets::Some,
            ),
            ("mongodb://app@db", "mongodb://app@db", Secrets::None),
            ("mongodb://db/shop", "mongodb://db/shop", Secrets::None),
        ] {
            assert_eq!(without_secrets(url), (written.to_owned(), secrets), "{url}");
        }
    }
}
