//! Calendar arithmetic and text of dates, as the modules' host offers them: UTC, English, no clock.
//! Pure functions on broken-down time. Invariant: total; any input gives an answer.

/// Broken-down time with the field meanings of C's `tm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tm {
    pub sec: i32,
    pub min: i32,
    pub hour: i32,
    pub mday: i32,
    pub mon: i32,
    pub year: i32,
    pub wday: i32,
    pub yday: i32,
}

/// Seconds that the host's calendar covers, either side of 1970.
const SECONDS_MAX: i64 = 8_640_000_000_000;

/// Days from 1970-01-01 to a civil date; the month counts from 0 and may be any number.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = (year + month.div_euclid(12), month.rem_euclid(12));
    // Years that start in March, in eras of 400 years.
    let y = if month < 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 10) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = (mp + 2) % 12;
    (
        yoe + era * 400 + (month < 2) as i64,
        month,
        doy - (153 * mp + 2) / 5 + 1,
    )
}

/// Seconds since 1970 as broken-down UTC; all zero outside the host's calendar.
pub fn utc(seconds: i64) -> Tm {
    if seconds.abs() > SECONDS_MAX {
        return Tm::default();
    }
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    Tm {
        sec: (second % 60) as i32,
        min: (second / 60 % 60) as i32,
        hour: (second / 3600) as i32,
        mday: day as i32,
        mon: month as i32,
        year: (year - 1900) as i32,
        wday: (days + 4).rem_euclid(7) as i32,
        yday: (days - days_from_civil(year, 0, 1)) as i32,
    }
}

/// Seconds since 1970 of a broken-down time whose fields may be out of range; `None` outside the calendar.
pub fn seconds(tm: &Tm) -> Option<i64> {
    let days = days_from_civil(tm.year as i64 + 1900, tm.mon as i64, 1) + tm.mday as i64 - 1;
    let seconds = days * 86_400 + tm.hour as i64 * 3600 + tm.min as i64 * 60 + tm.sec as i64;
    (seconds.abs() <= SECONDS_MAX).then_some(seconds)
}

const DAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn name(list: &[&'static str], index: i32) -> &'static str {
    usize::try_from(index)
        .ok()
        .and_then(|i| list.get(i).copied())
        .unwrap_or("")
}

/// ISO week and the year it belongs to.
fn iso_week(tm: &Tm) -> (i64, i64) {
    let year = tm.year as i64 + 1900;
    let week = (tm.yday as i64 - (tm.wday as i64 + 6).rem_euclid(7) + 10).div_euclid(7);
    if week < 1 {
        return (weeks_of(year - 1), year - 1);
    }
    if week > weeks_of(year) {
        (1, year + 1)
    } else {
        (week, year)
    }
}

fn weeks_of(year: i64) -> i64 {
    let last_weekday = |y: i64| (days_from_civil(y, 11, 31) + 4).rem_euclid(7);
    if last_weekday(year) == 4 || last_weekday(year - 1) == 3 {
        53
    } else {
        52
    }
}

/// What composite directives stand for.
fn expand(directive: char) -> Option<&'static str> {
    Some(match directive {
        'c' => "%a %b %d %H:%M:%S %Y",
        'D' | 'x' => "%m/%d/%y",
        'F' => "%Y-%m-%d",
        'h' => "%b",
        'r' => "%I:%M:%S %p",
        'R' => "%H:%M",
        'T' | 'X' => "%H:%M:%S",
        _ => return None,
    })
}

/// C's `strftime` in the C locale; unknown directives stay as they are.
pub fn format(pattern: &str, tm: &Tm, zone: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let modified = chars.next_if(|c| matches!(c, 'E' | 'O')).is_some();
        let Some(directive) = chars.next() else {
            out.push_str(if modified { "%E" } else { "%" });
            break;
        };
        match expand(directive) {
            Some(longer) => out.push_str(&format(longer, tm, zone)),
            None => out.push_str(&field(directive, tm, zone)),
        }
    }
    out
}

fn field(directive: char, tm: &Tm, zone: &str) -> String {
    let year = tm.year as i64 + 1900;
    match directive {
        'a' => name(&DAYS, tm.wday).chars().take(3).collect(),
        'A' => name(&DAYS, tm.wday).into(),
        'b' => name(&MONTHS, tm.mon).chars().take(3).collect(),
        'B' => name(&MONTHS, tm.mon).into(),
        'C' => format!("{:02}", year / 100),
        'd' => format!("{:02}", tm.mday),
        'e' => format!("{:2}", tm.mday),
        'g' => iso_week(tm).1.to_string().chars().skip(2).collect(),
        'G' => iso_week(tm).1.to_string(),
        'y' => year.to_string().chars().skip(2).collect(),
        'Y' => year.to_string(),
        'z' => "+0000".into(),
        'Z' => zone.into(),
        'n' => "\n".into(),
        't' => "\t".into(),
        '%' => "%".into(),
        _ => number_field(directive, tm),
    }
}

fn number_field(directive: char, tm: &Tm) -> String {
    let year = tm.year as i64 + 1900;
    match directive {
        'H' => format!("{:02}", tm.hour),
        'I' => format!(
            "{:02}",
            if tm.hour == 0 {
                12
            } else {
                tm.hour - 12 * (tm.hour > 12) as i32
            }
        ),
        'j' => format!(
            "{:03}",
            days_from_civil(year, tm.mon as i64, 1) - days_from_civil(year, 0, 1) + tm.mday as i64
        ),
        'm' => format!("{:02}", tm.mon as i64 + 1),
        'M' => format!("{:02}", tm.min),
        'p' => if (0..12).contains(&tm.hour) { "AM" } else { "PM" }.into(),
        'S' => format!("{:02}", tm.sec),
        'u' => (if tm.wday == 0 { 7 } else { tm.wday }).to_string(),
        'U' => format!("{:02}", (tm.yday as i64 + 7 - tm.wday as i64).div_euclid(7)),
        'V' => format!("{:02}", iso_week(tm).0),
        'w' => tm.wday.to_string(),
        'W' => format!(
            "{:02}",
            (tm.yday as i64 + 7 - (tm.wday as i64 + 6).rem_euclid(7)).div_euclid(7)
        ),
        other => format!("%{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(format("%c", &utc(10), "GMT"), "Thu Jan 01 00:00:10 1970");
        let tm = utc(1_700_000_000);
        assert_eq!(
            format("%F %T %j %V %G %a %Z%%", &tm, "GMT"),
            "2023-11-14 22:13:20 318 46 2023 Tue GMT%"
        );
        assert_eq!(format("%I%p %u %y %Ex %q", &tm, ""), "10PM 2 23 11/14/23 %q");
        assert_eq!(
            utc(-1),
            Tm {
                sec: 59,
                min: 59,
                hour: 23,
                mday: 31,
                mon: 11,
                year: 69,
                wday: 3,
                yday: 364
            }
        );
    }

    #[test]
    fn seconds_undo_utc_and_normalise() {
        for s in [
            -SECONDS_MAX,
            -86_401,
            -1,
            0,
            951_782_400,
            4_107_542_400,
            SECONDS_MAX,
        ] {
            assert_eq!(seconds(&utc(s)), Some(s));
        }
        let odd = Tm {
            mday: 32,
            mon: 13,
            year: 70,
            ..Tm::default()
        };
        assert_eq!(utc(seconds(&odd).unwrap()).mon, 2);
        assert_eq!(
            seconds(&Tm {
                year: i32::MAX,
                ..Tm::default()
            }),
            None
        );
    }

    #[test]
    fn iso_weeks_at_the_turn_of_years() {
        let week = |s| iso_week(&utc(s));
        assert_eq!(week(1_609_459_200), (53, 2020)); // 2021-01-01
        assert_eq!(week(1_230_681_600), (1, 2009)); // 2008-12-31
        assert_eq!(week(1_104_537_600), (53, 2004)); // 2005-01-01
    }
}
