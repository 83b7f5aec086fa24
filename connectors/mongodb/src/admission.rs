//! What keeps us out of the servers, in words that name the key that lets us in.
//!
//! The driver waits for a server that can be used and then tells in one line what each of them said, so what TLS
//! said is found there by its words (rustls, `Error` and `CertificateError`).

/// A problem of certificates: what it is, and what mends it.
pub(crate) fn of_tls(said: &str) -> Option<(&'static str, &'static str)> {
    let has = |words: &[&str]| words.iter().any(|words| said.contains(words));
    if !has(&["invalid peer certificate", "received fatal alert"]) {
        return None;
    }
    Some(if has(&["UnknownIssuer", "BadSignature"]) {
        (
            "the server's certificate was not signed by an authority that we trust",
            "set source.mongodb.ca_file to the PEM file of the authority that signed it; without it only public \
             authorities are trusted",
        )
    } else if has(&["not valid for name", "NotValidForName"]) {
        (
            "the server's certificate was issued to another name",
            "name the hosts in source.mongodb.url as their certificates do, and as the replica set's configuration does; \
             or have them issued to those names too (subjectAltName)",
        )
    } else if has(&["certificate expired", "Expired"]) {
        (
            "the server's certificate has expired",
            "put a new one into the server's net.tls.certificateKeyFile; db.adminCommand({ rotateCertificates: 1 }) lets the \
             server read it",
        )
    } else if has(&["received fatal alert"]) {
        (
            "the server does not accept our certificate, or wants one",
            "set source.mongodb.certificate_key_file to a certificate and its key that an authority in the server's \
             net.tls.CAFile signed",
        )
    } else {
        (
            "the server's certificate cannot be used",
            "put another one into the server's net.tls.certificateKeyFile: signed by an authority, with a subjectAltName",
        )
    })
}

/// What may have kept us out. A server that does not accept our certificate ends the connection without a word, as one
/// does that dies.
pub(crate) fn perhaps(said: &str) -> &'static str {
    if said.contains("without sending TLS close_notify") {
        ": a server ended the connection; it may want a certificate that an authority in its net.tls.CAFile signed, in \
         source.mongodb.certificate_key_file"
    } else {
        ""
    }
}

/// The servers know nobody of that name, or not with what was shown.
pub(crate) fn of_login(said: &str) -> &'static str {
    if said.contains("X509") {
        "the subject of the certificate in source.mongodb.certificate_key_file must be a user of the database $external: \
         db.getSiblingDB(\"$external\").runCommand({ createUser: \"CN=...\", roles: [] }), with the role that `rowbridge check` \
         prints"
    } else {
        "correct the user in source.mongodb.url, its password, and authSource: the database that holds the user"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server does not start with such a certificate: it expires while the server runs, which no test waits for.
    #[test]
    fn an_expired_certificate_is_the_servers_to_renew() {
        let said = "I/O error: invalid peer certificate: certificate expired: verification time 5 (UNIX), but certificate \
                    is not valid after 4 (1 seconds ago)";
        assert!(of_tls(said).is_some_and(|(_, hint)| hint.contains("rotateCertificates")));
    }

    #[test]
    fn what_is_no_problem_of_certificates_is_none() {
        for said in [
            "Server selection timeout: No available servers",
            "Kind: I/O error: Connection refused (os error 111)",
        ] {
            assert_eq!(of_tls(said), None, "{said}");
        }
    }
}
