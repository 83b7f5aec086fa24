//! Dates and times: the server's text form and ISO 8601 in, ISO 8601 out.
//!
//! The calendar is the proleptic Gregorian one, as the server's. Years here are astronomical: 1 BC is year
//! 0. Libraries stop at year 9999, the server at 5,874,897, hence the arithmetic of our own.

use super::Problem;
use super::number::write_integer;

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(super) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// The last year of a PostgreSQL `date`; timestamps end earlier.
const MAX_YEAR: i64 = 5_874_897;
/// The first day of the server is 4714-11-24 BC, where Julian days begin.
const MIN_YEAR: i64 = -4713;
/// The server refuses zones further from UTC.
const MAX_OFFSET_SECONDS: i32 = 16 * 3600 - 1;

const NOT_A_DATE: Problem = "not an ISO date";
const NOT_A_TIME: Problem = "not an ISO time";

/// Something that may be infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bounded<T> {
    NegativeInfinity,
    Finite(T),
    Infinity,
}

impl<T> Bounded<T> {
    fn infinite(raw: &[u8]) -> Option<Self> {
        match raw {
            b"infinity" => Some(Self::Infinity),
            b"-infinity" => Some(Self::NegativeInfinity),
            _ => None,
        }
    }
}

/// A date and a time of that day, without a zone or in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateTime {
    /// Since 1970-01-01.
    days: i64,
    /// Since midnight.
    micros: i64,
}

impl DateTime {
    pub(super) const fn from_micros(micros: i64) -> Self {
        Self {
            days: micros.div_euclid(MICROS_PER_DAY),
            micros: micros.rem_euclid(MICROS_PER_DAY),
        }
    }

    /// Microseconds since 1970-01-01, if they fit 64 bits (to the year 294247); the ends are taken by the
    /// infinities.
    pub(super) fn to_micros(self) -> Result<i64, Problem> {
        self.days
            .checked_mul(MICROS_PER_DAY)
            .and_then(|micros| micros.checked_add(self.micros))
            .filter(|micros| !matches!(*micros, i64::MIN | i64::MAX))
            .ok_or("a timestamp too far away to compute with")
    }
}

/// Days since 1970-01-01.
pub(super) fn parse_date(raw: &[u8]) -> Result<Bounded<i32>, Problem> {
    if let Some(infinite) = Bounded::infinite(raw) {
        return Ok(infinite);
    }
    let (era, raw) = split_era(raw);
    let mut text = Reader(raw);
    let days = text.days(era)?;
    text.end(NOT_A_DATE)?;
    i32::try_from(days)
        .map(Bounded::Finite)
        .map_err(|_| NOT_A_DATE)
}

/// A timestamp without a zone.
pub(super) fn parse_timestamp(raw: &[u8]) -> Result<Bounded<DateTime>, Problem> {
    if let Some(infinite) = Bounded::infinite(raw) {
        return Ok(infinite);
    }
    let (era, raw) = split_era(raw);
    let mut text = Reader(raw);
    let local = text.date_time(era)?;
    text.end(NOT_A_TIME)?;
    Ok(Bounded::Finite(local))
}

/// A timestamp with a zone, in UTC.
pub(super) fn parse_timestamptz(raw: &[u8]) -> Result<Bounded<DateTime>, Problem> {
    if let Some(infinite) = Bounded::infinite(raw) {
        return Ok(infinite);
    }
    let (era, raw) = split_era(raw);
    let mut text = Reader(raw);
    let local = text.date_time(era)?;
    let offset = i64::from(text.offset()?) * MICROS_PER_SECOND;
    text.end(NOT_A_TIME)?;
    let micros = local.micros - offset;
    Ok(Bounded::Finite(DateTime {
        days: local.days + micros.div_euclid(MICROS_PER_DAY),
        micros: micros.rem_euclid(MICROS_PER_DAY),
    }))
}

/// Microseconds since midnight, up to 24:00:00.
pub(super) fn parse_time(raw: &[u8]) -> Result<i64, Problem> {
    let mut text = Reader(raw);
    let micros = text.clock()?;
    text.end(NOT_A_TIME)?;
    Ok(micros)
}

/// Microseconds since midnight, and seconds east of UTC.
pub(super) fn parse_timetz(raw: &[u8]) -> Result<(i64, i32), Problem> {
    let mut text = Reader(raw);
    let micros = text.clock()?;
    let offset = text.offset()?;
    text.end(NOT_A_TIME)?;
    Ok((micros, offset))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Era {
    /// Years as ISO 8601 counts them.
    Astronomical,
    /// The server's suffix; its years start at 1.
    BeforeChrist,
}

fn split_era(raw: &[u8]) -> (Era, &[u8]) {
    match raw.strip_suffix(b" BC") {
        Some(rest) => (Era::BeforeChrist, rest),
        None => (Era::Astronomical, raw),
    }
}

/// The rest of a text form.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn eat(&mut self, byte: u8) -> bool {
        match self.0.strip_prefix(&[byte]) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn eat_any(&mut self, bytes: [u8; 2]) -> bool {
        self.eat(bytes[0]) || self.eat(bytes[1])
    }

    fn expect(&mut self, byte: u8, problem: Problem) -> Result<(), Problem> {
        if self.eat(byte) { Ok(()) } else { Err(problem) }
    }

    fn end(&self, problem: Problem) -> Result<(), Problem> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(problem)
        }
    }

    fn two_digits(&mut self) -> Option<u8> {
        match self.0 {
            [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] => {
                self.0 = rest;
                Some((tens - b'0') * 10 + (ones - b'0'))
            }
            _ => None,
        }
    }

    fn year(&mut self, era: Era) -> Option<i64> {
        let signed = self
            .0
            .first()
            .is_some_and(|byte| matches!(byte, b'+' | b'-'));
        let negative = self.eat(b'-');
        let _plus = !negative && self.eat(b'+');
        let length = self
            .0
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        if !(4..=7).contains(&length) {
            return None;
        }
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        let year = digits
            .iter()
            .fold(0, |year, digit| year * 10 + i64::from(digit - b'0'));
        let year = match era {
            Era::BeforeChrist if signed || year == 0 => return None,
            Era::BeforeChrist => 1 - year,
            Era::Astronomical if negative => -year,
            Era::Astronomical => year,
        };
        (MIN_YEAR..=MAX_YEAR).contains(&year).then_some(year)
    }

    fn days(&mut self, era: Era) -> Result<i64, Problem> {
        let year = self.year(era).ok_or(NOT_A_DATE)?;
        self.expect(b'-', NOT_A_DATE)?;
        let month = self.two_digits().ok_or(NOT_A_DATE)?;
        self.expect(b'-', NOT_A_DATE)?;
        let day = self.two_digits().ok_or(NOT_A_DATE)?;
        if (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day) {
            Ok(days_from_civil(year, month, day))
        } else {
            Err("no such day in the calendar")
        }
    }

    fn clock(&mut self) -> Result<i64, Problem> {
        let hour = self.two_digits().ok_or(NOT_A_TIME)?;
        self.expect(b':', NOT_A_TIME)?;
        let minute = self.two_digits().ok_or(NOT_A_TIME)?;
        self.expect(b':', NOT_A_TIME)?;
        let second = self.two_digits().ok_or(NOT_A_TIME)?;
        let fraction = if self.eat(b'.') { self.fraction()? } else { 0 };
        let seconds = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        let micros = seconds * MICROS_PER_SECOND + fraction;
        if minute < 60 && second < 60 && micros <= MICROS_PER_DAY {
            Ok(micros)
        } else {
            Err("no such time of day")
        }
    }

    /// One to six digits after the point, in microseconds; the server has no finer ones.
    fn fraction(&mut self) -> Result<i64, Problem> {
        let mut micros = 0;
        let mut unit = MICROS_PER_SECOND / 10;
        while let [digit @ b'0'..=b'9', rest @ ..] = self.0 {
            if unit == 0 {
                return Err("finer than microseconds");
            }
            micros += i64::from(digit - b'0') * unit;
            unit /= 10;
            self.0 = rest;
        }
        if unit == MICROS_PER_SECOND / 10 {
            return Err(NOT_A_TIME);
        }
        Ok(micros)
    }

    /// `Z`, or `+02`, `-05:30`, `+00:19:32`: seconds east of UTC.
    fn offset(&mut self) -> Result<i32, Problem> {
        if self.eat(b'Z') {
            return Ok(0);
        }
        let negative = self.eat(b'-');
        if !negative {
            self.expect(b'+', "no zone")?;
        }
        let mut seconds = i32::from(self.two_digits().ok_or(NOT_A_TIME)?) * 3600;
        for unit in [60, 1] {
            if !self.eat(b':') {
                break;
            }
            let part = self
                .two_digits()
                .filter(|part| *part < 60)
                .ok_or(NOT_A_TIME)?;
            seconds += i32::from(part) * unit;
        }
        if seconds > MAX_OFFSET_SECONDS {
            return Err("no such zone");
        }
        Ok(if negative { -seconds } else { seconds })
    }

    fn date_time(&mut self, era: Era) -> Result<DateTime, Problem> {
        let days = self.days(era)?;
        if !self.eat_any([b' ', b'T']) {
            return Err(NOT_A_TIME);
        }
        let micros = self.clock()?;
        // 24:00:00 of a day is 00:00:00 of the next; only a time of day keeps it.
        Ok(DateTime {
            days: days + micros.div_euclid(MICROS_PER_DAY),
            micros: micros.rem_euclid(MICROS_PER_DAY),
        })
    }
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days in the 400 years after which the calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
/// From 0000-03-01, where eras start here so that leap days end them, to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// Days since 1970-01-01. The arithmetic is Howard Hinnant's, "chrono-compatible low-level date
/// algorithms": years start in March, so that the leap day is a year's last.
fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    let month = i64::from(month);
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_ERA + day_of_era - EPOCH_DAYS
}

/// Year, month and day; the inverse of [`days_from_civil`].
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + EPOCH_DAYS;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

fn write_infinity<T>(value: &Bounded<T>, out: &mut Vec<u8>) -> bool {
    let name: &[u8] = match value {
        Bounded::Finite(_) => return false,
        Bounded::Infinity => b"infinity",
        Bounded::NegativeInfinity => b"-infinity",
    };
    out.extend_from_slice(name);
    true
}

/// ISO 8601, with a sign before a year outside 0000 to 9999 (the expanded form).
pub(super) fn write_date(date: Bounded<i32>, out: &mut Vec<u8>) {
    if let Bounded::Finite(days) = date {
        write_days(i64::from(days), out);
    } else {
        write_infinity(&date, out);
    }
}

fn write_days(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if !(0..=9999).contains(&year) {
        out.push(if year < 0 { b'-' } else { b'+' });
    }
    let year = year.abs();
    if year > 9999 {
        write_integer(year / 10_000, out);
    }
    write_two_digits(year / 100, out);
    write_two_digits(year, out);
    out.push(b'-');
    write_two_digits(month, out);
    out.push(b'-');
    write_two_digits(day, out);
}

/// Appends the last two digits of a number that is not negative.
fn write_two_digits(number: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[digit(number / 10), digit(number)]);
}

/// The last digit of a number that is not negative.
fn digit(number: i64) -> u8 {
    b'0' + (number % 10).to_le_bytes()[0]
}

/// `10:00:00.5`: without trailing zeros, as the server prints it.
pub(super) fn write_time(micros: i64, out: &mut Vec<u8>) {
    let seconds = micros / MICROS_PER_SECOND;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    for (separator, part) in [(None, hour), (Some(b':'), minute), (Some(b':'), second)] {
        out.extend(separator);
        write_two_digits(part, out);
    }
    let mut rest = micros % MICROS_PER_SECOND;
    if rest != 0 {
        out.push(b'.');
        while rest != 0 {
            rest *= 10;
            out.push(digit(rest / MICROS_PER_SECOND));
            rest %= MICROS_PER_SECOND;
        }
    }
}

/// A time and its offset: `10:00:00+02:00`, with seconds where the offset has some.
pub(super) fn write_timetz(micros: i64, offset_seconds: i32, out: &mut Vec<u8>) {
    write_time(micros, out);
    out.push(if offset_seconds < 0 { b'-' } else { b'+' });
    let offset = i64::from(offset_seconds).abs();
    write_two_digits(offset / 3600, out);
    out.push(b':');
    write_two_digits(offset / 60 % 60, out);
    if offset % 60 != 0 {
        out.push(b':');
        write_two_digits(offset % 60, out);
    }
}

/// ISO 8601 followed by `zone`: `Z`, or nothing for a timestamp without one.
pub(super) fn write_timestamp(value: Bounded<DateTime>, zone: &[u8], out: &mut Vec<u8>) {
    if let Bounded::Finite(DateTime { days, micros }) = value {
        write_days(days, out);
        out.push(b'T');
        write_time(micros, out);
        out.extend_from_slice(zone);
    } else {
        write_infinity(&value, out);
    }
}

/// Whether `raw` is a date that is published as it is: years 0001 to 9999 as the server prints them.
pub(super) fn is_plain_date(raw: &[u8]) -> bool {
    let Ok(raw) = <&[u8; 10]>::try_from(raw) else {
        return false;
    };
    let mut text = Reader(raw);
    raw[..4] != *b"0000" && text.days(Era::Astronomical).is_ok() && text.0.is_empty()
}

/// Whether `raw` is a time of day that is published as it is: before 24:00:00 and without trailing zeros.
pub(super) fn is_plain_time(raw: &[u8]) -> bool {
    if raw.get(8) == Some(&b'.') && raw.last() == Some(&b'0') {
        return false;
    }
    parse_time(raw).is_ok_and(|micros| micros < MICROS_PER_DAY)
}

/// The date and the time of a timestamp that are published as they are, `T` between them.
/// `offset` is what must follow: `+00`, or nothing.
pub(super) fn plain_timestamp<'a>(raw: &'a [u8], offset: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let local = raw.strip_suffix(offset)?;
    let (date, rest) = local.split_at_checked(10)?;
    let time = rest.strip_prefix(b" ")?;
    (is_plain_date(date) && is_plain_time(time)).then_some((date, time))
}
