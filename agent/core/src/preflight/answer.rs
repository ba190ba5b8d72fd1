//! What the edge tells a walk: how a step ended, in words that hold no text of a library's error.

use std::fmt;

use crate::secret::Secret;

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name has addresses.
    Resolved,
    /// It has none.
    NotResolved(NameFault),
    /// One of them took the connection.
    Connected,
    /// None did.
    NotConnected(RouteFault),
    /// TLS is spoken and the certificate accepted.
    Secured,
    /// It is not.
    NotSecured(TlsFault),
    /// An answer to the request.
    Replied(Reply),
    /// None.
    NotReplied(ReplyFault),
    /// The time for this host was up.
    TimedOut,
    /// containerd would go through a proxy here, which this program does not.
    Proxied,
    /// The request was not sent: another host refused the same credential a moment ago.
    Withheld {
        /// Which host.
        refused_by: String,
    },
}

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameFault {
    /// There is no such name, or it has no address.
    Unknown,
    /// No nameserver answers, or it says that it cannot tell.
    Unanswered,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteFault {
    /// Somebody is there and nothing listens on the port.
    Refused,
    /// No way there.
    Unreachable,
    /// Closed, or anything else.
    Closed,
}

/// The names of a certificate, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

/// Why TLS was not agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// Nobody trusted signed the certificate. The names are there if it is also for others than the host.
    Untrusted(Option<Names>),
    /// Signed by somebody trusted, and for others than the host.
    WrongName(Names),
    /// Its time is over.
    Expired,
    /// Its time has not begun; or the node's clock is wrong.
    NotYetValid,
    /// The other side answers plain http.
    HttpSpoken,
    /// It answers something else that is no TLS.
    NotTls,
    /// The other side demands a client certificate, or does not take the one that was shown.
    ClientCertificate,
    /// A file of the configuration cannot be used: containerd fails every pull of the host.
    Material(String),
    /// The connection was closed in the middle.
    Closed,
    /// Refused by the means of this program alone, with what it says: containerd may well accept it.
    Undecided(String),
}

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFault {
    /// What came is no HTTP.
    NotHttp,
    /// The connection was closed.
    Closed,
    /// The other side demands a client certificate: in TLS 1.3 it says so only now.
    ClientCertificate,
}

/// An answer to a request. The body of a token's answer is the token.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Headers, names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    /// The first bytes of the body.
    pub body: Secret<Vec<u8>>,
}

impl Reply {
    /// The first header of a name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All headers of a name.
    pub fn headers_of<'r>(&'r self, name: &'r str) -> impl Iterator<Item = &'r str> {
        self.headers.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the body holds this text, in whatever case.
    pub(super) fn says(&self, text: &str) -> bool {
        self.body.satisfies(|body| String::from_utf8_lossy(body).to_ascii_lowercase().contains(text))
    }
}

/// Headers may hold cookies and echoes of what was sent.
impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, headers: _, body: _ } = self;
        f.debug_struct("Reply").field("status", status).finish_non_exhaustive()
    }
}

/// `a.example.com, b.example.com`, at most three.
impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(names) = self;
        let shown: Vec<String> = names.iter().take(3).map(|name| super::words::clean(name)).collect();
        match (shown.is_empty(), names.len() > shown.len()) {
            (true, _) => f.write_str("no name at all"),
            (false, true) => write!(f, "{} and {} more", shown.join(", "), names.len() - shown.len()),
            (false, false) => f.write_str(&shown.join(", ")),
        }
    }
}
