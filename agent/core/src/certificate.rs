//! What a certificate says of itself, as far as warnings need it: until when it holds, and whether somebody else issued it.
//!
//! A walk through DER and no verification: that is the TLS library's.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What is read of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Before that it does not hold.
    pub not_before: Timestamp,
    /// After that it does not hold.
    pub not_after: Timestamp,
    /// Subject and issuer are the same: nobody else vouches for it.
    pub is_self_issued: bool,
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Reads an X.509 certificate in DER; `None` if it is none.
pub fn facts(der: &[u8]) -> Option<Facts> {
    let (certificate, _) = of(der, SEQUENCE)?;
    let (body, _) = of(certificate, SEQUENCE)?;
    let body = of(body, VERSION).map_or(body, |(_, rest)| rest);
    let (_serial, body) = of(body, INTEGER)?;
    let (_algorithm, body) = of(body, SEQUENCE)?;
    let (issuer, body) = of(body, SEQUENCE)?;
    let (validity, body) = of(body, SEQUENCE)?;
    let (subject, _) = of(body, SEQUENCE)?;
    let (not_before, rest) = time(validity)?;
    let (not_after, _) = time(rest)?;
    Some(Facts { not_before, not_after, is_self_issued: issuer == subject })
}

/// The content of the next element, which must have this tag, and what comes after it.
fn of(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0_usize, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` until 2049, `YYYYMMDDHHMMSSZ` after (RFC 5280, 4.1.2.5).
fn time(der: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (tag, content, rest) = element(der)?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let (year, text) = match tag {
        UTC_TIME => {
            let (year, text) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text)
        }
        GENERALIZED_TIME => {
            let (year, text) = text.split_at_checked(4)?;
            (year.parse().ok()?, text)
        }
        _ => return None,
    };
    let digits: Vec<i8> = (0..5).map(|at| text.get(2 * at..2 * at + 2)?.parse().ok()).collect::<Option<_>>()?;
    let [month, day, hour, minute, second] = digits[..] else { return None };
    let written = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    Some((written.to_zoned(TimeZone::UTC).ok()?.timestamp(), rest))
}

#[cfg(test)]
pub(crate) mod testing {
    //! Two certificates, as base64 of DER. Their keys are not kept.

    /// Of `a` by itself, from 2026 to 2099: the two times are written in the two ways.
    pub(crate) const SELF_SIGNED: &str = "MIHFMHmgAwIBAgIBBzAFBgMrZXAwDDEKMAgGA1UEAwwBYTAgFw0yNjAxMDIwMzA0MDVaGA8yMDk5MTIzMTIzNTk1OVowDDEKMAgG\
         A1UEAwwBYTAqMAUGAytlcAMhAMeXYiAC7n+iEJosSpj4RUUH1TaoFF3+ydierneVqoWUMAUGAytlcANBADuOMYMiwW5Xkh8pSN6X\
         DvShP743xmkqKPkHCUySQdwIXGocO1FKD+FF/vNyd5hqzf+KQrbBwMWTK/RsXRoCnA8=";
    /// Of `a` by `b`, until June 2030.
    pub(crate) const ISSUED: &str = "MIHDMHegAwIBAgIBBzAFBgMrZXAwDDEKMAgGA1UEAwwBYjAeFw0yNjAxMDIwMzA0MDVaFw0zMDA2MDEwMDAwMDBaMAwxCjAIBgNV\
         BAMMAWEwKjAFBgMrZXADIQAnQjTDhQfePgeOIWdjepCtKsroqgyAc0m1TI8WIFNWWzAFBgMrZXADQQDjh6JarSs2lqbf9/A41TSV\
         8ey7oCHfE6TtWcjfAVhN0yNG7wu2PtzusErdoXZworuANaBJFliC21yMzLBzkwsD";
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::testing::{ISSUED, SELF_SIGNED};
    use super::*;

    fn der(text: &str) -> Vec<u8> {
        STANDARD.decode(text).unwrap()
    }

    #[test]
    fn both_ways_to_write_a_time_are_read() {
        let facts = facts(&der(SELF_SIGNED)).unwrap();
        assert_eq!(facts.not_before.to_string(), "2026-01-02T03:04:05Z");
        assert_eq!(facts.not_after.to_string(), "2099-12-31T23:59:59Z");
        assert!(facts.is_self_issued);
    }

    #[test]
    fn a_certificate_of_another_issuer_is_told_apart() {
        let facts = facts(&der(ISSUED)).unwrap();
        assert!(!facts.is_self_issued);
        assert_eq!(facts.not_after.to_string(), "2030-06-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        let whole = der(SELF_SIGNED);
        for length in 0..whole.len() {
            assert_eq!(facts(&whole[..length]), None, "{length}");
        }
        assert_eq!(facts(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(at in 0usize..200, byte in any::<u8>()) {
            let mut bytes = der(SELF_SIGNED);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = facts(&bytes);
        }
    }
}
