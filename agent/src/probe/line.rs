//! One connection at a time to one host after the other, as a walk asks for them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_core::preflight::{Answer, NameFault, ReplyFault, Request, RouteFault, Target, TlsFault, Url};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::request::{Stream, exchange};
use super::tls::{Settings, Trusted};

/// A line to wherever the walk is.
pub(super) struct Line {
    settings: Result<Settings, TlsFault>,
    addresses: Vec<SocketAddr>,
    raw: Option<TcpStream>,
    stream: Option<Stream>,
}

impl Line {
    pub(super) fn of(target: &Target, trusted: &Arc<Trusted>) -> Self {
        Self { settings: Settings::of(&target.trust, trusted), addresses: Vec::new(), raw: None, stream: None }
    }

    /// By the node's own resolver: the one that containerd asks, if we are in its network.
    pub(super) async fn resolve(&mut self, url: &Url) -> Answer {
        self.raw = None;
        self.stream = None;
        match tokio::net::lookup_host((url.name(), url.port())).await {
            Ok(addresses) => {
                self.addresses = addresses.collect();
                match self.addresses.is_empty() {
                    true => Answer::NotResolved(NameFault::Unknown),
                    false => Answer::Resolved,
                }
            }
            // There is no code to tell them apart by, only glibc's words for EAI_AGAIN.
            Err(error) if error.to_string().contains("Temporary failure") => Answer::NotResolved(NameFault::Unanswered),
            Err(_) => Answer::NotResolved(NameFault::Unknown),
        }
    }

    /// To the first address that takes it. Each gets its part of the time: one that swallows packets must not cost the
    /// others theirs.
    pub(super) async fn connect(&mut self, limit: Duration) -> Answer {
        let share = limit / 2 / u32::try_from(self.addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut worst = None;
        let last = self.addresses.len().saturating_sub(1);
        for (position, address) in self.addresses.iter().enumerate() {
            let connected = if position == last {
                // Its end is that of the whole step.
                TcpStream::connect(address).await
            } else {
                timeout(share, TcpStream::connect(address))
                    .await
                    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            };
            match connected {
                Ok(stream) => {
                    self.raw = Some(stream);
                    return Answer::Connected;
                }
                Err(error) => worst = telling(worst, fault(&error)),
            }
        }
        Answer::NotConnected(worst.unwrap_or(RouteFault::Unreachable))
    }

    pub(super) async fn secure(&mut self, url: &Url) -> Answer {
        let settings = match &self.settings {
            Ok(settings) => settings,
            Err(fault) => return Answer::NotSecured(fault.clone()),
        };
        let Some(raw) = self.raw.take() else { return Answer::NotSecured(TlsFault::Closed) };
        match settings.secure(raw, url.name()).await {
            Ok(stream) => {
                self.stream = Some(stream);
                Answer::Secured
            }
            Err(fault) => Answer::NotSecured(fault),
        }
    }

    /// Sends a request on the connection that was just made: each has its own.
    pub(super) async fn send(&mut self, request: &Request) -> Answer {
        let raw = self.raw.take().map(|raw| Box::new(raw) as Stream);
        let Some(stream) = self.stream.take().or(raw) else { return Answer::NotReplied(ReplyFault::Closed) };
        match exchange(stream, request).await {
            Ok(reply) => Answer::Replied(reply),
            Err(fault) => Answer::NotReplied(fault),
        }
    }
}

fn fault(error: &io::Error) -> RouteFault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => RouteFault::Refused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::TimedOut => {
            RouteFault::Unreachable
        }
        _ => RouteFault::Closed,
    }
}

/// Of several addresses the fault that tells most: a node without IPv6 has no route to half of the internet.
fn telling(known: Option<RouteFault>, new: RouteFault) -> Option<RouteFault> {
    match known {
        None | Some(RouteFault::Unreachable) => Some(new),
        Some(RouteFault::Refused | RouteFault::Closed) => known,
    }
}
