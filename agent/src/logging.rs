//! Logs that never block: a bounded queue, a thread of its own that writes to stderr, and what does not fit is dropped and
//! counted. While k3s is down nobody reads the container's stderr, and a blocked write would stop the undo.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::format::Writer as FmtWriter;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, registry};

/// What is logged unless the operator says otherwise.
pub const DEFAULT_FILTER: &str = "info";

/// Bytes that wait to be written. Resident memory is bounded, and a trace of a few seconds fits.
const LIMIT: usize = 256 << 10;

/// How long a panicking process waits for its last words to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

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

/// The queue of lines. Cheap to clone; each `write` is one line and never blocks.
#[derive(Clone, Debug)]
pub struct Lossy(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is something to write.
    wake: Condvar,
    /// Everything is written.
    idle: Condvar,
    dropped: Arc<AtomicU64>,
    format: Format,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Dropped and not said yet.
    unsaid: u64,
    is_writing: bool,
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
    let lines = match lossy.0.format {
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

impl Lossy {
    /// Starts the thread that writes. It ends with the process.
    ///
    /// # Errors
    ///
    /// No thread could be started.
    pub fn start(format: Format, mut sink: impl Write + Send + 'static) -> io::Result<Self> {
        let lossy = Self(Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            idle: Condvar::new(),
            dropped: Arc::default(),
            format,
        }));
        let shared = lossy.0.clone();
        thread::Builder::new().name("log".to_owned()).stack_size(128 << 10).spawn(move || {
            loop {
                let line = shared.next();
                if write(&mut sink, &line).is_err() {
                    shared.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        })?;
        Ok(lossy)
    }

    /// How many lines were dropped, for the metrics.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.0.dropped.clone()
    }

    /// Waits until everything is written, at most so long. For the end of the process.
    pub fn flush(&self, limit: Duration) {
        let queue = self.0.lock();
        drop(self.0.idle.wait_timeout_while(queue, limit, |queue| !queue.is_idle()));
    }

    /// Says that the process panics. Waits a moment for it to be written, and never for ever: not even for the lock,
    /// which the panicking thread itself may hold.
    fn last_words(&self, panic: &PanicHookInfo<'_>) {
        let line = self.0.format.line("ERROR", &panic_message(panic), None);
        for _ in 0..100 {
            let mut queue = match self.0.queue.try_lock() {
                Ok(queue) => queue,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    thread::sleep(LAST_WORDS / 100);
                    continue;
                }
            };
            queue.push(line);
            drop(queue);
            self.0.wake.notify_one();
            self.flush(LAST_WORDS);
            return;
        }
    }
}

/// Each call is one line: the subscriber hands over a whole event.
impl Write for Lossy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Shared { queue: _, wake, idle: _, dropped, format } = &*self.0;
        let mut queue = self.0.lock();
        if queue.bytes + line.len() > LIMIT {
            queue.unsaid += 1;
            dropped.fetch_add(1, Ordering::Relaxed);
        } else {
            // Said where the gap is.
            if let Some(notice) = queue.notice(*format) {
                queue.push(notice);
            }
            queue.push(line.into());
            wake.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// A panic elsewhere leaves the queue as good as it was.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next line, waiting for one. The one before is written.
    fn next(&self) -> Box<[u8]> {
        let mut queue = self.lock();
        queue.is_writing = false;
        loop {
            let line = queue.lines.pop_front();
            if let Some(line) = &line {
                queue.bytes -= line.len();
            }
            // Said also if nothing follows that would say it.
            if let Some(line) = line.or_else(|| queue.notice(self.format)) {
                queue.is_writing = true;
                return line;
            }
            self.idle.notify_all();
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue {
    fn push(&mut self, line: Box<[u8]>) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn notice(&mut self, format: Format) -> Option<Box<[u8]>> {
        let dropped = std::mem::take(&mut self.unsaid);
        (dropped > 0).then(|| format.line("WARN", "log lines dropped while nobody read them", Some(dropped)))
    }

    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.unsaid == 0 && !self.is_writing
    }
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

/// Blocks, on its own thread. stderr may be non-blocking: whoever shares its description can make it so.
fn write(sink: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match sink.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => line = &line[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(50)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    /// A pipe that takes not one byte more.
    fn full_pipe() -> (PipeReader, io::PipeWriter, usize) {
        let (reader, mut writer) = io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut filled = 0;
        while let Ok(length) = writer.write(&[b'.'; 4096]) {
            filled += length;
        }
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        (reader, writer, filled)
    }

    fn lines(mut reader: PipeReader, until: &str) -> String {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.contains(until) {
            let length = reader.read(&mut buffer).unwrap();
            text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
        }
        text
    }

    #[test]
    fn a_pipe_that_nobody_reads_stops_nobody_and_the_loss_is_said_when_it_is_read_again() {
        for format in [Format::Text, Format::Json] {
            let (mut reader, writer, filled) = full_pipe();
            let lossy = Lossy::start(format, writer).unwrap();
            let guard = tracing::subscriber::set_default(subscriber(&lossy, "trace").unwrap());
            // A writer that blocks hangs here for ever.
            for number in 0..100_000 {
                tracing::trace!(number, "a line that nobody reads");
            }
            let dropped = lossy.dropped().load(Ordering::Relaxed);
            assert!(dropped > 90_000, "{dropped}");
            reader.read_exact(&mut vec![0; filled]).unwrap();
            let text = lines(reader, "log lines dropped while nobody read them");
            drop(guard);
            let count = match format {
                Format::Text => format!("dropped={dropped}"),
                Format::Json => format!("\"dropped\":{dropped}"),
            };
            assert!(text.contains(&count), "{}", &text[text.len() - 300..]);
            assert_eq!(text.matches("a line that nobody reads").count() as u64 + dropped, 100_000);
        }
    }

    #[test]
    fn the_gap_is_said_before_the_line_that_follows_it() {
        let (reader, mut lossy) = started();
        {
            // As if a burst had just been dropped.
            let mut queue = lossy.0.lock();
            queue.unsaid = 3;
            queue.is_writing = true;
        }
        lossy.write_all(b"after\n").unwrap();
        let text = lines(reader, "after\n");
        let (gap, after) = (text.find("dropped=3").unwrap(), text.find("after").unwrap());
        assert!(gap < after, "{text}");
    }

    fn started() -> (PipeReader, Lossy) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, Lossy::start(Format::Text, writer).unwrap())
    }

    #[test]
    fn no_filter_lifts_the_cap_on_libraries_that_print_bodies() {
        let (reader, mut lossy) = started();
        tracing::subscriber::with_default(
            subscriber(&lossy, "trace,kube_client=trace,kube_client::client=trace").unwrap(),
            || {
                tracing::warn!(target: "kube_client::client", "canary");
                tracing::debug!(target: "kube_runtime::watcher", "canary");
                tracing::trace!(target: "hyper::proto::h1::io", "canary");
                tracing::debug!(target: "some_library", "canary");
                tracing::trace!("ours");
                tracing::error!(target: "kube_client::client::builder", "allowed");
            },
        );
        lossy.write_all(b"end\n").unwrap();
        let text = lines(reader, "end\n");
        assert!(text.contains("ours") && text.contains("allowed") && !text.contains("canary"), "{text}");
    }

    #[test]
    fn a_panic_is_said_with_its_place_and_without_what_was_put_together() {
        let (reader, lossy) = started();
        let held = HOOK.lock().unwrap();
        let before = std::panic::take_hook();
        let last = lossy.clone();
        std::panic::set_hook(Box::new(move |panic| last.last_words(panic)));
        let secret = "canary-hunter2".to_owned();
        let empty: Vec<u8> = Vec::new();
        let _ = catch_unwind(AssertUnwindSafe(|| panic!("{secret}")));
        let _ = catch_unwind(AssertUnwindSafe(|| secret.parse::<Loud>().expect("it holds")));
        let _ = catch_unwind(AssertUnwindSafe(|| empty[empty.len() + 1]));
        let _ = catch_unwind(AssertUnwindSafe(|| panic!("a literal")));
        std::panic::set_hook(before);
        drop(held);
        let text = lines(reader, "a literal");
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("logging.rs:") && text.contains("the message is withheld"), "{text}");
        assert!(text.contains("the len is 0 but the index is 1"), "{text}");
    }

    /// The hook is the process's.
    static HOOK: Mutex<()> = Mutex::new(());

    /// An error whose `Debug` tells what it read.
    #[derive(Debug)]
    struct Loud;

    impl std::str::FromStr for Loud {
        type Err = String;

        fn from_str(text: &str) -> Result<Self, String> {
            Err(text.to_owned())
        }
    }

    #[test]
    fn last_words_do_not_wait_for_ever() {
        let (_reader, writer, _) = full_pipe();
        let lossy = Lossy::start(Format::Text, writer).unwrap();
        // The lock is held by the panicking thread itself; and then the pipe is full. Either hangs here if waited for.
        let held = lossy.0.lock();
        let panic = || {
            let last = lossy.clone();
            let _hook = HOOK.lock().unwrap();
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| last.last_words(panic)));
            let _ = catch_unwind(|| panic!("x"));
            std::panic::set_hook(before);
        };
        panic();
        assert_eq!(held.lines.len(), 0);
        drop(held);
        panic();
        assert!(!lossy.0.lock().is_idle(), "it was handed over, and nobody read it");
    }
}
