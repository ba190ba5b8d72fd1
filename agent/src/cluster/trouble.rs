//! What can go wrong with a request, without any of its content: the text of a decoding error quotes what it read.

use std::error::Error;
use std::io;

/// Why the API server did not give what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// 401 or 403: a right is missing, or the server has not loaded its rules yet.
    #[error("the API server forbids it ({0})")]
    Forbidden(u16),
    /// 404.
    #[error("it does not exist")]
    NotFound,
    /// 409: somebody wrote in between.
    #[error("somebody else wrote in between")]
    Conflict,
    /// 410: the version to go on from is too old.
    #[error("the version to go on from is too old")]
    Gone,
    /// Any other error answer.
    #[error("the API server answers {code} {reason}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// The word of the API's Status (`TooManyRequests`), which holds no content.
        reason: String,
    },
    /// No answer in time. The request may have been carried out.
    #[error("the API server does not answer in time")]
    TimedOut,
    /// No connection, or it broke.
    #[error("the API server cannot be reached ({0})")]
    Unreachable(String),
    /// The answer is not what the API promises.
    #[error("the answer of the API server cannot be decoded")]
    Malformed,
}

impl Trouble {
    /// The word in metrics and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Forbidden(_) => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Gone => "gone",
            Self::Refused { .. } => "refused",
            Self::TimedOut => "timed_out",
            Self::Unreachable(_) => "unreachable",
            Self::Malformed => "malformed",
        }
    }

    /// Tells whether a write with this answer was certainly not carried out. Anything else counts as carried out by whoever
    /// would do harm by writing twice: a server's error, silence, and an answer that cannot be read prove nothing.
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::Forbidden(_) | Self::NotFound | Self::Conflict | Self::Gone => true,
            Self::Refused { code, .. } => *code >= 400 && *code < 500,
            Self::TimedOut | Self::Unreachable(_) | Self::Malformed => false,
        }
    }

    pub(crate) fn of_status(status: &kube::core::Status) -> Self {
        match status.code {
            401 | 403 => Self::Forbidden(status.code),
            404 => Self::NotFound,
            409 => Self::Conflict,
            410 => Self::Gone,
            code => Self::Refused { code, reason: word(&status.reason) },
        }
    }
}

impl From<&kube::Error> for Trouble {
    fn from(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::Malformed,
            // The rest is one of transport, authentication or set-up. Only an I/O error's own words are shown: the
            // output of a credential plugin may stand in others.
            other => Self::Unreachable(transport(other)),
        }
    }
}

fn transport(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    let mut words = "no connection".to_owned();
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            words = io.to_string();
        }
        cause = error.source();
    }
    words
}

/// A reason is a word; anything else is from a proxy.
fn word(reason: &str) -> String {
    reason.chars().take_while(char::is_ascii_alphabetic).take(40).collect()
}
