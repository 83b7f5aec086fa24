//! Names of tables and columns as words.

use heck::ToSnakeCase as _;

/// Words that look like plurals and are none, or have a plural of their own.
const IRREGULAR: [(&str, &str); 20] = [
    ("people", "person"),
    ("children", "child"),
    ("statuses", "status"),
    ("buses", "bus"),
    ("bonuses", "bonus"),
    ("viruses", "virus"),
    ("campuses", "campus"),
    ("movies", "movie"),
    ("cookies", "cookie"),
    ("aliases", "alias"),
    ("gases", "gas"),
    ("news", "news"),
    ("series", "series"),
    ("species", "species"),
    ("analyses", "analysis"),
    ("indices", "index"),
    ("sms", "sms"),
    ("gps", "gps"),
    ("always", "always"),
    ("details", "details"),
];

/// The words of a name in lower case: `fare_class`, `FareClass` and `"Fare Class"` alike. Letters outside of
/// ASCII are left out.
pub(crate) fn words(name: &str) -> Vec<String> {
    let ascii: String = name.chars().filter(char::is_ascii).collect();
    ascii
        .to_snake_case()
        .split('_')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// One of what `word` names many of; English only.
fn singular(word: &str) -> String {
    if let Some((_, one)) = IRREGULAR.iter().find(|(many, _)| *many == word) {
        return (*one).to_owned();
    }
    let without = |ending: &str| {
        let stem = word.strip_suffix(ending)?;
        (stem.len() > 1).then(|| stem.to_owned())
    };
    if let Some(stem) = without("ies").filter(|stem| stem.len() > 2) {
        return stem + "y";
    }
    if ["sses", "shes", "ches", "xes", "zzes"]
        .iter()
        .any(|ending| word.ends_with(ending))
        && let Some(stem) = without("es")
    {
        return stem;
    }
    if ["ss", "us", "is"]
        .iter()
        .any(|ending| word.ends_with(ending))
    {
        return word.to_owned();
    }
    without("s").unwrap_or_else(|| word.to_owned())
}

/// The words of one row of a table: `order_items` gives order, item.
pub(crate) fn one_of(table: &str) -> Vec<String> {
    let mut words = words(table);
    if let Some(last) = words.last_mut() {
        *last = singular(last);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_many_is_one() {
        for (table, one) in [
            ("segments", "segment"),
            ("ancillaries", "ancillary"),
            ("addresses", "address"),
            ("boxes", "box"),
            ("coaches", "coach"),
            ("houses", "house"),
            ("order_items", "order item"),
            ("OrderLines", "order line"),
            ("inventory", "inventory"),
            ("bus", "bus"),
            ("statuses", "status"),
            ("people", "person"),
            ("gps", "gps"),
            ("Order.Lines", "order line"),
            ("s", "s"),
        ] {
            assert_eq!(one_of(table).join(" "), one, "{table}");
        }
    }
}
