//! TLS to the server, by rustls with the ring provider.
//!
//! PostgreSQL's modes do not map one to one onto rustls, whose default is `verify-full`: `verify-ca` is the
//! same check with a wrong name forgiven, `require` encrypts for whoever answers. Channel binding is not
//! used; SCRAM runs inside the TLS channel.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::config::{ConfigError, ConfigFile, PostgresConfig, TlsMode, read_file};

/// How a key that needs a passphrase begins (RFC 7468, section 11; older OpenSSL says it in a header).
const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// The TLS settings of `config`, or nothing if TLS is off.
pub(crate) fn client_config(
    config: &PostgresConfig,
) -> Result<Option<Arc<ClientConfig>>, ConfigError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match config.tls {
        TlsMode::Disable => return Ok(None),
        TlsMode::Require => Arc::new(Unverified(Arc::clone(&provider))),
        TlsMode::VerifyCa => Arc::new(AnyName(web_pki(config, &provider)?)),
        TlsMode::VerifyFull => web_pki(config, &provider)?,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let tls = match &config.client_certificate {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let pem = read_file(ConfigFile::ClientCertificate, &client.certificate_file)?;
            let chain = certificates(
                ConfigFile::ClientCertificate,
                &client.certificate_file,
                &pem,
            )?;
            let pem = read_file(ConfigFile::ClientKey, &client.key_file)?;
            let unusable = |problem: String| ConfigError::Pem {
                file: ConfigFile::ClientKey,
                path: client.key_file.clone(),
                problem,
            };
            let key = private_key(&pem).map_err(unusable)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| match error {
                    Error::InconsistentKeys(_) => {
                        unusable("it is not the key of the client certificate".to_owned())
                    }
                    error => unusable(error.to_string()),
                })?
        }
    };
    Ok(Some(Arc::new(tls)))
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| {
        if pem.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) {
            "it is locked by a passphrase; unlock it with `openssl pkey`, and keep the file to yourself"
                .to_owned()
        } else {
            error.to_string()
        }
    })
}

fn web_pki(
    config: &PostgresConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, ConfigError> {
    let mut roots = RootCertStore::empty();
    let found = match &config.ca_file {
        Some(path) => {
            let pem = read_file(ConfigFile::Authorities, path)?;
            certificates(ConfigFile::Authorities, path, &pem)?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(found);
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| match &config.ca_file {
            Some(path) => ConfigError::Pem {
                file: ConfigFile::Authorities,
                path: path.clone(),
                problem: error.to_string(),
            },
            None => ConfigError::NoAuthorities(error.to_string()),
        })
}

fn certificates(
    file: ConfigFile,
    path: &std::path::Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let problem = match found {
        Ok(found) if !found.is_empty() => return Ok(found),
        Ok(_) => "no certificate in it".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(ConfigError::Pem {
        file,
        path: path.to_owned(),
        problem,
    })
}

/// `require`: whoever answers is believed. The handshake's signatures are still checked, so that the peer
/// at least owns the certificate it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// `verify-ca`: the chain is checked first, then the name; only a wrong name is forgiven.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict =
            self.0
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
