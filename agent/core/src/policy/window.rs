//! Maintenance windows: wall-clock hours on days of the week, in a time zone of their own.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// One entry of `windows`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it begins; empty: every day.
    pub days: Vec<Day>,
    /// When it begins.
    pub start: Clock,
    /// When it ends: not after `start` means on the next day.
    pub end: Clock,
    /// Whose clock.
    pub zone: TimeZone,
}

/// A day of the week, `Mon` to `Sun`.
pub type Day = Weekday;

/// Minutes since midnight: 0 to 1440, since `24:00` is an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Clock(u16);

impl Clock {
    /// Midnight at the end of a day.
    const DAY: u16 = 24 * 60;

    /// Reads `HH:MM`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hours, minutes) = text.split_once(':')?;
        let number = |digits: &str| -> Option<u16> {
            (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
        };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        let clock = Self(hours * 60 + minutes);
        (minutes < 60 && clock.0 <= Self::DAY).then_some(clock)
    }

    /// This time of that day, on that zone's clock. A time that the clock skips in spring is as much later, one that
    /// it shows twice in autumn is the first.
    fn on(self, date: Date, zone: &TimeZone) -> Option<Timestamp> {
        let date = if self.0 == Self::DAY { date.tomorrow().ok()? } else { date };
        let minutes = self.0 % Self::DAY;
        let time = Time::new((minutes / 60) as i8, (minutes % 60) as i8, 0, 0).ok()?;
        Some(zone.to_ambiguous_zoned(date.to_datetime(time)).compatible().ok()?.timestamp())
    }
}

impl Window {
    /// Tells whether the window is open: from its start up to, and without, its end. A window that the change to summer
    /// time swallows is shut that day.
    pub fn contains(&self, now: Timestamp) -> bool {
        let Self { days, start, end, zone } = self;
        let today = now.to_zoned(zone.clone()).date();
        // One that began yesterday may still be open; none is longer than a day.
        [Some(today), today.checked_sub(1.day()).ok()].into_iter().flatten().any(|begun| {
            let last = if end > start { Some(begun) } else { begun.tomorrow().ok() };
            let is_its_day = days.is_empty() || days.contains(&begun.weekday());
            let opens = start.on(begun, zone);
            let shuts = last.and_then(|last| end.on(last, zone));
            is_its_day && opens.is_some_and(|opens| opens <= now) && shuts.is_some_and(|shuts| now < shuts)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], start: &str, end: &str, zone: &str) -> Window {
        let clock = |text| Clock::parse(text).expect("a time");
        let zone = jiff::tz::TimeZoneDatabase::bundled().get(zone).expect("a zone");
        Window { days: days.to_vec(), start: clock(start), end: clock(end), zone }
    }

    fn is_open(window: &Window, now: &str) -> bool {
        window.contains(now.parse().expect("a time"))
    }

    #[test]
    fn a_window_is_open_from_start_to_end_on_its_days_in_its_zone() {
        let w = window(&[Day::Saturday, Day::Sunday], "02:00", "05:00", "Europe/Berlin");
        // Saturday 2026-01-10, an hour ahead of UTC.
        assert!(!is_open(&w, "2026-01-10T00:59:59Z"));
        assert!(is_open(&w, "2026-01-10T01:00:00Z"));
        assert!(is_open(&w, "2026-01-10T03:59:59Z"));
        assert!(!is_open(&w, "2026-01-10T04:00:00Z"));
        assert!(is_open(&w, "2026-01-11T02:00:00Z"));
        assert!(!is_open(&w, "2026-01-12T02:00:00Z"), "a Monday");
        assert!(is_open(&w, "2026-07-11T00:30:00Z"), "two hours ahead in summer");
        assert!(is_open(&window(&[], "02:00", "05:00", "UTC"), "2026-01-12T02:00:00Z"), "no days are all days");
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let w = window(&[Day::Friday], "22:00", "02:00", "America/New_York");
        // Friday 2026-01-09, five hours behind UTC.
        assert!(!is_open(&w, "2026-01-10T02:59:00Z"));
        assert!(is_open(&w, "2026-01-10T03:00:00Z"), "Friday 22:00");
        assert!(is_open(&w, "2026-01-10T06:59:00Z"), "Saturday 01:59");
        assert!(!is_open(&w, "2026-01-10T07:00:00Z"));
        assert!(!is_open(&w, "2026-01-09T06:00:00Z"), "Friday 01:00 would be Thursday's");
        assert!(!is_open(&w, "2026-01-11T03:30:00Z"), "Saturday 22:30");
    }

    #[test]
    fn a_whole_day_ends_at_24_00() {
        let w = window(&[Day::Sunday], "00:00", "24:00", "UTC");
        assert!(is_open(&w, "2026-01-11T00:00:00Z") && is_open(&w, "2026-01-11T23:59:59Z"));
        assert!(!is_open(&w, "2026-01-10T23:59:59Z") && !is_open(&w, "2026-01-12T00:00:00Z"));
    }

    #[test]
    fn the_changes_of_summer_time_neither_shift_nor_break_a_window() {
        // Berlin: on 2026-03-29 02:00 becomes 03:00, on 2026-10-25 03:00 becomes 02:00.
        let w = window(&[], "01:00", "05:00", "Europe/Berlin");
        assert!(is_open(&w, "2026-03-29T00:00:00Z") && is_open(&w, "2026-03-29T02:59:00Z"), "three hours long");
        assert!(!is_open(&w, "2026-03-29T03:00:00Z"));
        assert!(is_open(&w, "2026-10-24T23:00:00Z") && is_open(&w, "2026-10-25T03:59:00Z"), "five hours long");
        assert!(!is_open(&w, "2026-10-25T04:00:00Z"));
        let skipped = window(&[], "02:00", "02:30", "Europe/Berlin");
        assert!(is_open(&skipped, "2026-03-29T01:10:00Z"), "03:10 stands for 02:10");
        assert!(!is_open(&skipped, "2026-03-29T01:30:00Z"));
        assert!(is_open(&skipped, "2026-10-25T00:10:00Z") && !is_open(&skipped, "2026-10-25T01:10:00Z"), "opens once");
    }

    #[test]
    fn only_hours_and_minutes_of_two_digits_are_a_time() {
        for good in ["00:00", "02:05", "23:59", "24:00"] {
            assert!(Clock::parse(good).is_some(), "{good}");
        }
        for bad in ["", "2:00", "24:01", "02:60", "02-00", "+2:00", "02:00:00", "25:00", "é:00"] {
            assert!(Clock::parse(bad).is_none(), "{bad}");
        }
    }
}
