//! What looks personal by its name. Lists of English words, and never more than a guess.

use rowbridge_api::Kind;

use crate::words::{one_of, words};

const PERSONAL: &[&str] = &[
    "email",
    "mail",
    "phone",
    "telephone",
    "tel",
    "mobile",
    "fax",
    "msisdn",
    "passport",
    "ssn",
    "nin",
    "birth",
    "birthday",
    "birthdate",
    "dob",
    "iban",
    "bic",
    "card",
    "pan",
    "cvv",
    "cvc",
    "cardholder",
    "street",
    "address",
    "addr",
    "zip",
    "postcode",
    "postal",
    "gender",
    "sex",
    "nationality",
    "religion",
    "ethnicity",
    "salary",
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "salt",
    "pin",
    "surname",
    "firstname",
    "lastname",
    "fullname",
    "forename",
    "nickname",
    "username",
    "login",
    "maiden",
    "licence",
    "license",
    "photo",
    "signature",
    "biometric",
    "ip",
    "device",
    "fingerprint",
    "holder",
    "national",
    "tax",
    "vat",
    "disability",
    "medical",
    "diagnosis",
    "allergy",
    "allergies",
];
/// Beside `name`: of a person.
const NAME_OF_A_PERSON: &[&str] = &[
    "given",
    "family",
    "first",
    "last",
    "middle",
    "full",
    "user",
    "customer",
    "guest",
    "passenger",
    "contact",
    "owner",
    "holder",
    "person",
    "employee",
    "patient",
    "driver",
    "traveller",
    "traveler",
    "display",
    "legal",
    "billing",
    "recipient",
    "sender",
    "agent",
    "client",
    "member",
    "lead",
];
const PEOPLE: &[&str] = &[
    "user",
    "customer",
    "guest",
    "passenger",
    "contact",
    "person",
    "employee",
    "patient",
    "driver",
    "traveller",
    "traveler",
    "client",
    "member",
    "account",
    "agent",
    "staff",
    "profile",
    "subscriber",
    "student",
    "participant",
];

/// Words of [`PERSONAL`] that name other things as often.
const DOUBTFUL: &[&str] = &[
    "tax", "vat", "device", "national", "license", "licence", "token", "pin", "pan", "bic", "salt",
];
/// Names that people write in one word.
const ONE_WORD: &[&str] = &[
    "dateofbirth",
    "passportno",
    "passportnumber",
    "emailaddress",
    "phonenumber",
    "mobilephone",
    "cellphone",
    "creditcard",
    "cardnumber",
    "cardno",
    "familyname",
    "givenname",
];
/// Behind a personal word: something about it that names nobody.
const SAYS_LITTLE: &[&str] = &[
    "type", "class", "method", "brand", "verified", "id", "hash", "country", "at", "count",
    "status", "state", "currency", "kind", "version", "language",
];
const BIRTH: &[&str] = &["birth", "birthday", "birthdate", "dob", "dateofbirth"];

/// Whether one of `words` is in `list`.
pub(crate) fn has(words: &[String], list: &[&str]) -> bool {
    words.iter().any(|word| list.contains(&word.as_str()))
}

/// Whether a table holds people.
pub(crate) fn is_of_people(table: &str) -> bool {
    has(&one_of(table), PEOPLE)
}

/// Whether it names a person.
pub(crate) fn is_name(words: &[String], is_of_people: bool) -> bool {
    words.last().is_some_and(|last| last == "name")
        && (words.len() == 1 && is_of_people || has(words, NAME_OF_A_PERSON))
}

/// Whether it may be personal: better too often than once too few.
pub(crate) fn is_personal(words: &[String], kind: &Kind) -> bool {
    // Whether an e-mail was sent, or how much tax is due, names nobody.
    let is_amount = matches!(kind, Kind::Decimal | Kind::Float);
    let says_little = *kind == Kind::Bool
        || is_amount && !has(words, &["salary"])
        || words.last().is_some_and(|last| {
            ["count", "status", "state", "currency", "kind"].contains(&last.as_str())
        });
    !says_little && has(words, PERSONAL)
}

/// Whether it is personal as far as a name can tell: seldom wrong. `path` is a column and what follows inside a
/// document; `kind` is that of what is read.
pub(crate) fn is_surely_personal(table: &str, path: &[&str], kind: &Kind) -> bool {
    let words: Vec<String> = path.iter().flat_map(|name| words(name)).collect();
    if has(&words, BIRTH) {
        return *kind != Kind::Bool;
    }
    let is_text = matches!(
        kind,
        Kind::Text | Kind::Char | Kind::Int | Kind::Json | Kind::Array(_) | Kind::Composite(_)
    );
    let says_little = words
        .last()
        .is_some_and(|last| SAYS_LITTLE.contains(&last.as_str()));
    if !is_text || says_little {
        return false;
    }
    let in_a_name = words.windows(2).any(|pair| {
        pair[0] == "name"
            && ["given", "family", "first", "last", "middle", "full"].contains(&&*pair[1])
    });
    let certain: Vec<String> = words
        .iter()
        .filter(|word| !DOUBTFUL.contains(&word.as_str()))
        .cloned()
        .collect();
    in_a_name
        || is_name(&words, is_of_people(table))
        || is_personal(&certain, kind)
        || has(&words, ONE_WORD)
}

#[cfg(test)]
mod tests {
    use rowbridge_api::Type;

    use super::*;

    fn surely(path: &str, ty: &str) -> bool {
        let path: Vec<&str> = path.split('.').collect();
        is_surely_personal("booking", &path, &Type::parse(ty).kind)
    }

    #[test]
    fn personal_names_are_known_in_several_spellings() {
        for (path, ty) in [
            ("contact_email", "text"),
            ("ContactEMail", "text"),
            ("email_address", "text"),
            ("phoneNumber", "text"),
            ("mobile", "int8"),
            ("passport_no", "char(9)"),
            ("PassportNumber", "text"),
            ("birth_date", "date"),
            ("dateofbirth", "text"),
            ("DOB", "date"),
            ("iban", "text"),
            ("card_number", "text"),
            ("creditcard", "text"),
            ("street", "text"),
            ("billing_address", "row(street text)"),
            ("passenger_name", "text"),
            ("first_name", "text"),
            ("surname", "text"),
            ("guest.name.family", "jsonb"),
            ("guest.contact.email", "jsonb"),
            ("ip_address", "inet"),
        ] {
            assert!(surely(path, ty), "{path}");
        }
        assert!(is_surely_personal("passengers", &["name"], &Kind::Text));
    }

    #[test]
    fn other_names_raise_no_alarm() {
        for (path, ty) in [
            ("name", "text"),
            ("route_name", "text"),
            ("email_verified", "bool"),
            ("email_sent_at", "timestamptz"),
            ("email_count", "int4"),
            ("address_id", "int8"),
            ("card_type", "text"),
            ("card_fee", "numeric(10,2)"),
            ("tax_code", "text"),
            ("vat", "text"),
            ("device_id", "text"),
            ("passenger_id", "int8"),
            ("customer_id", "int8"),
            ("guest.loyalty.number", "jsonb"),
            ("cabin", "text"),
            ("token", "text"),
            ("status", "text"),
            ("postcode_area_count", "int4"),
        ] {
            assert!(!surely(path, ty), "{path}");
        }
    }
}
