//! One request and its answer, on a connection of its own.

use std::error::Error;
use std::io;
use std::pin::pin;

use agent_core::preflight::{Reply, ReplyFault, Request};
use agent_core::secret::Secret;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderValue, Method};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls;

use super::tls::is_client_certificate;

/// Most of a body that is read: tokens are a few kilobytes.
const LONGEST: usize = 64 << 10;

/// A connection, with TLS or without. One type for both, so that the client is compiled once.
pub(super) type Stream = Box<dyn Io>;

/// What a connection can do.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Sends the request and reads the answer.
pub(super) async fn exchange(stream: Stream, request: &Request) -> Result<Reply, ReplyFault> {
    let handshake = http1::Builder::new().max_buf_size(LONGEST).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| fault(&error))?;
    let message = message(request).ok_or(ReplyFault::NotHttp)?;
    let mut connection = pin!(connection);
    let mut answered = pin!(async {
        let (parts, mut body) = sender.send_request(message).await?.into_parts();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            // A body that is cut off is what came of it: the status tells more.
            let Ok(frame) = frame else { break };
            if let Some(data) = frame.data_ref() {
                read.extend_from_slice(&data[..data.len().min(LONGEST - read.len())]);
            }
            if read.len() >= LONGEST {
                break;
            }
        }
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        Ok::<_, hyper::Error>(Reply { status: parts.status.as_u16(), headers, body: Secret::new(read) })
    });
    // The connection must be driven for the answer to come; it may end before the answer is taken from it.
    let answer = tokio::select! {
        biased;
        answer = &mut answered => answer,
        ended = &mut connection => match ended {
            Ok(()) => answered.await,
            // What the connection met says more than what the request makes of it.
            Err(error) => match answered.await {
                Ok(reply) => Ok(reply),
                Err(_) => Err(error),
            },
        },
    };
    answer.map_err(|error| fault(&error))
}

fn message(request: &Request) -> Option<http::Request<Full<Bytes>>> {
    let method = if request.form.is_some() { Method::POST } else { Method::GET };
    let mut message = http::Request::builder()
        .method(method)
        .uri(request.url.request_target().expose().as_str())
        .header(HOST, request.url.authority())
        .header(USER_AGENT, concat!("k3s-registry-agent/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close");
    if let Some(value) = &request.authorization {
        let mut value = HeaderValue::from_str(value.expose()).ok()?;
        value.set_sensitive(true);
        message = message.header(AUTHORIZATION, value);
    }
    let body = match &request.form {
        Some(form) => {
            message = message.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            Bytes::copy_from_slice(form.expose().as_bytes())
        }
        None => Bytes::new(),
    };
    message.body(Full::new(body)).ok()
}

fn fault(error: &hyper::Error) -> ReplyFault {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<io::Error>()
            && let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
            && is_client_certificate(tls)
        {
            return ReplyFault::ClientCertificate;
        }
        source = inner.source();
    }
    if error.is_parse() { ReplyFault::NotHttp } else { ReplyFault::Closed }
}
