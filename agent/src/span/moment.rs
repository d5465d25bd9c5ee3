//! Unix time as text, RFC 3339 and UTC: no library, since nothing here reads dates or knows zones.

use std::fmt;

/// Unix nanoseconds; shown to the nanosecond, or with as many digits as the format's precision says.
pub struct Moment(pub u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000;
        let (year, month, day) = date(seconds / 86_400);
        let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let digits = f.precision().unwrap_or(9).clamp(1, 9);
        let parts = self.0 % 1_000_000_000 / 10_u64.pow(9 - digits as u32);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{parts:0digits$}Z"
        )
    }
}

/// Year, month and day of a day since 1970: Howard Hinnant's civil_from_days, for years from 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_right_across_leap_days() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000"),
            (951_782_399_999, "2000-02-28T23:59:59.999"),
            (951_782_400_000, "2000-02-29T00:00:00.000"),
            (1_700_558_734_853, "2023-11-21T09:25:34.853"),
            (1_709_251_199_000, "2024-02-29T23:59:59.000"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000"),
        ] {
            let moment = Moment(millis * 1_000_000);
            assert_eq!(moment.to_string(), format!("{text}000000Z"));
            assert_eq!(format!("{moment:.3}"), format!("{text}Z"));
        }
        assert_eq!(
            Moment(u64::MAX).to_string(),
            "2554-07-21T23:34:33.709551615Z"
        );
    }
}
