//! Values that must never be printed.

use std::fmt;

use serde::Deserialize;

/// A password. Prints as `***`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for the wire, never for messages.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A connection string, which may hold a password. Prints without it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Url(String);

impl Url {
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The string as given, with the password in it: for the driver, never for messages.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it carries a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        password_of(&self.0).is_some()
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = 0;
        if let Some(password) = password_of(&self.0) {
            f.write_str(&self.0[..password.start])?;
            f.write_str("***")?;
            rest = password.end;
        }
        // A query may carry `password=` again, and nobody needs a query in a message.
        let tail = &self.0[rest..];
        match tail.split_once('?') {
            Some((tail, _)) => write!(f, "{tail}?..."),
            None => f.write_str(tail),
        }
    }
}

/// Where the password of `scheme://user:password@host` lies. The last `@` of the authority counts, so that
/// an unescaped one inside a password does not let its end through.
fn password_of(url: &str) -> Option<std::ops::Range<usize>> {
    let authority = url.find("://")? + 3;
    let end = url.rfind('@').filter(|at| *at > authority)?;
    let colon = authority + url[authority..end].find(':')?;
    Some(colon + 1..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }

    #[test]
    fn a_url_prints_without_its_password() {
        for (url, printed) in [
            (
                "postgres://me:hunter2@db:5432/x",
                "postgres://me:***@db:5432/x",
            ),
            ("postgres://me:hun@ter2@db/x", "postgres://me:***@db/x"),
            ("postgres://me:hunt/er2@db/x", "postgres://me:***@db/x"),
            ("postgres://me@db/x", "postgres://me@db/x"),
            ("postgres://db:5432/x", "postgres://db:5432/x"),
            ("postgres://db/x?password=hunter2", "postgres://db/x?..."),
            (
                "postgres://me:a?b@db/x?password=hunter2",
                "postgres://me:***@db/x?...",
            ),
        ] {
            assert_eq!(Url::new(url).to_string(), printed);
            assert_eq!(format!("{:?}", Url::new(url)), printed);
        }
    }
}
