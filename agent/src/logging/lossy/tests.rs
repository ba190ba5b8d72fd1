//! Logs that nobody reads, and the last words of a process that panics.

use std::io::{PipeReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::*;
use crate::logging::subscriber;

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
    assert!(text.contains("lossy/tests.rs:") && text.contains("the message is withheld"), "{text}");
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
