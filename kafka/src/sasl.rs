//! The client's side of SASL: PLAIN (RFC 4616) and SCRAM (RFC 5802).
//!
//! Pure: the caller carries the messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use openssl::error::ErrorStack;
use openssl::hash::{MessageDigest, hash};
use openssl::memcmp;
use openssl::pkcs5::pbkdf2_hmac;
use openssl::pkey::PKey;
use openssl::rand::rand_bytes;
use openssl::sign::Signer;

use crate::settings::{Login, Mechanism};

/// Bytes of our nonce.
const NONCE_BYTES: usize = 18;
/// Rounds that a broker may ask for: fewer are refused as Kafka does, more would keep us busy for minutes.
const ROUNDS: std::ops::RangeInclusive<usize> = 4096..=1_000_000;

/// Message of PLAIN.
pub(crate) fn plain(login: &Login) -> Vec<u8> {
    format!("\0{}\0{}", login.user, login.password).into_bytes()
}

/// A SCRAM exchange whose first message was sent.
pub(crate) struct Scram<'a> {
    login: &'a Login,
    digest: MessageDigest,
    nonce: String,
    first_bare: String,
}

/// A SCRAM exchange whose proof was sent: the broker has to prove that it knows the password too.
pub(crate) struct Proven {
    signature: Vec<u8>,
}

/// Channel binding: the client does not support it.
const GS2_HEADER: &str = "n,,";

impl<'a> Scram<'a> {
    /// Starts an exchange.
    pub(crate) fn start(login: &'a Login) -> Result<(Self, Vec<u8>), String> {
        let mut random = [0; NONCE_BYTES];
        rand_bytes(&mut random).map_err(|error| error.to_string())?;
        Ok(Self::with_nonce(login, BASE64.encode(random)))
    }

    fn with_nonce(login: &'a Login, nonce: String) -> (Self, Vec<u8>) {
        let user = login.user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        let message = format!("{GS2_HEADER}{first_bare}").into_bytes();
        let digest = match login.mechanism {
            Mechanism::ScramSha512 => MessageDigest::sha512(),
            Mechanism::ScramSha256 | Mechanism::Plain => MessageDigest::sha256(),
        };
        let scram = Self {
            login,
            digest,
            nonce,
            first_bare,
        };
        (scram, message)
    }

    /// Answers the broker's first message with the proof that we know the password.
    pub(crate) fn prove(self, server_first: &[u8]) -> Result<(Proven, Vec<u8>), String> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| malformed())?;
        let nonce = attribute(server_first, 'r').ok_or_else(malformed)?;
        let salt = attribute(server_first, 's').ok_or_else(malformed)?;
        let rounds = attribute(server_first, 'i').ok_or_else(malformed)?;
        if !nonce.starts_with(&self.nonce) {
            return Err("the broker's nonce does not continue ours".to_owned());
        }
        let salt = BASE64.decode(salt).map_err(|_| malformed())?;
        let rounds: usize = rounds.parse().map_err(|_| malformed())?;
        if !ROUNDS.contains(&rounds) {
            return Err(format!("the broker asks for {rounds} rounds of hashing"));
        }
        let without_proof = format!("c={},r={nonce}", BASE64.encode(GS2_HEADER));
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let (proof, signature) = self
            .proof(&salt, rounds, signed.as_bytes())
            .map_err(|error| error.to_string())?;
        let message = format!("{without_proof},p={}", BASE64.encode(proof));
        Ok((Proven { signature }, message.into_bytes()))
    }

    /// The client's proof and the server's signature (RFC 5802, section 3).
    fn proof(
        &self,
        salt: &[u8],
        rounds: usize,
        signed: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), ErrorStack> {
        let digest = self.digest;
        let mut salted = vec![0; digest.size()];
        let password = self.login.password.as_bytes();
        pbkdf2_hmac(password, salt, rounds, digest, &mut salted)?;
        let client_key = hmac(digest, &salted, b"Client Key")?;
        let stored_key = hash(digest, &client_key)?;
        let client_signature = hmac(digest, &stored_key, signed)?;
        let proof = client_key
            .iter()
            .zip(client_signature)
            .map(|(key, signature)| key ^ signature)
            .collect();
        let server_key = hmac(digest, &salted, b"Server Key")?;
        Ok((proof, hmac(digest, &server_key, signed)?))
    }
}

impl Proven {
    /// Checks the broker's last message.
    pub(crate) fn accept(&self, server_final: &[u8]) -> Result<(), String> {
        let server_final = std::str::from_utf8(server_final).map_err(|_| malformed())?;
        if let Some(error) = attribute(server_final, 'e') {
            return Err(format!("the broker refuses the login: {error}"));
        }
        let signature = attribute(server_final, 'v').ok_or_else(malformed)?;
        let signature = BASE64.decode(signature).map_err(|_| malformed())?;
        if signature.len() != self.signature.len() || !memcmp::eq(&signature, &self.signature) {
            return Err("the broker does not know the password".to_owned());
        }
        Ok(())
    }
}

fn hmac(digest: MessageDigest, key: &[u8], message: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::hmac(key)?;
    Signer::new(digest, &key)?.sign_oneshot_to_vec(message)
}

/// The value of `name=value` in a comma separated message.
fn attribute(message: &str, name: char) -> Option<&str> {
    message
        .split(',')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn malformed() -> String {
    "the broker's part of the login is not SCRAM".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            mechanism: Mechanism::ScramSha256,
            user: "user".to_owned(),
            password: "pencil".to_owned(),
        }
    }

    /// RFC 7677, section 3.
    #[test]
    fn speaks_as_the_rfc_does() {
        let login = login();
        let (scram, first) = Scram::with_nonce(&login, "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server_first =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (proven, last) = scram.prove(server_first).unwrap();
        assert_eq!(
            String::from_utf8(last).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let server_final = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(proven.accept(server_final), Ok(()));
        assert!(proven.accept(b"v=AAAA").is_err());
        assert!(proven.accept(b"e=other-error").is_err());
    }

    #[test]
    fn a_broker_that_does_not_continue_our_nonce_or_asks_for_too_little_is_refused() {
        let login = login();
        for answer in [
            "r=other,s=W22Z,i=4096",
            "r=abcd,s=W22Z,i=1",
            "r=abcd,s=W22Z,i=99999999",
            "r=abcd,i=4096",
            "",
        ] {
            let (scram, _) = Scram::with_nonce(&login, "abc".to_owned());
            assert!(scram.prove(answer.as_bytes()).is_err(), "{answer}");
        }
    }

    #[test]
    fn a_comma_in_a_name_is_escaped() {
        let login = Login {
            user: "a,b=c".to_owned(),
            ..login()
        };
        let (_, first) = Scram::with_nonce(&login, "abc".to_owned());
        assert_eq!(first, b"n,,n=a=2Cb=3Dc,r=abc");
    }
}
