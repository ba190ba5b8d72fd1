//! Whether a text is PEM that containerd will take: a file it cannot read fails every pull of the host.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::certificate;
use crate::secret::Secret;

/// What is wrong with a PEM file; never shows its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PemError {
    /// No block of the right kind.
    #[error("holds no whole certificate in PEM form (a block from `-----BEGIN CERTIFICATE-----` to its END line)")]
    NoCertificate,
    /// No private key.
    #[error("holds no whole private key in PEM form (a block from `-----BEGIN PRIVATE KEY-----` to its END line)")]
    NoKey,
    /// containerd has nobody to ask for the passphrase.
    #[error("holds an encrypted private key, which containerd cannot open: decrypt it with `openssl pkey`")]
    EncryptedKey,
    /// A key where only certificates belong.
    #[error("holds a private key beside the certificates: take it out")]
    KeyAmongCertificates,
    /// containerd fails every pull of the host.
    #[error(
        "is not the key of the certificate in `tls.crt` (of the first one there, if it holds several): give both of one pair"
    )]
    KeyOfAnother,
}

/// Demands at least one certificate, and no private key.
pub(super) fn certificates(bytes: &[u8]) -> Result<(), PemError> {
    let blocks = blocks(bytes);
    if blocks.iter().any(|block| is_key(&block.label)) {
        return Err(PemError::KeyAmongCertificates);
    }
    match blocks.iter().any(|block| block.label == "CERTIFICATE" && !block.has_headers) {
        true => Ok(()),
        false => Err(PemError::NoCertificate),
    }
}

/// Demands one private key that can be read without a passphrase.
pub(super) fn private_key(bytes: &[u8]) -> Result<(), PemError> {
    match blocks(bytes).iter().find(|block| is_key(&block.label)) {
        None => Err(PemError::NoKey),
        Some(block) if block.has_headers || block.label.starts_with("ENCRYPTED") => Err(PemError::EncryptedKey),
        Some(_) => Ok(()),
    }
}

/// Demands that the key is that of the first certificate, as far as that shows.
pub(super) fn pair(certificates: &[u8], key: &[u8]) -> Result<(), PemError> {
    let keys = blocks(key);
    let key = keys.iter().find(|block| is_key(&block.label)).and_then(|block| block.der.as_ref());
    let is_own = match (certificates_in(certificates).first(), key) {
        (Some(first), Some(key)) => certificate::is_key_of(first, key.expose()),
        (None, _) | (_, None) => None,
    };
    if is_own == Some(false) { Err(PemError::KeyOfAnother) } else { Ok(()) }
}

/// Tells whether a certificate or a key has begun that is no whole one, which containerd passes over. Other blocks, as the
/// parameters that stand before many keys, are nobody's business.
pub(super) fn has_broken_block(bytes: &[u8]) -> bool {
    let matters = |label: &str| label == "CERTIFICATE" || is_key(label);
    let text = String::from_utf8_lossy(bytes);
    let begun = text.lines().filter_map(|line| marker(line.trim(), "BEGIN")).filter(|label| matters(label)).count();
    begun != blocks(bytes).iter().filter(|block| matters(&block.label)).count()
}

fn is_key(label: &str) -> bool {
    label == "PRIVATE KEY" || label.ends_with(" PRIVATE KEY")
}

/// The certificates of a text, in DER; what is none is passed over.
pub(super) fn certificates_in(bytes: &[u8]) -> Vec<Vec<u8>> {
    let blocks = blocks(bytes).into_iter().filter(|block| block.label == "CERTIFICATE" && !block.has_headers);
    blocks.filter_map(|block| block.der.map(|der| der.expose().clone())).collect()
}

struct Block {
    label: String,
    has_headers: bool,
    der: Option<Secret<Vec<u8>>>,
}

/// The blocks that are whole and whose content is base64 of a DER sequence.
fn blocks(bytes: &[u8]) -> Vec<Block> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    let mut found = Vec::new();
    let mut open: Option<(String, Secret<String>, bool)> = None;
    for line in text.lines().map(str::trim) {
        if let Some(label) = marker(line, "BEGIN") {
            open = Some((label.to_owned(), Secret::default(), false));
        } else if let Some(label) = marker(line, "END") {
            if let Some((begun, body, has_headers)) = open.take()
                && begun == label
            {
                let der = der(&body);
                // Headers of old encrypted keys stand before the body and are no part of it; what they say of the
                // key is enough.
                if has_headers || der.is_some() {
                    found.push(Block { label: begun, has_headers, der });
                }
            }
        } else if let Some((label, body, has_headers)) = open.take() {
            let is_header = line.contains(':');
            let body = if is_header { body } else { Secret::new(format!("{}{line}", body.expose())) };
            open = Some((label, body, has_headers || is_header));
        }
    }
    found
}

fn marker<'t>(line: &'t str, word: &str) -> Option<&'t str> {
    line.strip_prefix("-----")?.strip_prefix(word)?.strip_prefix(' ')?.strip_suffix("-----")
}

fn der(body: &Secret<String>) -> Option<Secret<Vec<u8>>> {
    STANDARD
        .decode(body.expose())
        .map(Secret::new)
        .ok()
        .filter(|der| der.expose().first() == Some(&0x30) && certificate::is_whole(der.expose()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMAIA\nAA==\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nMAA=\n-----END EC PRIVATE KEY-----\n";

    #[test]
    fn a_block_that_is_neither_certificate_nor_key_is_not_missed() {
        // As `openssl ecparam -genkey` writes it: an OID, and then the key.
        let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
        assert!(!has_broken_block(format!("{parameters}{KEY}").as_bytes()));
        assert!(has_broken_block(format!("{parameters}{KEY}-----BEGIN EC PRIVATE KEY-----\nMAA=\n").as_bytes()));
        assert!(has_broken_block(b"-----BEGIN CERTIFICATE-----\nMAIA\n-----END CERTIFICATE-----\n"));
    }

    #[test]
    fn certificates_are_whole_blocks_of_der_and_nothing_secret() {
        let bundle = format!("# a bundle\n{CERTIFICATE}\r\n{CERTIFICATE}");
        assert_eq!(certificates(bundle.as_bytes()), Ok(()));
        for bad in [
            "",
            "MIIB",
            "-----BEGIN CERTIFICATE-----\nMIIB\n",
            "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END PRIVATE KEY-----",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "-----BEGIN TRUSTED CERTIFICATE-----\nMIIB\n-----END TRUSTED CERTIFICATE-----",
        ] {
            assert_eq!(certificates(bad.as_bytes()), Err(PemError::NoCertificate), "{bad}");
        }
        assert_eq!(certificates(b"0\x82\x01\xff"), Err(PemError::NoCertificate), "DER");
        assert_eq!(certificates(format!("{CERTIFICATE}{KEY}").as_bytes()), Err(PemError::KeyAmongCertificates));
    }

    #[test]
    fn a_block_that_was_cut_off_shows_among_whole_ones() {
        let cut = "-----BEGIN CERTIFICATE-----\nMAIA\n";
        for (text, is_broken) in [
            (format!("{CERTIFICATE}{CERTIFICATE}{KEY}"), false),
            (format!("{CERTIFICATE}{cut}"), true),
            (format!("{cut}{CERTIFICATE}"), true),
            (format!("{CERTIFICATE}{cut}-----END CERTIFICATE-----\n"), true),
        ] {
            assert_eq!(has_broken_block(text.as_bytes()), is_broken, "{text}");
        }
    }

    #[test]
    fn a_key_must_be_readable_without_a_passphrase() {
        assert_eq!(private_key(KEY.as_bytes()), Ok(()));
        assert_eq!(private_key(CERTIFICATE.as_bytes()), Err(PemError::NoKey));
        let pkcs8 = KEY.replace("EC PRIVATE", "ENCRYPTED PRIVATE");
        assert_eq!(private_key(pkcs8.as_bytes()), Err(PemError::EncryptedKey));
        let old = KEY.replace("MAA=", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMAA=");
        assert_eq!(private_key(old.as_bytes()), Err(PemError::EncryptedKey));
    }
}
