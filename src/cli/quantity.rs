//! Numbers for people, at two lengths.

use std::fmt;

/// `1,234,567`.
pub(in crate::cli) fn whole(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.23M`: three digits tell enough.
pub(in crate::cli) fn short(count: u64) -> String {
    scaled(count, 1000, ["", "k", "M", "G", "T", "P", "E"])
}

/// `4.10 MiB`.
pub(in crate::cli) fn bytes(count: u64) -> String {
    scaled(
        count,
        1024,
        [" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"],
    )
}

fn scaled(count: u64, base: u64, units: [&str; 7]) -> String {
    let mut unit = 0;
    let mut scale = 1;
    while count / scale >= base && unit + 1 < units.len() {
        scale *= base;
        unit += 1;
    }
    if unit == 0 {
        return format!("{count}{}", units[0]);
    }
    // Rounded down: a count never looks larger than it is.
    let (whole, rest) = (count / scale, count % scale);
    let fraction = |parts: u64| u128::from(rest) * u128::from(parts) / u128::from(scale);
    match whole {
        0..10 => format!("{whole}.{:02}{}", fraction(100), units[unit]),
        10..100 => format!("{whole}.{}{}", fraction(10), units[unit]),
        _ => format!("{whole}{}", units[unit]),
    }
}

/// `340 ms`, `12 s`, `3 min 12 s`, `2 h 05 min`, `4 d 11 h`.
pub(in crate::cli) fn span(seconds: f64) -> String {
    if seconds < 1.0 {
        return format!("{} ms", at_least_zero(seconds * 1000.0));
    }
    let seconds = at_least_zero(seconds);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {:02} s", seconds % 60),
        3600..86_400 => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {:02} h", hours % 24),
    }
}

/// A rate as a whole number: below one a second nobody needs more than that there is something.
pub(in crate::cli) fn per_second(rate: f64) -> Rate {
    if rate > 0.0 && rate < 1.0 {
        Rate::BelowOne
    } else {
        Rate::Whole(at_least_zero(rate))
    }
}

/// How many a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Rate {
    BelowOne,
    Whole(u64),
}

impl Rate {
    pub(in crate::cli) fn short(self) -> String {
        match self {
            Self::BelowOne => "<1".to_owned(),
            Self::Whole(count) => short(count),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowOne => f.write_str("<1"),
            Self::Whole(count) => f.write_str(&whole(*count)),
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` keeps within u64 and makes 0 of NaN, which is what is wanted"
)]
fn at_least_zero(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_from_nothing_to_the_largest() {
        let wholes = [0, 999, 1000, 1_234_567, u64::MAX].map(whole);
        assert_eq!(
            wholes,
            [
                "0",
                "999",
                "1,000",
                "1,234,567",
                "18,446,744,073,709,551,615"
            ]
        );
        let shorts = [999, 1000, 1_234_567, 45_678, 999_999, u64::MAX].map(short);
        assert_eq!(shorts, ["999", "1.00k", "1.23M", "45.6k", "999k", "18.4E"]);
        let sizes = [0, 1023, 1024, 4_299_161, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.00 KiB", "4.09 MiB", "15.9 EiB"]);
    }

    #[test]
    fn times_have_two_units_at_most() {
        let spans = [0.0, 0.34, 12.9, 192.0, 7500.0, 388_800.0, -1.0, f64::NAN].map(span);
        let wanted = [
            "0 ms",
            "340 ms",
            "12 s",
            "3 min 12 s",
            "2 h 05 min",
            "4 d 12 h",
            "0 ms",
        ];
        assert_eq!(spans[..7], wanted);
        assert_eq!(spans[7], "0 s");
        assert_eq!(span(f64::INFINITY), "213503982334601 d 07 h");
    }

    #[test]
    fn a_rate_below_one_is_not_nothing() {
        assert_eq!(per_second(0.0).to_string(), "0");
        assert_eq!(per_second(0.4).to_string(), "<1");
        assert_eq!(per_second(45_678.9).to_string(), "45,678");
        assert_eq!(per_second(45_678.9).short(), "45.6k");
    }
}
