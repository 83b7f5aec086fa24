//! Certificates for servers and clients of tests, made on the spot: an authority, what it signs, and what has expired.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tokio::process::Command;

/// Signs certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its private key, both PEM; the key is PKCS#8.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// An authority that nobody trusts yet.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// Its own certificate, which those who trust it have in a file.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's certificate for these DNS names and addresses.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn server(&self, hosts: &[&str]) -> Result<Issued> {
        self.sign(&server_params(hosts)?)
    }

    /// As [`Authority::server`], valid until the end of 2020.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn expired_server(&self, hosts: &[&str]) -> Result<Issued> {
        self.sign(&expired(server_params(hosts)?))
    }

    /// A client's certificate, issued to this common name.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn client(&self, name: &str) -> Result<Issued> {
        self.sign(&client_params(name))
    }

    /// As [`Authority::client`], valid until the end of 2020.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn expired_client(&self, name: &str) -> Result<Issued> {
        self.sign(&expired(client_params(name)))
    }

    fn sign(&self, params: &CertificateParams) -> Result<Issued> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued {
            certificate,
            key: key.serialize_pem(),
        })
    }
}

impl Issued {
    /// The key behind a passphrase, by `openssl`.
    ///
    /// # Errors
    /// When `openssl` is not there.
    pub async fn locked_key(&self, dir: &Path, passphrase: &str) -> Result<String> {
        let plain = dir.join("plain.key");
        std::fs::write(&plain, &self.key)?;
        let output = Command::new("openssl")
            .args([
                "pkcs8",
                "-topk8",
                "-v2",
                "aes-256-cbc",
                "-passout",
                "env:PASSPHRASE",
                "-in",
            ])
            .arg(&plain)
            .env("PASSPHRASE", passphrase)
            .stdin(Stdio::null())
            .output()
            .await
            .context("running openssl: install the Debian package openssl")?;
        std::fs::remove_file(&plain)?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }
}

fn server_params(hosts: &[&str]) -> Result<CertificateParams> {
    let names: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn client_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2020, 12, 31);
    params
}
