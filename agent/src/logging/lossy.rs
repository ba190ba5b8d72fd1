//! The queue of lines, and the thread that writes them.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use super::{Format, panic_message};

/// Bytes that wait to be written. Resident memory is bounded, and a trace of a few seconds fits.
const LIMIT: usize = 256 << 10;

/// How long a panicking process waits for its last words to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

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

    pub(super) fn format(&self) -> Format {
        self.0.format
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
    pub(super) fn last_words(&self, panic: &PanicHookInfo<'_>) {
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
mod tests;
