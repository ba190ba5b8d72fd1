//! TLS with a target's settings, and why it failed. Go is what containerd judges with: where rustls is stricter, that is
//! said and not called a fault.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use agent_core::certificate::{Facts, facts};
use agent_core::preflight::{Names, TlsFault, Trust};
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::request::Stream;

/// The node's own trust.
#[derive(Debug)]
pub(super) struct Trusted {
    certificates: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Trusted {
    pub(super) fn of(files: &[Vec<u8>]) -> Self {
        let mut certificates: Vec<_> = files.iter().flat_map(|file| certificates(file)).collect();
        // The bundle holds what lies beside it file by file.
        certificates.sort_by(|a, b| a.as_ref().cmp(b.as_ref()));
        certificates.dedup();
        Self { certificates, provider: Arc::new(ring::default_provider()) }
    }
}

/// The certificates of a PEM text; what is none is passed over.
fn certificates(pem: &[u8]) -> impl Iterator<Item = CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok)
}

/// How TLS is spoken with a target and with its realm.
pub(super) struct Settings {
    connector: TlsConnector,
    verifier: Arc<Verifier>,
}

impl Settings {
    pub(super) fn of(trust: &Trust, trusted: &Trusted) -> Result<Self, TlsFault> {
        let material = |what: &str| TlsFault::Material(what.to_owned());
        let mut roots = trusted.certificates.clone();
        for bundle in &trust.ca {
            let before = roots.len();
            roots.extend(certificates(bundle.expose()));
            if roots.len() == before {
                return Err(material("of the CA, which holds no certificate,"));
            }
        }
        let verifier = Arc::new(Verifier::of(trust.skip_verify, roots, trusted.provider.clone()));
        let builder = ClientConfig::builder_with_provider(trusted.provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(|_| material("of the provider"))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier.clone());
        let config = match &trust.client {
            None => builder.with_no_client_auth(),
            Some(client) => {
                let chain = certificates(client.certificate.expose()).collect();
                let key = PrivateKeyDer::from_pem_slice(client.key.expose());
                let key = key.map_err(|_| material("of the client's key, which holds none,"))?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|_| material("of the client's certificate, which does not belong to its key,"))?
            }
        };
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), verifier })
    }

    pub(super) async fn secure(&self, raw: TcpStream, name: &str) -> Result<Stream, TlsFault> {
        let server = ServerName::try_from(name.to_owned());
        let server = server.map_err(|_| TlsFault::Undecided("a name that no certificate can have".to_owned()))?;
        self.verifier.clear();
        let heard = Arc::new(Mutex::new(Vec::new()));
        match self.connector.connect(server, Heard { inner: raw, heard: heard.clone() }).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                let heard = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(self.verifier.clear().unwrap_or_else(|| handshake_fault(&error, &heard)))
            }
        }
    }
}

/// Why a handshake failed, if not for the certificate.
fn handshake_fault(error: &io::Error, heard: &[u8]) -> TlsFault {
    if heard.starts_with(b"HTTP/") {
        return TlsFault::HttpSpoken;
    }
    // A record begins with its type, from 20 on, and the version, whose first byte has always been 3.
    if let [kind, version, ..] = heard
        && !((20..=24).contains(kind) && *version == 3)
    {
        return TlsFault::NotTls;
    }
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(error) if is_client_certificate(error) => TlsFault::ClientCertificate,
        // A server that knows no such name closes this way; containerd fails by it too.
        Some(Error::AlertReceived(AlertDescription::UnrecognisedName | AlertDescription::InternalError)) => {
            TlsFault::Closed
        }
        Some(Error::AlertReceived(alert)) => TlsFault::Undecided(format!("the server refuses with alert {alert:?}")),
        Some(Error::InvalidMessage(_)) => TlsFault::Undecided("what answers is no TLS".to_owned()),
        Some(Error::PeerIncompatible(_)) => TlsFault::Undecided("no common version of TLS or cipher".to_owned()),
        Some(_) => TlsFault::Undecided("the handshake failed".to_owned()),
        None => TlsFault::Closed,
    }
}

/// Whether the other side says that our certificate is missing or not taken.
pub(super) fn is_client_certificate(error: &Error) -> bool {
    use AlertDescription as A;
    let Error::AlertReceived(alert) = error else { return false };
    matches!(
        alert,
        A::CertificateRequired
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::DecryptError
    )
}

/// Judges a server's certificate, and keeps why it was refused.
#[derive(Debug)]
struct Verifier {
    skips: bool,
    /// `None` where nobody at all is trusted.
    inner: Option<Arc<WebPkiServerVerifier>>,
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    fault: Mutex<Option<TlsFault>>,
}

impl Verifier {
    fn of(skips: bool, roots: Vec<CertificateDer<'static>>, provider: Arc<CryptoProvider>) -> Self {
        let mut store = RootCertStore::empty();
        if !skips {
            store.add_parsable_certificates(roots.iter().cloned());
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone()).build().ok();
        Self { skips, inner, roots, provider, fault: Mutex::new(None) }
    }

    fn clear(&self) -> Option<TlsFault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), TlsFault> {
        if self.skips {
            return Ok(());
        }
        let error = match &self.inner {
            None => Error::InvalidCertificate(CertificateError::UnknownIssuer),
            Some(inner) => match inner.verify_server_cert(leaf, chain, name, &[], now) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            },
        };
        let Error::InvalidCertificate(error) = error else { return Err(TlsFault::Undecided("its form".to_owned())) };
        use CertificateError as C;
        Err(match error {
            C::Expired | C::ExpiredContext { .. } => TlsFault::Expired,
            C::NotValidYet | C::NotValidYetContext { .. } => TlsFault::NotYetValid,
            C::NotValidForName => TlsFault::WrongName(Names::default()),
            C::NotValidForNameContext { presented, .. } => TlsFault::WrongName(bare(&presented)),
            // A signature that does not fit is of a CA with the same name and another key: a new one, most likely.
            C::UnknownIssuer | C::BadSignature => TlsFault::Untrusted(other_names(leaf, name)),
            // rustls takes no certificate of a CA for a server's, and `openssl req -x509` makes just that.
            other if format!("{other:?}").contains("CaUsedAsEndEntity") => return self.own_authority(leaf, name, now),
            other => TlsFault::Undecided(words(&other)),
        })
    }

    /// A server that shows a CA's certificate. To Go it is as good as any if it is itself what is trusted.
    fn own_authority(&self, leaf: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> Result<(), TlsFault> {
        let undecided = || TlsFault::Undecided("a CA's own certificate, used by a server".to_owned());
        let Facts { not_before, not_after, is_self_issued } = facts(leaf).ok_or_else(undecided)?;
        let now =
            i64::try_from(now.as_secs()).ok().and_then(|now| Timestamp::from_second(now).ok()).ok_or_else(undecided)?;
        let is_trusted = self.roots.iter().any(|root| root.as_ref() == leaf.as_ref());
        match (is_trusted, is_self_issued) {
            (false, true) => return Err(TlsFault::Untrusted(other_names(leaf, name))),
            (false, false) => return Err(undecided()),
            (true, _) => {}
        }
        if now > not_after {
            return Err(TlsFault::Expired);
        }
        if now < not_before {
            return Err(TlsFault::NotYetValid);
        }
        other_names(leaf, name).map_or(Ok(()), |names| Err(TlsFault::WrongName(names)))
    }
}

/// The names of a certificate that is not for this one.
fn other_names(leaf: &CertificateDer<'_>, name: &ServerName<'_>) -> Option<Names> {
    let parsed = ParsedCertificate::try_from(leaf).ok()?;
    match verify_server_name(&parsed, name) {
        Ok(()) => None,
        Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. })) => {
            Some(bare(&presented))
        }
        Err(_) => Some(Names::default()),
    }
}

/// `DnsName("a.example.com")` without its wrapping.
fn bare(presented: &[String]) -> Names {
    let name = |text: &String| match text.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")")) {
        Some(name) => name.to_owned(),
        None => text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(text).to_owned(),
    };
    Names(presented.iter().map(name).collect())
}

/// What rustls says of a certificate that it does not take; nothing of the certificate's own text.
fn words(error: &CertificateError) -> String {
    match error {
        CertificateError::BadEncoding => "its encoding",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => "its purpose",
        CertificateError::Revoked => "it is revoked",
        CertificateError::UnhandledCriticalExtension => "an extension that is not known",
        _ => "its form or algorithm",
    }
    .to_owned()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.judge(end_entity, intermediates, server_name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(fault) => {
                *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.skips {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.skips {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Keeps the first bytes that come, to tell a server that answers http from one that answers nonsense.
struct Heard {
    inner: TcpStream,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Heard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let new = &buf.filled()[before..];
        let wanted = 5_usize.saturating_sub(heard.len()).min(new.len());
        heard.extend_from_slice(&new[..wanted]);
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
