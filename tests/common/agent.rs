//! The running agent, on a bed, with what it says read all the time.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Bed, LONG, command, until, wait};

/// A process that runs until it is told to end; killed when it is dropped.
pub struct Agent {
    child: Child,
    pub listen: SocketAddr,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Agent {
    /// Starts it, and reads what it says.
    pub fn start(bed: &Bed, global: &[&str]) -> Self {
        let mut agent = Self::spawn(bed, global, Stdio::piped(), Stdio::piped());
        let said = agent.said.clone();
        let err = agent.child.stderr.take().expect("it is piped");
        let out = agent.child.stdout.take().expect("it is piped");
        for pipe in [Box::new(err) as Box<dyn Read + Send>, Box::new(out)] {
            let said = said.clone();
            std::thread::spawn(move || collect(pipe, &said));
        }
        agent
    }

    /// Starts it with these for standard output and error.
    pub fn spawn(bed: &Bed, global: &[&str], out: Stdio, err: Stdio) -> Self {
        let listen = free();
        let mut command = command(global);
        command.args(["agent", "--inputs", "inputs", "--root", "node", "--listen", &listen.to_string()]);
        let child = command.stdout(out).stderr(err).current_dir(bed.path()).spawn().expect("the agent starts");
        Self { child, listen, said: Arc::default() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().expect("a reader does not panic")).into_owned()
    }

    /// Waits for a condition while the agent lives.
    #[track_caller]
    pub fn waits_for(&mut self, what: &str, mut holds: impl FnMut() -> bool) {
        let seen = until(LONG, || {
            let ended = self.child.try_wait().expect("a child can be waited for");
            (ended.is_some() || holds()).then_some(ended)
        });
        assert!(seen == Some(None), "{what}: {seen:?}\n{}", self.said());
    }

    /// Waits until it is ready.
    #[track_caller]
    pub fn is_ready(&mut self) {
        let listen = self.listen;
        self.waits_for("it gets ready", || get(listen, "/readyz").is_some_and(|(status, _)| status == 200));
    }

    /// Asks it to end, and gives its exit code.
    pub fn end(mut self) -> (Option<i32>, String) {
        kill(Pid::from_raw(i32::try_from(self.id()).expect("a process id")), Signal::SIGTERM).expect("it lives");
        let code = wait(&mut self.child, LONG).and_then(|status| status.code());
        // The readers end with the pipes, at the latest when the process is gone.
        std::thread::sleep(Duration::from_millis(50));
        (code, self.said())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn collect(mut pipe: Box<dyn Read + Send>, said: &Mutex<Vec<u8>>) {
    let mut part = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut part) {
        said.lock().expect("nobody panics with it").extend_from_slice(&part[..length]);
    }
}

/// An address on loopback that nobody listens on.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback has a free port")
}

/// Status and body of a page; nothing while nobody listens.
pub fn get(listen: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(listen).ok()?;
    stream.set_read_timeout(Some(LONG)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {listen}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())?;
    Some((status, body))
}
