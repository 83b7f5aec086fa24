//! Columns and literals as expressions write them; nothing where none of the ways to quote one works.

/// `$.row.seat_no`, or `$.row['odd name']`.
pub(super) fn path(image: &str, column: &str) -> Option<String> {
    if is_plain(column) {
        return Some(format!("$.{image}.{column}"));
    }
    quoted(column).map(|column| format!("$.{image}[{column}]"))
}

/// A column as `changed` and `delta` name it.
pub(super) fn column(name: &str) -> Option<&str> {
    (!name.starts_with('$') && !name.is_empty()).then_some(name)
}

/// Text as a literal of a condition.
pub(super) fn literal(text: &str) -> Option<String> {
    quoted(text)
}

/// A template of columns, parts joined by `/`, where all of their names are plain.
pub(super) fn template(columns: &[String]) -> Option<String> {
    let parts: Option<Vec<String>> = columns
        .iter()
        .map(|column| is_plain(column).then(|| format!("{{{column}}}")))
        .collect();
    parts.map(|parts| parts.join("/"))
}

fn is_plain(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_word) && name.starts_with(|c: char| !c.is_ascii_digit())
}

/// Without escapes, which people read with difficulty: one of the two quotes has to be free.
fn quoted(text: &str) -> Option<String> {
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return None;
    }
    ['\'', '"']
        .iter()
        .find(|quote| !text.contains(**quote))
        .map(|quote| format!("{quote}{text}{quote}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_only_where_they_have_to_be() {
        assert_eq!(path("row", "seat_no").as_deref(), Some("$.row.seat_no"));
        assert_eq!(
            path("after", "Unit Price").as_deref(),
            Some("$.after['Unit Price']")
        );
        assert_eq!(path("row", "it's").as_deref(), Some("$.row[\"it's\"]"));
        assert_eq!(path("row", "2nd").as_deref(), Some("$.row['2nd']"));
        assert_eq!(path("row", "both'\""), None);
        assert_eq!(path("row", "back\\slash"), None);
        assert_eq!(column("$dollar"), None);
        let key = |columns: &[&str]| {
            template(&columns.iter().map(|c| (*c).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            key(&["flight_no", "day"]).as_deref(),
            Some("{flight_no}/{day}")
        );
        assert_eq!(key(&["Order No"]), None);
    }
}
