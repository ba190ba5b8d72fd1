//! The only place that starts processes: by absolute path, with an empty environment, in PID 1's mount namespace.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::process::Child;

use super::root::Reach;
use super::root::Root;

/// Most of a stream that is kept. What comes after is read and dropped, so that the child never blocks on us.
const KEPT: usize = 512 * 1024;
/// Most of the standard error that an error tells.
const TAIL: usize = 300;

/// Starts processes on the host behind a [`Root`].
#[derive(Clone, Debug)]
pub struct Commands {
    namespace: Option<Arc<OwnedFd>>,
    is_mortal: bool,
    prefix: Option<PathBuf>,
}

/// What is started.
#[derive(Clone, Debug)]
pub struct Invocation<'a> {
    /// Absolute path of the program, as the host names it.
    pub program: &'a str,
    /// Its arguments.
    pub args: &'a [&'a str],
    /// Variables besides `PATH` and `LC_ALL`.
    pub env: &'a [(&'a str, &'a str)],
    /// After this the process is killed.
    pub timeout: Duration,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output, at most 512 KiB.
    pub stdout: Vec<u8>,
    /// The last line or so of the standard error.
    pub stderr_tail: String,
}

impl Output {
    /// Whether a signal ended it, as the kernel's does where memory runs out: by itself, or, as a shell tells it, what it
    /// had started. It came to no answer then.
    pub fn was_killed(&self) -> bool {
        self.code.is_none_or(|code| code > 128)
    }
}

/// Why a command gave no result.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A root that is a mere directory has no processes.
    #[error("no process can be started below {0}: it is a directory and no host")]
    NoHost(String),
    /// PID 1's mount namespace could not be opened (no `hostPID`, or not privileged).
    #[error("cannot open the mount namespace of process 1")]
    OpenNamespace(#[source] std::io::Error),
    /// The program could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program's end could not be waited for.
    #[error("cannot wait for {program}")]
    Wait {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ran too long and was killed.
    #[error("{program} did not end within {seconds} s and was killed")]
    TimedOut {
        /// The program.
        program: String,
        /// Its limit.
        seconds: u64,
    },
    /// It ended with a failure.
    #[error("{program} {verb} failed ({how}): {tail}")]
    Failed {
        /// The program.
        program: String,
        /// Its first argument, never the rest.
        verb: String,
        /// Exit code or signal.
        how: String,
        /// The end of what it wrote to its standard error.
        tail: String,
    },
    /// None of the places where the program may be has it.
    #[error("the host has no {0}")]
    Missing(String),
}

impl Commands {
    /// Prepares for a root; the namespace is opened now, since after `fork` there is no time for it.
    pub fn of(root: &Root) -> Result<Self, CommandError> {
        let namespace = match root.reach() {
            Reach::Own => None,
            Reach::Pid1 => {
                let file = File::open("/proc/1/ns/mnt").map_err(CommandError::OpenNamespace)?;
                Some(Arc::new(OwnedFd::from(file)))
            }
            Reach::Directory => return Err(CommandError::NoHost(root.path().display().to_string())),
        };
        Ok(Self { namespace, is_mortal: false, prefix: None })
    }

    /// Takes the programs from below a directory: scripted ones, in tests.
    #[cfg(test)]
    pub(crate) fn scripted(prefix: &std::path::Path) -> Self {
        Self { namespace: None, is_mortal: false, prefix: Some(prefix.to_owned()) }
    }

    /// The same, whose processes the kernel kills when the thread that started them ends, however it ends.
    pub fn mortal(self) -> Self {
        Self { is_mortal: true, ..self }
    }

    /// Runs a program and demands exit code 0.
    pub async fn run(&self, what: &Invocation<'_>) -> Result<Output, CommandError> {
        let output = self.ask(what).await?;
        if output.code == Some(0) {
            return Ok(output);
        }
        Err(CommandError::Failed {
            program: what.program.to_owned(),
            verb: what.args.first().copied().unwrap_or_default().to_owned(),
            how: output.code.map_or_else(|| "killed by a signal".to_owned(), |code| format!("exit code {code}")),
            tail: output.stderr_tail,
        })
    }

    /// Runs a program whose exit code is an answer.
    pub async fn ask(&self, what: &Invocation<'_>) -> Result<Output, CommandError> {
        let program = || what.program.to_owned();
        let mut child = self.start(what).map_err(|source| CommandError::Start { program: program(), source })?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let ends = async { tokio::join!(bounded(out), bounded(err), child.wait()) };
        let ended = tokio::time::timeout(what.timeout, ends).await;
        let Ok((stdout, stderr, status)) = ended else {
            // A failure to kill means that it is gone already; `kill` also reaps it.
            child.kill().await.ok();
            return Err(CommandError::TimedOut { program: program(), seconds: what.timeout.as_secs() });
        };
        let status = status.map_err(|source| CommandError::Wait { program: program(), source })?;
        Ok(Output { code: status.code(), stdout, stderr_tail: tail(&stderr) })
    }

    fn start(&self, what: &Invocation<'_>) -> std::io::Result<Child> {
        let program = match &self.prefix {
            Some(prefix) => prefix.join(what.program.trim_start_matches('/')),
            None => PathBuf::from(what.program),
        };
        if !program.is_absolute() {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path is not absolute"));
        }
        #[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
        let mut command = tokio::process::Command::new(program);
        command
            .args(what.args)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C")
            .envs(what.env.iter().copied())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if self.namespace.is_some() || self.is_mortal {
            let (namespace, is_mortal) = (self.namespace.clone(), self.is_mortal);
            let enter = move || {
                if is_mortal {
                    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                }
                if let Some(namespace) = &namespace {
                    nix::sched::setns(&**namespace, nix::sched::CloneFlags::CLONE_NEWNS)?;
                }
                Ok(())
            };
            // SAFETY: between fork and exec only async-signal-safe calls are allowed. `enter` makes two system calls,
            // prctl, and setns on a descriptor that was opened before; it neither allocates (an errno becomes an
            // `io::Error` without an allocation) nor locks. In the parent setns would fail: it has several threads.
            #[expect(unsafe_code, reason = "both have to be called in the child, and pre_exec is unsafe")]
            unsafe {
                command.pre_exec(enter)
            };
        }
        command.spawn()
    }
}

/// The first of these places that holds something.
pub fn find(root: &Root, name: &str, places: &[&str]) -> Result<String, CommandError> {
    let found = places.iter().map(|place| format!("{place}/{name}")).find(|path| root.has(path));
    found.ok_or_else(|| CommandError::Missing(name.to_owned()))
}

/// Where hosts keep their own programs; the last is NixOS.
pub const HOST_BIN: [&str; 5] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin"];

/// Reads a stream to its end and keeps its last [`KEPT`] bytes.
async fn bounded(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else { return kept };
    let mut buffer = [0_u8; 8192];
    // A stream that cannot be read any more has ended for us; the exit code says the rest.
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..count]);
        if kept.len() > 2 * KEPT {
            kept.drain(..kept.len() - KEPT);
        }
    }
    kept.drain(..kept.len().saturating_sub(KEPT));
    kept
}

fn tail(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    let start = text.char_indices().rev().take(TAIL).last().map_or(0, |(at, _)| at);
    text[start..].replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh<'a>(args: &'a [&'a str]) -> Invocation<'a> {
        Invocation { program: "/bin/sh", args, env: &[], timeout: Duration::from_secs(10) }
    }

    fn own() -> Commands {
        Commands::of(&Root::open("/").unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_child_gets_no_environment_and_no_input() {
        let output = own().run(&sh(&["-c", "env | cut -d= -f1 | sort; cat; pwd"])).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, "LC_ALL\nPATH\nPWD\n/\n");
    }

    #[tokio::test]
    async fn a_failure_tells_the_code_and_the_end_of_the_error_but_not_the_arguments() {
        let error = own().run(&sh(&["-c", "echo first >&2; echo last >&2; exit 5 # canary"])).await.unwrap_err();
        assert_eq!(error.to_string(), "/bin/sh -c failed (exit code 5): first last");
    }

    #[tokio::test]
    async fn a_process_that_does_not_end_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("echo $$ > {}; exec sleep 1000", pid.display());
        let args = ["-c", script.as_str()];
        let invocation = Invocation { timeout: Duration::from_millis(500), ..sh(&args) };
        let error = own().run(&invocation).await.unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
        let pid = std::fs::read_to_string(pid).unwrap();
        assert!(!std::path::Path::new("/proc").join(pid.trim()).exists());
    }

    #[tokio::test]
    async fn a_flood_of_output_is_bounded_and_its_end_is_kept() {
        let output = own().run(&sh(&["-c", "yes | head -c 3000000; echo end"])).await.unwrap();
        assert_eq!(output.stdout.len(), KEPT);
        assert!(output.stdout.ends_with(b"end\n"));
    }

    #[test]
    fn a_directory_has_no_processes() {
        let error = Commands::of(&Root::open("/tmp").unwrap()).unwrap_err();
        assert!(matches!(error, CommandError::NoHost(_)));
    }

    #[tokio::test]
    async fn a_child_enters_the_mount_namespace_that_was_opened_and_we_do_not() {
        assert!(nix::unistd::geteuid().is_root(), "run the tests as root: only root may make and enter a namespace");
        let ours = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        let mut other = own();
        // A process in a namespace of its own stands for PID 1; its input is a pipe that ends with us.
        #[expect(clippy::disallowed_methods, reason = "the test needs a process in another namespace")]
        let mut process = std::process::Command::new("/usr/bin/unshare")
            .args(["-m", "/bin/sh", "-c", "echo; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(process.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let theirs = format!("/proc/{}/ns/mnt", process.id());
        other.namespace = Some(Arc::new(File::open(&theirs).unwrap().into()));
        let args = ["/proc/self/ns/mnt"];
        let invocation = Invocation { program: "/bin/readlink", args: &args, ..sh(&[]) };
        let output = other.run(&invocation).await.unwrap();
        let seen = String::from_utf8(output.stdout).unwrap();
        assert_eq!(seen.trim(), std::fs::read_link(&theirs).unwrap().to_str().unwrap());
        assert_ne!(seen.trim(), ours.to_str().unwrap());
        assert_eq!(std::fs::read_link("/proc/self/ns/mnt").unwrap(), ours);
        drop(process.stdin.take());
        process.wait().unwrap();
    }
}
