//! What a certificate says of itself, as far as warnings need it: until when it holds, whether somebody else issued it, and
//! whether a private key is its own.
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
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const VERSION: u8 = 0xa0;
/// The public key in a SEC 1 key (explicit), and in a second version of PKCS#8 (implicit).
const PUBLIC_KEY: u8 = 0xa1;
const PUBLIC_KEY_IMPLICIT: u8 = 0x81;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Reads an X.509 certificate in DER; `None` if it is none.
pub fn facts(der: &[u8]) -> Option<Facts> {
    let Parts { issuer, validity, subject, public_key: _ } = parts(der)?;
    let (not_before, rest) = time(validity)?;
    let (not_after, _) = time(rest)?;
    Some(Facts { not_before, not_after, is_self_issued: issuer == subject })
}

/// Whether DER is one element and nothing else: what was cut off in the middle is not.
pub fn is_whole(der: &[u8]) -> bool {
    element(der).is_some_and(|(_, _, rest)| rest.is_empty())
}

/// Whether a private key (PKCS#8, PKCS#1 or SEC 1) is the one of a certificate. `None` where it does not show: a key of
/// another kind, or one that does not hold its public part.
pub fn is_key_of(certificate: &[u8], key: &[u8]) -> Option<bool> {
    let Parts { public_key, .. } = parts(certificate)?;
    let (_algorithm, rest) = of(public_key, SEQUENCE)?;
    let (bits, _) = of(rest, BIT_STRING)?;
    let bits = bits.strip_prefix(&[0])?;
    match public_part(key)? {
        Public::Modulus(modulus) => {
            Some(of(bits, SEQUENCE).and_then(|(numbers, _)| of(numbers, INTEGER)).is_some_and(|(n, _)| n == modulus))
        }
        // The same point may be written shorter.
        Public::Point(point) if point.len() != bits.len() && bits.first() != Some(&SEQUENCE) => None,
        Public::Point(point) => Some(point == bits),
    }
}

/// What a private key holds of its public one.
enum Public<'k> {
    Modulus(&'k [u8]),
    Point(&'k [u8]),
}

fn public_part(key: &[u8]) -> Option<Public<'_>> {
    let (body, _) = of(key, SEQUENCE)?;
    let (_version, body) = of(body, INTEGER)?;
    let (tag, content, mut rest) = element(body)?;
    match tag {
        INTEGER => return Some(Public::Modulus(content)),
        // PKCS#8: the key itself is in an OCTET STRING after its algorithm.
        SEQUENCE => {
            let (inner, after) = of(rest, OCTET_STRING)?;
            if let Some(found) = public_part(inner) {
                return Some(found);
            }
            rest = after;
        }
        OCTET_STRING => {}
        _ => return None,
    }
    while let Some((tag, content, after)) = element(rest) {
        let bits = match tag {
            PUBLIC_KEY => of(content, BIT_STRING).map(|(bits, _)| bits),
            PUBLIC_KEY_IMPLICIT => Some(content),
            _ => None,
        };
        if let Some(bits) = bits {
            return bits.strip_prefix(&[0]).map(Public::Point);
        }
        rest = after;
    }
    None
}

/// The parts of a certificate, in DER.
struct Parts<'c> {
    issuer: &'c [u8],
    validity: &'c [u8],
    subject: &'c [u8],
    public_key: &'c [u8],
}

fn parts(der: &[u8]) -> Option<Parts<'_>> {
    let (certificate, _) = of(der, SEQUENCE)?;
    let (body, _) = of(certificate, SEQUENCE)?;
    let body = of(body, VERSION).map_or(body, |(_, rest)| rest);
    let (_serial, body) = of(body, INTEGER)?;
    let (_algorithm, body) = of(body, SEQUENCE)?;
    let (issuer, body) = of(body, SEQUENCE)?;
    let (validity, body) = of(body, SEQUENCE)?;
    let (subject, body) = of(body, SEQUENCE)?;
    let (public_key, _) = of(body, SEQUENCE)?;
    Some(Parts { issuer, validity, subject, public_key })
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
    //! Certificates and keys, as base64 of DER, made for these tests and of no use elsewhere.

    /// Of `a` by itself, from 2026 to 2099: the two times are written in the two ways.
    pub(crate) const SELF_SIGNED: &str = "MIHFMHmgAwIBAgIBBzAFBgMrZXAwDDEKMAgGA1UEAwwBYTAgFw0yNjAxMDIwMzA0MDVaGA8yMDk5MTIzMTIzNTk1OVowDDEKMAgG\
         A1UEAwwBYTAqMAUGAytlcAMhAMeXYiAC7n+iEJosSpj4RUUH1TaoFF3+ydierneVqoWUMAUGAytlcANBADuOMYMiwW5Xkh8pSN6X\
         DvShP743xmkqKPkHCUySQdwIXGocO1FKD+FF/vNyd5hqzf+KQrbBwMWTK/RsXRoCnA8=";
    /// Of `a` by `b`, until June 2030.
    pub(crate) const ISSUED: &str = "MIHDMHegAwIBAgIBBzAFBgMrZXAwDDEKMAgGA1UEAwwBYjAeFw0yNjAxMDIwMzA0MDVaFw0zMDA2MDEwMDAwMDBaMAwxCjAIBgNV\
         BAMMAWEwKjAFBgMrZXADIQAnQjTDhQfePgeOIWdjepCtKsroqgyAc0m1TI8WIFNWWzAFBgMrZXADQQDjh6JarSs2lqbf9/A41TSV\
         8ey7oCHfE6TtWcjfAVhN0yNG7wu2PtzusErdoXZworuANaBJFliC21yMzLBzkwsD";
    /// Of a P-256 key.
    pub(crate) const EC: &str = "MIIBbzCCARWgAwIBAgIUcUZYDGFnM0L57/2URK3psy7xq/AwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYTAgFw0yNjExMjExNzQ5\
         MTNaGA8yMTI2MTAyODE3NDkxM1owDDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMycinHz8lURlkmC2TKr\
         Wx94tJ+0Vp+2iM5WmI2DOqGTGNs8HBvPJOyPpvbytOZAPzta4ZF+bII2+aJWUwKt5qCjUzBRMB0GA1UdDgQWBBQuqshnEflBR01q\
         yHgT+LxLOzgAfjAfBgNVHSMEGDAWgBQuqshnEflBR01qyHgT+LxLOzgAfjAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gA\
         MEUCIQCn/e6UbZ3ybNZ1CsQAQrunBpsPxgG6Wz7QPhKIQlrDBwIgfRjROGUk/q4rWmS829OHonDrstXuiP0aj+jqfYvrRpU=";
    /// Its key in PKCS#8.
    pub(crate) const EC_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg5hsb4F9+ivjFQxb5/uY2G5YbK0xZfKjMkRNao39OQ56hRANCAATM\
         nIpx8/JVEZZJgtkyq1sfeLSftFaftojOVpiNgzqhkxjbPBwbzyTsj6b28rTmQD87WuGRfmyCNvmiVlMCreag";
    /// Another one.
    pub(crate) const OTHER_EC_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQglsBof7o3YVrH479hwpYIC4p8ape0Bchr4QjKN+nirw+hRANCAAQT\
         tmcARt4Sc9asb0NN5SfPSKdUi8cjDLEcSC2QdmMoSJcilGp9TowsqM9xK/Pj8XX589GUxt2vRefdMoooB1Gx";
    /// Of an RSA key (512 bits: it is only compared).
    pub(crate) const RSA: &str = "MIIBcTCCARugAwIBAgIUHHKRFzGW2APs8lvo/a22LX/MjwkwDQYJKoZIhvcNAQELBQAwDDEKMAgGA1UEAwwBYTAgFw0yNjExMjEx\
         NzQ5MTNaGA8yMTI2MTAyODE3NDkxM1owDDEKMAgGA1UEAwwBYTBcMA0GCSqGSIb3DQEBAQUAA0sAMEgCQQCow8rCcBtii/cmJFm8\
         3UFE2zCcGfWqQgMpr+9yTxIrF7uWpDYg/WbtFp6dBbwpM29ze/+e1u9WGJ9hWvAcO+ltAgMBAAGjUzBRMB0GA1UdDgQWBBTrMIJ8\
         pt0if6Pro1ZtFWxi7KpIBTAfBgNVHSMEGDAWgBTrMIJ8pt0if6Pro1ZtFWxi7KpIBTAPBgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3\
         DQEBCwUAA0EAk/aMl0XcQh0fC4ksnshVtzHUrUm+JdAgv7frTwdSDomlJwrvsWKr7FiYbyaUzQFBklEK/hc4qREQzjyPNJrtsA==";
    /// Its key in PKCS#8.
    pub(crate) const RSA_KEY: &str = "MIIBUwIBADANBgkqhkiG9w0BAQEFAASCAT0wggE5AgEAAkEAqMPKwnAbYov3JiRZvN1BRNswnBn1qkIDKa/vck8SKxe7lqQ2IP1m\
         7RaenQW8KTNvc3v/ntbvVhifYVrwHDvpbQIDAQABAkA0OSItOPPAcv9v1h/OycjAvfM02vOiU/sWk1LNVJqSqqx3M509b+aEkJpC\
         DU2/3yaqZEOC5NK61ECxkOsB0hkBAiEA3rgfGMLe/axEx7e/vw5AewhgY1dPhAbNQjukyHmejtkCIQDB+7Q4HZ/tL4/pCiOODl1p\
         pNXBJma6yk70c8DnEgn6tQIgJ0ufGPRQ+brqS76M0z3FfK+mqgBepDG7B2OUmFZ09kkCIBmC69mxc7Xy2l9QmQp2syxQpFgJn9sS\
         /j1B9+2rvqo9AiAkQ5xkMZ/Q7QYDXLtFYxU1T82QzFYd42mJe2E+AyPY2w==";
    /// Of an Ed25519 key.
    pub(crate) const ED: &str = "MIIBLjCB4aADAgECAhQGAc88ca/BzVQWA2VUHwEBE+OE6DAFBgMrZXAwDDEKMAgGA1UEAwwBYTAgFw0yNjExMjExNzQ5MTNaGA8y\
         MTI2MTAyODE3NDkxM1owDDEKMAgGA1UEAwwBYTAqMAUGAytlcAMhAAlQgIDdnT7k4osy6BlQicepqSvLsJ+ZeD4wP7FZ6i+oo1Mw\
         UTAdBgNVHQ4EFgQUuPyJBJK2brTcKibODSbsDX8TD/UwHwYDVR0jBBgwFoAUuPyJBJK2brTcKibODSbsDX8TD/UwDwYDVR0TAQH/\
         BAUwAwEB/zAFBgMrZXADQQBwy/sqHmI9jE+yxxSVVj21XpnqTvBNgQ922q3KMSg6pds1SwcWaImhdPhRZipDn52EuBO6iCcaISLK\
         yllKZLQJ";
    /// Its key in PKCS#8, which does not tell the public one.
    pub(crate) const ED_KEY: &str = "MC4CAQAwBQYDK2VwBCIEIFrxUVUkw/jWbYk2nTgw3mJ0YAQtavKd3j5ro3tBftrc";
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::testing::{EC, EC_KEY, ED, ED_KEY, ISSUED, OTHER_EC_KEY, RSA, RSA_KEY, SELF_SIGNED};
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

    /// PKCS#8 without its wrapping: SEC 1 or PKCS#1.
    fn bare(key: &str) -> Vec<u8> {
        let key = der(key);
        let (body, _) = of(&key, SEQUENCE).unwrap();
        let (_, body) = of(body, INTEGER).unwrap();
        let (_, body) = of(body, SEQUENCE).unwrap();
        of(body, OCTET_STRING).unwrap().0.to_vec()
    }

    #[test]
    fn a_key_is_told_from_that_of_another_certificate_where_that_shows() {
        for (certificate, key, is_own) in [
            (EC, der(EC_KEY), Some(true)),
            (EC, bare(EC_KEY), Some(true)),
            (EC, der(OTHER_EC_KEY), Some(false)),
            (EC, bare(OTHER_EC_KEY), Some(false)),
            (RSA, der(RSA_KEY), Some(true)),
            (RSA, bare(RSA_KEY), Some(true)),
            (RSA, der(EC_KEY), Some(false)),
            (EC, der(RSA_KEY), Some(false)),
            (ED, der(ED_KEY), None),
            (EC, der(ED_KEY), None),
            (EC, Vec::new(), None),
        ] {
            assert_eq!(is_key_of(&der(certificate), &key), is_own, "{certificate}");
        }
    }

    #[test]
    fn what_was_cut_off_is_not_whole() {
        let whole = der(EC);
        assert!(is_whole(&whole) && !is_whole(&[whole.clone(), vec![0]].concat()));
        assert!((0..whole.len()).all(|length| !is_whole(&whole[..length])));
    }

    proptest! {
        #[test]
        fn any_key_is_survived(at in 0usize..200, byte in any::<u8>(), key in proptest::sample::select(vec![EC_KEY, RSA_KEY])) {
            let mut bytes = der(key);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = is_key_of(&der(EC), &bytes);
        }

        #[test]
        fn any_bytes_are_survived(at in 0usize..200, byte in any::<u8>()) {
            let mut bytes = der(SELF_SIGNED);
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = facts(&bytes);
        }
    }
}
