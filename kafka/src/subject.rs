//! The name of a certificate as brokers call whoever shows it: RFC 2253, as Java's `X500Principal` writes it.

use openssl::nid::Nid;
use openssl::x509::X509Ref;

/// The attributes that have a keyword there.
const KEYWORDS: [(Nid, &str); 9] = [
    (Nid::COMMONNAME, "CN"),
    (Nid::COUNTRYNAME, "C"),
    (Nid::ORGANIZATIONNAME, "O"),
    (Nid::ORGANIZATIONALUNITNAME, "OU"),
    (Nid::LOCALITYNAME, "L"),
    (Nid::STATEORPROVINCENAME, "ST"),
    (Nid::STREETADDRESS, "STREET"),
    (Nid::DOMAINCOMPONENT, "DC"),
    (Nid::USERID, "UID"),
];

/// The subject of a certificate; `None` where it has an attribute without a keyword.
pub(crate) fn of(certificate: &X509Ref) -> Option<String> {
    let mut parts = Vec::new();
    for entry in certificate.subject_name().entries() {
        let nid = entry.object().nid();
        let (_, keyword) = KEYWORDS.iter().find(|(known, _)| *known == nid)?;
        let value = entry.data().to_string().ok()?;
        parts.push(format!("{keyword}={}", escaped(&value)));
    }
    // The most specific attribute comes last in a certificate and first in print.
    parts.reverse();
    Some(parts.join(","))
}

fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::new();
    for (index, letter) in value.chars().enumerate() {
        let special = match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => index == 0,
            ' ' => index == 0 || index == last,
            _ => false,
        };
        if special {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use openssl::x509::{X509, X509Name};

    use super::*;

    fn certificate(subject: &[(&str, &str)]) -> X509 {
        let mut name = X509Name::builder().unwrap();
        for (field, value) in subject {
            name.append_entry_by_text(field, value).unwrap();
        }
        let mut certificate = X509::builder().unwrap();
        certificate.set_subject_name(&name.build()).unwrap();
        certificate.build()
    }

    #[test]
    fn names_read_as_java_writes_them() {
        let plain = certificate(&[("C", "GB"), ("O", "Fares, Ltd"), ("CN", "rowbridge")]);
        let written = of(&plain);
        assert_eq!(written.as_deref(), Some("CN=rowbridge,O=Fares\\, Ltd,C=GB"));
        let unnamed = certificate(&[("CN", "rowbridge"), ("emailAddress", "a@b")]);
        assert_eq!(of(&unnamed), None);
    }
}
