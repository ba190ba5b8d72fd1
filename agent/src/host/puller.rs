//! Pulls images through the node's own CRI, one after the other, and never waits for one: it is looked at as often as the
//! node is.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;
use std::time::Duration;

use agent_core::node::evidence::Answer;
use agent_core::node::pulls::PullOrder;
use agent_core::node::pulls::Pulls;
use tokio::time::Instant;

use super::command::CommandError;
use super::crictl::Crictl;
use super::crictl::KILLED;

/// Asking about an image, and removing one.
const SHORT: Duration = Duration::from_secs(10);

type Pulling = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What is pulled, and what came of it.
#[derive(Default)]
pub struct Puller {
    answers: Pulls,
    failed: std::collections::BTreeMap<String, Instant>,
    running: Option<(String, Pulling)>,
}

impl std::fmt::Debug for Puller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let running = self.running.as_ref().map(|(image, _)| image);
        f.debug_struct("Puller").field("answers", &self.answers).field("running", &running).finish_non_exhaustive()
    }
}

impl Puller {
    /// The answers that are there by now.
    pub fn answers(&mut self) -> Pulls {
        self.look();
        self.answers.clone()
    }

    /// Goes on with an order; what it does not name is broken off and forgotten. Without one nothing is pulled.
    pub fn order(&mut self, order: Option<&PullOrder>, crictl: impl FnOnce() -> Result<Crictl, String>) {
        let Some(PullOrder { images, timeout, again }) = order else { return *self = Self::default() };
        self.look();
        self.answers.retain(|image, _| images.contains(image));
        // Dropped, its process is killed.
        self.running = self.running.take().filter(|(image, _)| images.contains(image));
        if self.running.is_some() {
            return;
        }
        let is_due = |image: &&String| match (self.answers.get(*image), again) {
            (None, _) => true,
            (Some(Answer::Failed(_) | Answer::Unknown(_)), Some(again)) => {
                self.failed.get(*image).is_none_or(|at| at.elapsed() >= *again)
            }
            (Some(_), _) => false,
        };
        let Some(image) = images.iter().find(is_due).cloned() else { return };
        match crictl() {
            Ok(crictl) => {
                self.running = Some((image.clone(), Box::pin(pull(crictl.mortal(), image, *timeout))));
                self.look();
            }
            Err(why) => self.answered(image, Answer::Unknown(why)),
        }
    }

    /// Looks at what runs, without waiting. Nobody has to be woken: the next look is at most a second away.
    fn look(&mut self) {
        let Some((image, pulling)) = &mut self.running else { return };
        if let Poll::Ready(answer) = pulling.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            let image = std::mem::take(image);
            self.running = None;
            self.answered(image, answer);
        }
    }

    fn answered(&mut self, image: String, answer: Answer) {
        self.failed.insert(image.clone(), Instant::now());
        self.answers.insert(image, answer);
    }
}

/// Pulls one image, and removes it again if it was not there, under this name or another: to remove one of its names is to
/// remove all (CRI's `RemoveImage`), and an image that moves to another registry keeps its content.
async fn pull(crictl: Crictl, image: String, timeout: Duration) -> Answer {
    let was_there = match crictl.ask(&["inspecti", "--quiet", &image], SHORT).await {
        // An image that may have been there must not be removed below.
        Ok(output) if output.was_killed() => return Answer::Unknown(KILLED.to_owned()),
        Ok(output) => output.code == Some(0),
        Err(error) => return Answer::Unknown(error.to_string()),
    };
    let before = if was_there { None } else { contents(&crictl).await };
    let answer = match crictl.ask(&["pull", &image], timeout).await {
        Ok(output) if output.code == Some(0) => Answer::Passed,
        Ok(output) if output.was_killed() => Answer::Unknown(KILLED.to_owned()),
        Ok(output) => Answer::Failed(cause(&output.stderr_tail).to_owned()),
        Err(CommandError::TimedOut { seconds, .. }) => Answer::Failed(format!("not pulled within {seconds} s")),
        Err(error) => Answer::Unknown(error.to_string()),
    };
    if let Some(before) = before.filter(|_| answer == Answer::Passed)
        && let Some(content) = content(&crictl, &image).await
        && !before.contains(&content)
    {
        // One that stays is only in the way of nobody: the kubelet collects it.
        let removed = crictl.ask(&["rmi", &image], SHORT).await;
        tracing::debug!(image, removed = matches!(removed, Ok(output) if output.code == Some(0)), "pulled for proof");
    }
    answer
}

/// The identifiers of all images, if they can be had.
async fn contents(crictl: &Crictl) -> Option<BTreeSet<String>> {
    let output = crictl.ask(&["images", "--quiet"], SHORT).await.ok().filter(|output| output.code == Some(0))?;
    Some(String::from_utf8_lossy(&output.stdout).lines().map(|line| line.trim().to_owned()).collect())
}

/// The identifier of this one.
async fn content(crictl: &Crictl, image: &str) -> Option<String> {
    let output =
        crictl.ask(&["inspecti", "--quiet", image], SHORT).await.ok().filter(|output| output.code == Some(0))?;
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    seen.pointer("/status/id")?.as_str().map(str::to_owned)
}

/// Why a pull failed, in our own words: what a registry answers may hold anything.
fn cause(stderr: &str) -> &'static str {
    const CAUSES: [(&str, &str); 14] = [
        ("401 Unauthorized", "the registry or its realm refuses the credential (401)"),
        ("403 Forbidden", "the registry or its realm refuses the credential (403)"),
        ("no basic auth credentials", "the registry asks for a credential, and containerd has none for its endpoint"),
        ("authorization failed", "the registry refuses the credential"),
        ("429 Too Many Requests", "the registry limits the rate (429)"),
        ("x509: certificate signed by unknown authority", "a certificate is signed by an unknown authority"),
        ("x509: ", "a certificate is not accepted"),
        ("server gave HTTP response to HTTPS client", "the registry speaks http, and https is configured"),
        ("no such host", "the registry's name is not resolved"),
        ("connection refused", "the registry refuses the connection"),
        ("no route to host", "there is no route to the registry"),
        ("i/o timeout", "the registry does not answer in time"),
        ("not found", "the registry has no such image"),
        ("no space left on device", "the node's disk is full"),
    ];
    CAUSES.iter().find(|(text, _)| stderr.contains(text)).map_or("crictl pull fails", |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;

    use agent_core::node::discovery::without_service;
    use agent_core::node::observed::Installation;

    use super::*;
    use crate::host::command::Commands;
    use crate::host::root::Root;

    const A: &str = "m.example.com/a:1";
    const B: &str = "m.example.com/b:1";

    /// A host whose crictl writes down how it was called, keeps images as files, and pulls by this script.
    struct Node {
        temp: tempfile::TempDir,
        puller: Puller,
    }

    impl Node {
        fn new(pull: &str) -> Self {
            Self::with("[ -e \"$image\" ] && echo \"{\\\"status\\\":{\\\"id\\\":\\\"$(cat \"$image\")\\\"}}\"", pull)
        }

        fn with(inspect: &str, pull: &str) -> Self {
            let temp = tempfile::tempdir().unwrap();
            let path = temp.path().join("opt/own/k3s");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = std::fs::OpenOptions::new();
            let mut file = file.write(true).create(true).mode(0o755).open(path).unwrap();
            let script = format!(
                "#!/bin/sh\ncd {}\nwhile [ \"${{1#-}}\" != \"$1\" ] || [ \"$1\" = crictl ]; do shift; done\n\
                 echo \"$*\" >>called\nfor image; do :; done\nimage=$(echo \"$image\" | tr / _)\ncase $1 in\n\
                 inspecti) {inspect};;\nimages) cat m.*;;\nrmi) rm \"$image\";;\npull) echo $$ >pid; {pull}; echo sha256:pulled >\"$image\";;\nesac\n",
                temp.path().display()
            );
            std::io::Write::write_all(&mut file, script.as_bytes()).unwrap();
            Self { temp, puller: Puller::default() }
        }

        fn order(&mut self, order: Option<&PullOrder>) {
            let installation = Installation { executable: "/opt/own/k3s".into(), ..without_service() };
            let (root, commands) = (Root::open(self.temp.path()).unwrap(), Commands::scripted(self.temp.path()));
            self.puller.order(order, || Crictl::find(&root, &commands, &installation));
        }

        /// Looks as a node is looked at, until every image is answered.
        async fn answers(&mut self, order: &PullOrder) -> Pulls {
            for _ in 0..500 {
                self.order(Some(order));
                let answers = self.puller.answers();
                if answers.len() == order.images.len() {
                    return answers;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("no answer: {:?}", self.puller);
        }

        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.temp.path().join(name)).unwrap_or_default()
        }

        async fn pid(&self) -> String {
            while self.read("pid").is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.read("pid").trim().to_owned()
        }
    }

    fn order(images: &[&str]) -> PullOrder {
        let images = images.iter().map(|image| (*image).to_owned()).collect();
        PullOrder { images, timeout: Duration::from_secs(10), again: None }
    }

    async fn is_gone(pid: &str) -> bool {
        for _ in 0..250 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    #[tokio::test]
    async fn an_image_is_pulled_and_removed_again_only_if_it_was_not_there() {
        let mut node = Node::new("true");
        #[expect(clippy::disallowed_methods, reason = "a test plays containerd")]
        std::fs::write(node.temp.path().join("m.example.com_b:1"), "sha256:earlier").unwrap();
        let answers = node.answers(&order(&[A, B])).await;
        assert_eq!(answers, Pulls::from([(A.to_owned(), Answer::Passed), (B.to_owned(), Answer::Passed)]));
        let called = format!(
            "inspecti --quiet {A}\nimages --quiet\npull {A}\ninspecti --quiet {A}\nrmi {A}\ninspecti --quiet {B}\npull {B}\n"
        );
        assert_eq!(node.read("called"), called);
        // Answered once, it is not pulled again.
        node.answers(&order(&[A, B])).await;
        assert_eq!(node.read("called"), called);
    }

    #[tokio::test]
    async fn an_image_whose_content_is_there_under_another_name_keeps_all_its_names() {
        let mut node = Node::new("true");
        #[expect(clippy::disallowed_methods, reason = "a test plays containerd")]
        std::fs::write(node.temp.path().join("m.old.example.com_a:1"), "sha256:pulled\n").unwrap();
        assert_eq!(node.answers(&order(&[A])).await[A], Answer::Passed);
        assert!(!node.read("called").contains("rmi"), "{}", node.read("called"));
        // So does one of which nobody knows whether it is.
        let mut node = Node::with("[ -e \"$image\" ]", "true");
        assert_eq!(node.answers(&order(&[A])).await[A], Answer::Passed);
        assert!(!node.read("called").contains("rmi"), "{}", node.read("called"));
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_our_words_and_never_with_what_the_registry_said() {
        let mut node = Node::new("echo 'https://u:canary@m.example.com/token: 401 Unauthorized' >&2; exit 1");
        let Some(Answer::Failed(why)) = node.answers(&order(&[A])).await.remove(A) else { panic!("it passed") };
        assert!(why.contains("401") && !why.contains("canary"), "{why}");
        assert_eq!(cause("canary"), "crictl pull fails");
        assert!(!node.read("called").contains("rmi"), "nothing was pulled");
    }

    #[tokio::test]
    async fn a_pull_that_was_killed_says_nothing_of_the_registry_and_removes_nothing() {
        let killed = Answer::Unknown(KILLED.to_owned());
        let mut node = Node::new("kill -9 $$");
        assert_eq!(node.answers(&order(&[A])).await[A], killed);
        let mut node = Node::with("kill -9 $$", "true");
        assert_eq!(node.answers(&order(&[A])).await[A], killed);
        assert_eq!(node.read("called"), format!("inspecti --quiet {A}\n"), "nobody knows whether it was there");
    }

    #[tokio::test]
    async fn one_that_failed_is_tried_again_after_its_time_and_not_before() {
        let mut node = Node::new("[ -e second ] || { >second; exit 1; }");
        let again = PullOrder { again: Some(Duration::from_secs(1)), ..order(&[A]) };
        assert!(matches!(node.answers(&again).await[A], Answer::Failed(_)));
        let began = Instant::now();
        while node.answers(&again).await[A] != Answer::Passed {
            assert!(began.elapsed() < Duration::from_secs(10), "never tried again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(began.elapsed() >= Duration::from_millis(900));
        assert_eq!(node.read("called").matches("pull ").count(), 2);
    }

    #[tokio::test]
    async fn a_pull_that_hangs_keeps_nobody_waiting_and_is_killed_at_its_time() {
        let mut node = Node::new("exec sleep 1000");
        let hangs = PullOrder { timeout: Duration::from_secs(1), ..order(&[A]) };
        let began = Instant::now();
        node.order(Some(&hangs));
        assert!(node.puller.answers().is_empty() && began.elapsed() < Duration::from_millis(500));
        assert_eq!(node.answers(&hangs).await[A], Answer::Failed("not pulled within 1 s".to_owned()));
        assert!(is_gone(&node.pid().await).await);
    }

    #[tokio::test]
    async fn what_is_not_ordered_any_more_is_killed_and_forgotten() {
        let mut node = Node::new("exec sleep 1000");
        for next in [None, Some(order(&[B]))] {
            node.order(Some(&order(&[A])));
            let pid = loop {
                node.puller.answers();
                if !node.read("pid").is_empty() {
                    break node.pid().await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            node.order(next.as_ref());
            assert!(is_gone(&pid).await);
            std::fs::remove_file(node.temp.path().join("pid")).unwrap();
        }
    }

    #[test]
    fn a_pull_dies_with_the_agent_however_that_dies() {
        let node = Node::new("exec sleep 1000");
        let (root, commands) = (Root::open(node.temp.path()).unwrap(), Commands::scripted(node.temp.path()));
        let installation = Installation { executable: "/opt/own/k3s".into(), ..without_service() };
        let crictl = Crictl::find(&root, &commands, &installation).unwrap();
        // The thread stands for the agent: nothing of it is dropped, so that nobody kills the child in good order.
        let dies = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let pulling = Box::pin(pull(crictl.mortal(), A.to_owned(), Duration::from_secs(1000)));
            let pulling = Box::leak(Box::new(pulling));
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(2), pulling).await.unwrap_err() });
            std::mem::forget(runtime);
        });
        dies.join().unwrap();
        let pid = node.read("pid").trim().to_owned();
        assert!(!pid.is_empty());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert!(runtime.block_on(is_gone(&pid)), "{pid} runs on");
    }
}
