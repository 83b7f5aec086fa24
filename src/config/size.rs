//! Sizes in bytes as people write them.

/// Units, largest first, so that printing takes the largest that divides.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads `32MiB`, `500 kB` or `1048576`; `None` if it is none of these or passes 2^64.
pub(super) fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let factor = match unit {
        "" => 1,
        _ => {
            UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))?
                .1
        }
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Prints what [`parse`] reads.
pub(super) fn print(bytes: u64) -> String {
    let fits = |unit: &&(&str, u64)| bytes >= unit.1 && bytes.is_multiple_of(unit.1);
    match UNITS.iter().find(fits) {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!(parse("32MiB"), Some(32 << 20));
        assert_eq!(parse("500 kB"), Some(500_000));
        assert_eq!(parse("1024"), Some(1024));
        for wrong in ["", "MiB", "-1", "1.5MiB", "32 MiBs", "99999999999GiB"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn print_and_parse_round_trip(bytes: u64) {
            prop_assert_eq!(parse(&print(bytes)), Some(bytes));
        }
    }
}
