//! TLS as librdkafka's `ssl.*` properties describe it, by the same library.

use std::fs;
use std::net::{IpAddr, TcpStream};
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;
use openssl::ssl::{
    HandshakeError, SslConnector, SslConnectorBuilder, SslMethod, SslStream, SslVerifyMode,
};
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509VerifyResult};

use crate::settings::{Properties, SettingError};
use crate::subject;
use crate::{Barrier, Error};

/// Verdicts on a certificate, as OpenSSL's x509_vfy.h numbers them.
const NOT_YET_VALID: i32 = 9;
const HAS_EXPIRED: i32 = 10;
const HOST_NAME_MISMATCH: i32 = 62;
const ADDRESS_MISMATCH: i32 = 64;

/// A client's side of TLS, ready to connect.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: SslConnector,
    verify_host: bool,
    /// How brokers call us by our certificate; `None` where it has a name that only they know.
    pub(crate) subject: Option<String>,
}

impl Tls {
    /// # Errors
    /// A property names a file that cannot be read, or holds what TLS does not take. Secrets never show.
    pub(crate) fn of(properties: &Properties<'_>) -> Result<Self, SettingError> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())
            .map_err(|error| failed("security.protocol", &error))?;
        trust(&mut builder, properties)?;
        identify(&mut builder, properties)?;
        if let Some(suites) = properties.get("ssl.cipher.suites") {
            let set = builder.set_cipher_list(suites);
            set.map_err(|error| failed("ssl.cipher.suites", &error))?;
        }
        if let Some(curves) = properties.get("ssl.curves.list") {
            let set = builder.set_groups_list(curves);
            set.map_err(|error| failed("ssl.curves.list", &error))?;
        }
        if let Some(algorithms) = properties.get("ssl.sigalgs.list") {
            let set = builder.set_sigalgs_list(algorithms);
            set.map_err(|error| failed("ssl.sigalgs.list", &error))?;
        }
        if !properties.flag("enable.ssl.certificate.verification", true)? {
            builder.set_verify(SslVerifyMode::NONE);
        }
        let algorithm = properties.get("ssl.endpoint.identification.algorithm");
        let connector = builder.build();
        Ok(Self {
            subject: match connector.context().certificate() {
                Some(certificate) => subject::of(certificate),
                None => Some("ANONYMOUS".to_owned()),
            },
            connector,
            verify_host: algorithm.unwrap_or("https") == "https",
        })
    }

    /// Speaks TLS on a connection to `host`.
    pub(crate) fn connect(
        &self,
        host: &str,
        peer: &str,
        stream: TcpStream,
    ) -> Result<SslStream<TcpStream>, Error> {
        let barred = |why| Error::Login {
            peer: peer.to_owned(),
            why,
        };
        let mut configured = self
            .connector
            .configure()
            .map_err(|error| barred(Barrier::Tls(reasons(&error))))?;
        configured.set_verify_hostname(self.verify_host);
        // An address is no server name (RFC 6066, section 3).
        configured.set_use_server_name_indication(host.parse::<IpAddr>().is_err());
        configured
            .connect(host, stream)
            .map_err(|error| match error {
                HandshakeError::Failure(failure) => {
                    let verdict = failure.ssl().verify_result();
                    if verdict != X509VerifyResult::OK {
                        return barred(distrusted(verdict, host));
                    }
                    match failure.error().ssl_error() {
                        Some(error) if !hung_up(error) => barred(barrier(error)),
                        _ => Error::Link {
                            peer: peer.to_owned(),
                            problem: "the broker closed the connection".to_owned(),
                        },
                    }
                }
                HandshakeError::WouldBlock(_) => Error::Late {
                    peer: peer.to_owned(),
                    what: "speaking TLS",
                },
                HandshakeError::SetupFailure(error) => barred(Barrier::Tls(reasons(&error))),
            })
    }
}

/// Why we do not believe the broker's certificate.
fn distrusted(verdict: X509VerifyResult, host: &str) -> Barrier {
    let words = verdict.error_string().to_owned();
    match verdict.as_raw() {
        HOST_NAME_MISMATCH | ADDRESS_MISMATCH => Barrier::HostName(host.to_owned()),
        NOT_YET_VALID | HAS_EXPIRED => Barrier::Expired(words),
        _ => Barrier::Authority(words),
    }
}

/// What a TLS error says, of the handshake or of the broker afterwards: in TLS 1.3 a client learns what the broker
/// thinks of its certificate only when it reads.
pub(crate) fn barrier(error: &ErrorStack) -> Barrier {
    let words = reasons(error);
    // As RFC 8446 names the alerts, section 6.2, in OpenSSL's spelling.
    let about_us = words.contains("alert")
        && ["certificate", "unknown ca"]
            .iter()
            .any(|part| words.contains(part));
    if about_us {
        Barrier::OwnCertificate(words)
    } else {
        Barrier::Tls(words)
    }
}

/// Whom to trust: the properties' certificates, or else the system's.
fn trust(
    builder: &mut SslConnectorBuilder,
    properties: &Properties<'_>,
) -> Result<(), SettingError> {
    if let Some(pem) = properties.get("ssl.ca.pem") {
        let store = builder.cert_store_mut();
        let added = X509::stack_from_pem(pem.as_bytes()).and_then(|certificates| {
            certificates
                .into_iter()
                .try_for_each(|certificate| store.add_cert(certificate))
        });
        added.map_err(|error| failed("ssl.ca.pem", &error))?;
    } else if let Some(path) = properties
        .get("ssl.ca.location")
        .filter(|path| *path != "probe")
    {
        let folder = Path::new(path).is_dir();
        let (file, folder) = if folder {
            (None, Some(Path::new(path)))
        } else {
            (Some(Path::new(path)), None)
        };
        builder
            .load_verify_locations(file, folder)
            .map_err(|error| failed("ssl.ca.location", &error))?;
    } else {
        builder
            .set_default_verify_paths()
            .map_err(|error| failed("ssl.ca.location", &error))?;
    }
    if let Some(path) = properties.get("ssl.crl.location") {
        builder
            .load_verify_locations(Some(Path::new(path)), None)
            .and_then(|()| {
                builder
                    .verify_param_mut()
                    .set_flags(X509VerifyFlags::CRL_CHECK)
            })
            .map_err(|error| failed("ssl.crl.location", &error))?;
    }
    Ok(())
}

/// Who we are, where brokers ask: a certificate with its key.
fn identify(
    builder: &mut SslConnectorBuilder,
    properties: &Properties<'_>,
) -> Result<(), SettingError> {
    if let Some(path) = properties.get("ssl.keystore.location") {
        let stored = read("ssl.keystore.location", path)?;
        let password = properties.get("ssl.keystore.password").unwrap_or_default();
        return Pkcs12::from_der(&stored)
            .and_then(|store| store.parse2(password))
            .and_then(|identity| {
                if let Some(certificate) = &identity.cert {
                    builder.set_certificate(certificate)?;
                }
                for signer in identity.ca.into_iter().flatten() {
                    builder.add_extra_chain_cert(signer)?;
                }
                identity
                    .pkey
                    .map_or(Ok(()), |key| builder.set_private_key(&key))
            })
            .map_err(|error| failed("ssl.keystore.location", &error));
    }
    if let Some((name, pem)) = pem_of(
        properties,
        "ssl.certificate.location",
        "ssl.certificate.pem",
    )? {
        let chain = X509::stack_from_pem(&pem).map_err(|error| failed(name, &error))?;
        for (index, certificate) in chain.into_iter().enumerate() {
            let set = match index {
                0 => builder.set_certificate(&certificate),
                _ => builder.add_extra_chain_cert(certificate),
            };
            set.map_err(|error| failed(name, &error))?;
        }
    }
    if let Some((name, pem)) = pem_of(properties, "ssl.key.location", "ssl.key.pem")? {
        let password = properties.get("ssl.key.password").unwrap_or_default();
        PKey::private_key_from_pem_passphrase(&pem, password.as_bytes())
            .and_then(|key| builder.set_private_key(&key))
            .map_err(|error| failed(name, &error))?;
    }
    Ok(())
}

/// The PEM that one of two properties gives, and which.
fn pem_of(
    properties: &Properties<'_>,
    location: &'static str,
    inline: &'static str,
) -> Result<Option<(&'static str, Vec<u8>)>, SettingError> {
    if let Some(pem) = properties.get(inline) {
        return Ok(Some((inline, pem.as_bytes().to_vec())));
    }
    properties
        .get(location)
        .map(|path| Ok((location, read(location, path)?)))
        .transpose()
}

fn read(name: &'static str, path: &str) -> Result<Vec<u8>, SettingError> {
    fs::read(path).map_err(|error| SettingError {
        name: name.to_owned(),
        problem: format!("{path}: {error}"),
    })
}

/// Whether the other side ended the connection without a word of TLS.
fn hung_up(error: &ErrorStack) -> bool {
    reasons(error).contains("unexpected eof")
}

/// A setting that TLS does not take, and why.
fn failed(name: &str, error: &ErrorStack) -> SettingError {
    SettingError {
        name: name.to_owned(),
        problem: format!("TLS does not take it: {}", reasons(error)),
    }
}

/// What OpenSSL said, in its own words: they name what it expected and never what it was given.
fn reasons(error: &ErrorStack) -> String {
    let reasons: Vec<&str> = error
        .errors()
        .iter()
        .filter_map(|error| error.reason())
        .collect();
    match reasons.is_empty() {
        true => "no reason is known".to_owned(),
        false => reasons.join(", "),
    }
}
