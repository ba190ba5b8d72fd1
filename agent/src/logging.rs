//! Logs that never block: a bounded queue, a thread of its own that writes to stderr, and what does not fit is dropped and
//! counted. While k3s is down nobody reads the container's stderr, and a blocked write would stop the undo.

mod lossy;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::format::Writer as FmtWriter;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, registry};

pub use self::lossy::Lossy;

/// What is logged unless the operator says otherwise.
pub const DEFAULT_FILTER: &str = "info";

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error("cannot read the log filter")]
    Filter(#[source] ParseError),
    /// stderr cannot be duplicated, or no thread be started.
    #[error("cannot set up the writer of logs")]
    Writer(#[source] io::Error),
    /// Somebody else set a subscriber.
    #[error("logging is set up already")]
    Twice,
}

/// Sets logging up for the process: subscriber, writer and panic hook. The filter is as in `RUST_LOG`.
///
/// # Errors
///
/// [`LoggingError`]: what was being set up.
pub fn init(format: Format, filter: Option<&str>) -> Result<Lossy, LoggingError> {
    // A descriptor of its own: std's stderr has a lock, which a blocked write would hold.
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(LoggingError::Writer)?;
    let lossy = Lossy::start(format, File::from(stderr)).map_err(LoggingError::Writer)?;
    let subscriber = subscriber(&lossy, filter.unwrap_or(DEFAULT_FILTER)).map_err(LoggingError::Filter)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::Twice)?;
    let last = lossy.clone();
    std::panic::set_hook(Box::new(move |panic| last.last_words(panic)));
    Ok(lossy)
}

/// Makes the subscriber. No filter lifts the cap on what libraries may say.
///
/// # Errors
///
/// The filter is not one.
pub fn subscriber(lossy: &Lossy, filter: &str) -> Result<impl Subscriber + Send + Sync + use<>, ParseError> {
    let filter = filter.parse::<Targets>()?;
    let writer = lossy.clone();
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        // It would say them by a blocking write to stderr.
        .log_internal_errors(false)
        .with_writer(move || writer.clone());
    let lines = match lossy.format() {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().boxed(),
    };
    Ok(registry().with(lines).with(filter).with(cap()))
}

/// What libraries may say at most. kube-client prints the whole body of an answer that does not decode, at WARN, and
/// parts of others at DEBUG; kube-runtime prints decoding errors, which quote values. No filter must turn that on.
fn cap() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("k3s_registry_agent", LevelFilter::TRACE)
        .with_target("kube_client", LevelFilter::ERROR)
        .with_target("kube_runtime", LevelFilter::ERROR)
        .with_target("hyper", LevelFilter::DEBUG)
        .with_target("hyper_util", LevelFilter::DEBUG)
}

impl Format {
    /// A line that does not come from the subscriber.
    fn line(self, level: &str, message: &str, dropped: Option<u64>) -> Box<[u8]> {
        let mut time = String::new();
        // A line without a time is better than none.
        let _ = SystemTime.format_time(&mut FmtWriter::new(&mut time));
        let line = match self {
            Self::Text => {
                let dropped = dropped.map(|dropped| format!(" dropped={dropped}")).unwrap_or_default();
                format!("{time} {level:>5} k3s_registry_agent::logging: {message}{dropped}\n")
            }
            Self::Json => {
                let mut fields = serde_json::json!({"message": message});
                if let Some(dropped) = dropped {
                    fields["dropped"] = dropped.into();
                }
                let line = serde_json::json!({
                    "timestamp": time, "level": level, "fields": fields, "target": "k3s_registry_agent::logging",
                });
                format!("{line}\n")
            }
        };
        line.into_bytes().into()
    }
}

/// Message and place. A message that was put together may hold what it is about, so only a literal is shown, and what
/// the language itself says in numbers.
fn panic_message(panic: &PanicHookInfo<'_>) -> String {
    const IN_NUMBERS: [&str; 3] = ["index out of bounds: the len is ", "range end index ", "range start index "];
    let literal = panic.payload().downcast_ref::<&'static str>().copied();
    let formatted = panic.payload().downcast_ref::<String>().map(String::as_str);
    let numbers = formatted.filter(|text| IN_NUMBERS.iter().any(|start| text.starts_with(start)));
    let message = literal.or(numbers).unwrap_or("the message is withheld, since it may hold a secret");
    match panic.location() {
        Some(at) => format!("panicked at {}:{}:{}: {message}", at.file(), at.line(), at.column()),
        None => format!("panicked: {message}"),
    }
}
