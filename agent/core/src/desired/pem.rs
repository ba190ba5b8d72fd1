//! Whether a text is PEM that containerd will take: a file it cannot read fails every pull of the host.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

/// What is wrong with a PEM file; never shows its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PemError {
    /// No block of the right kind.
    #[error("holds no certificate in PEM form (a block from `-----BEGIN CERTIFICATE-----` to its END line)")]
    NoCertificate,
    /// No private key.
    #[error("holds no private key in PEM form (a block from `-----BEGIN PRIVATE KEY-----` to its END line)")]
    NoKey,
    /// containerd has nobody to ask for the passphrase.
    #[error("holds an encrypted private key, which containerd cannot open: decrypt it with `openssl pkey`")]
    EncryptedKey,
    /// A key where only certificates belong.
    #[error("holds a private key beside the certificates: take it out")]
    KeyAmongCertificates,
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
    STANDARD.decode(body.expose()).map(Secret::new).ok().filter(|der| der.expose().first() == Some(&0x30))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIB\nAAAA\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nMIIB\n-----END EC PRIVATE KEY-----\n";

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
            "-----BEGIN TRUSTED CERTIFICATE-----\nMIIB\n-----END TRUSTED CERTIFICATE-----",
        ] {
            assert_eq!(certificates(bad.as_bytes()), Err(PemError::NoCertificate), "{bad}");
        }
        assert_eq!(certificates(b"0\x82\x01\xff"), Err(PemError::NoCertificate), "DER");
        assert_eq!(certificates(format!("{CERTIFICATE}{KEY}").as_bytes()), Err(PemError::KeyAmongCertificates));
    }

    #[test]
    fn a_key_must_be_readable_without_a_passphrase() {
        assert_eq!(private_key(KEY.as_bytes()), Ok(()));
        assert_eq!(private_key(CERTIFICATE.as_bytes()), Err(PemError::NoKey));
        let pkcs8 = KEY.replace("EC PRIVATE", "ENCRYPTED PRIVATE");
        assert_eq!(private_key(pkcs8.as_bytes()), Err(PemError::EncryptedKey));
        let old = KEY.replace("MIIB", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nMIIB");
        assert_eq!(private_key(old.as_bytes()), Err(PemError::EncryptedKey));
    }
}
