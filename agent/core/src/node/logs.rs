//! What the log of the service tells about a start that does not come to its end.

use super::observed::{LogSigns, RuntimeFiles, UnitSeen};
use super::plan::Depth;

/// How k3s begins the line about each try that failed. The words mislead: the cause stands behind them.
const TRY_FAILED: &str = "Waiting to retrieve agent configuration; server is not ready: ";
/// How an agent begins the line about a supervisor that does not answer.
const NO_CONNECTION: &str = "Failed to validate connection to cluster at https://";
/// Written when the configuration was read: what was said about it before is past.
const CONFIGURED: [&str; 2] = ["Logging containerd to ", "Running containerd "];
/// How containerd begins when it cannot take its `config.toml`. It says so in its own log, as the last thing there.
const TOML_REFUSED: [&str; 3] =
    ["containerd: failed to load TOML", "containerd: failed to unmarshal TOML", "containerd: toml: "];
/// What containerd says at a pull when it goes on without a `hosts.toml`: words, the file's path.
const HOSTS_TOML_DROPPED: (&str, &str) = ("failed to decode ", "/hosts.toml");
/// What it says when it goes on without a rewrite; pattern and host follow.
const REWRITE_DROPPED: &str = "Failed to compile rewrite";
/// What Go's HTTP client says of a server that is away or does not know us yet.
const CONNECTION: [&str; 10] = [
    "Get \"https://",
    "Post \"https://",
    "dial tcp",
    "connection refused",
    "connection reset by peer",
    "context deadline exceeded",
    "i/o timeout",
    "no such host",
    "Service Unavailable",
    "EOF",
];

/// Whether the log of a unit has to be read: while something is open, and while k3s does not come up. A unit of `Type=exec`
/// is active even then, and only what k3s has not written since its start gives it away.
pub fn is_due(depth: Depth, unit: &UnitSeen, runtime: &RuntimeFiles) -> bool {
    depth == Depth::Full || !unit.is_active() || !runtime.are_of(unit.main_started_wall)
}

/// Reads the signs out of the lines of one invocation, oldest first. The last word counts: a try that fails for another
/// reason, or that succeeds, takes back what an earlier one said.
pub fn signs<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> LogSigns {
    let mut signs = LogSigns::default();
    for line in lines {
        let line = line.as_ref();
        let said = message(line);
        if let Some(cause) = said.strip_prefix(TRY_FAILED) {
            signs.registries_error = is_about_the_file(cause);
            signs.waits_for_server = !signs.registries_error && is_about_the_connection(cause);
        } else if said.starts_with(NO_CONNECTION) {
            // k3s asks its supervisor before it reads the file, so nothing is known of the file in this invocation.
            signs.registries_error = false;
            signs.waits_for_server = true;
        } else if CONFIGURED.iter().any(|words| said.starts_with(words)) {
            signs.registries_error = false;
            signs.waits_for_server = false;
        }
        // k3s may put words before it; a line of another form is the kubelet's and may quote a pod.
        let has_exited = match said.len() < line.len() {
            true => said.contains("containerd exited"),
            false => said.starts_with("containerd exited"),
        };
        signs.containerd_exited |= has_exited && !said.contains("context canceled");
        // containerd writes this after it took its configuration; its log is one file for all starts.
        if said.starts_with("starting containerd") {
            signs.containerd_config_error = false;
            signs.hosts_toml_dropped = false;
            signs.rewrite_dropped = false;
        }
        let (words, file) = HOSTS_TOML_DROPPED;
        signs.hosts_toml_dropped |= said.strip_prefix(words).is_some_and(|of| of.contains(file));
        signs.rewrite_dropped |= said.starts_with(REWRITE_DROPPED);
        signs.containerd_config_error |= TOML_REFUSED.iter().any(|words| said.starts_with(words));
    }
    signs
}

/// The message of a line as k3s writes it, `time="…" level=info msg="…"`, or the whole line. A pod's words that another
/// line quotes have their quotation marks escaped and do not look like the field.
fn message(line: &str) -> &str {
    match line.split_once(" msg=\"") {
        Some((head, said)) if head.starts_with("time=\"") => said,
        Some(_) | None => line,
    }
}

/// A YAML error, or one of the operating system about the file. The path is not known here, but its name is.
fn is_about_the_file(cause: &str) -> bool {
    let of_the_system = ["open /", "read /"].iter().any(|words| cause.starts_with(words));
    cause.starts_with("yaml: ") || (of_the_system && cause.contains("/registries.yaml: "))
}

fn is_about_the_connection(cause: &str) -> bool {
    CONNECTION.iter().any(|words| cause.contains(words)) || cause.contains("Get \\\"https://")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> LogSigns {
        signs(lines)
    }

    const YAML: &str = "time=\"2026-08-20T10:00:00Z\" level=info msg=\"Waiting to retrieve agent configuration; \
                        server is not ready: yaml: unmarshal errors:\\n  line 3: cannot unmarshal !!str into []string\"";
    const AWAY: &str = "time=\"2026-08-20T10:00:00Z\" level=info msg=\"Waiting to retrieve agent configuration; server \
                        is not ready: failed to retrieve configuration from server: Get \\\"https://127.0.0.1:6444/\
                        v1-k3s/config\\\": dial tcp 127.0.0.1:6444: connect: connection refused\"";
    const CLUSTER: &str = "time=\"2026-08-20T10:00:00Z\" level=error msg=\"Failed to validate connection to cluster at \
                           https://10.0.0.1:6443: failed to get CA certs: Get \\\"https://127.0.0.1:6444/cacerts\\\": \
                           read tcp: connection reset by peer\"";
    const RUNNING: &str =
        "time=\"2026-08-20T10:00:09Z\" level=info msg=\"Running containerd -c /var/lib/x/config.toml\"";

    const QUIET: LogSigns = LogSigns {
        registries_error: false,
        containerd_config_error: false,
        containerd_exited: false,
        waits_for_server: false,
        hosts_toml_dropped: false,
        rewrite_dropped: false,
    };

    #[test]
    fn each_line_is_one_sign() {
        let file = LogSigns { registries_error: true, ..QUIET };
        let server = LogSigns { waits_for_server: true, ..QUIET };
        let exited = LogSigns { containerd_exited: true, ..QUIET };
        let toml = LogSigns { containerd_config_error: true, ..QUIET };
        for (line, expected) in [
            (YAML, file.clone()),
            (
                "Waiting to retrieve agent configuration; server is not ready: yaml: line 2: found character",
                file.clone(),
            ),
            (
                "Waiting to retrieve agent configuration; server is not ready: \
                 read /etc/rancher/k3s/registries.yaml: is a directory",
                file,
            ),
            (AWAY, server.clone()),
            (CLUSTER, server.clone()),
            ("Failed to validate connection to cluster at https://SERVER:6443", server.clone()),
            (
                "Waiting to retrieve agent configuration; server is not ready: \
                 /var/lib/rancher/k3s/agent/serving-kubelet.crt: 503 Service Unavailable",
                server,
            ),
            ("time=\"2026-08-20T10:00:00Z\" level=fatal msg=\"containerd exited: exit status 1\"", exited),
            (
                "containerd: failed to load TOML from /var/lib/rancher/k3s/agent/etc/containerd/config.toml: \
                 toml: invalid escaped character U+0061 'a'",
                toml,
            ),
        ] {
            assert_eq!(of(&[line]), expected, "{line}");
        }
    }

    #[test]
    fn near_misses_are_no_sign() {
        for line in [
            "Waiting to retrieve agent configuration; server is not ready: Node password rejected, duplicate hostname",
            "Waiting to retrieve agent configuration; server is not ready: \\\"overlayfs\\\" snapshotter cannot be enabled",
            "Waiting to retrieve agent configuration; server is not ready: open /etc/rancher/node/password: denied",
            "time=\"2026-08-20T10:00:00Z\" level=info msg=\"Using private registry config file at /etc/rancher/k3s/x\"",
            "time=\"2026-08-20T10:00:00Z\" level=info msg=\"containerd exited: context canceled\"",
            "time=\"2026-08-20T10:00:00Z\" level=warning msg=\"failed to parse: yaml: line 2: found character\"",
            "Waiting for containerd startup: rpc error: code = Unavailable",
        ] {
            assert_eq!(of(&[line]), QUIET, "{line}");
        }
    }

    #[test]
    fn a_containerd_that_starts_has_taken_its_configuration() {
        let refused = "containerd: failed to load TOML from /var/lib/rancher/k3s/agent/etc/containerd/config.toml: 9:3";
        let starting = "time=\"2026-08-20T10:00:09Z\" level=info msg=\"starting containerd\" revision=x version=v2.3.2";
        assert!(of(&[starting, refused]).containerd_config_error);
        assert_eq!(of(&[refused, starting]), QUIET);
    }

    #[test]
    fn what_containerd_drops_since_its_start_is_a_sign() {
        let hosts = "time=\"2026-11-21T21:54:49.763171280Z\" level=error msg=\"failed to decode \
                     /var/lib/rancher/k3s/agent/etc/containerd/certs.d/gitea.treytartt.com/hosts.toml\" \
                     error=\"toml: array is incomplete\"";
        let rewrite = "time=\"2026-08-20T10:00:09Z\" level=warning msg=\"Failed to compile rewrite, `(`, for \
                       m.example.com\" error=\"canary\"";
        let starting = "time=\"2026-08-20T10:00:09Z\" level=info msg=\"starting containerd\" revision=x version=v2.3.2";
        assert_eq!(of(&[starting, hosts]), LogSigns { hosts_toml_dropped: true, ..QUIET });
        assert_eq!(of(&[rewrite]), LogSigns { rewrite_dropped: true, ..QUIET });
        assert_eq!(of(&[hosts, rewrite, starting]), QUIET);
    }

    #[test]
    fn an_exit_of_containerd_is_heard_behind_other_words_of_k3s() {
        let exited = "time=\"2026-08-20T10:00:09Z\" level=info msg=\"Shutdown request received: containerd exited: x\"";
        assert_eq!(of(&[exited]), LogSigns { containerd_exited: true, ..QUIET });
    }

    #[test]
    fn a_pod_that_quotes_the_line_is_not_believed() {
        let quoting = format!("E0820 10:00:00.000000 1 kubelet.go:1] \"Died\" message={YAML:?}");
        assert_eq!(of(&[&quoting]), QUIET);
        assert_eq!(of(&["E0820 1 kubelet.go:1] \"Died\" message=\"containerd exited: status 1\""]), QUIET);
        let logged = "time=\"2026-08-20T10:00:00Z\" level=info msg=\"pod said msg=\\\"Waiting to retrieve agent \
                      configuration; server is not ready: yaml: line 1\\\"\"";
        assert_eq!(of(&[logged]), QUIET);
        // The kubelet writes a message of several lines as it is, each behind a tab.
        assert_eq!(of(&["E0820 1 kubelet.go:1] \"Died\" message=<", &format!("\t{YAML}"), " >"]), QUIET);
    }

    #[test]
    fn the_last_try_takes_back_what_an_earlier_one_said() {
        assert_eq!(of(&[YAML, AWAY]), LogSigns { waits_for_server: true, ..QUIET });
        assert_eq!(of(&[AWAY, YAML]), LogSigns { registries_error: true, ..QUIET });
        assert_eq!(of(&[YAML, CLUSTER]), LogSigns { waits_for_server: true, ..QUIET });
        assert_eq!(of(&[YAML, RUNNING]), QUIET);
        assert_eq!(of(&[CLUSTER, RUNNING]), QUIET);
        assert_eq!(of(&[RUNNING, YAML]), LogSigns { registries_error: true, ..QUIET });
    }

    proptest! {
        #[test]
        fn lines_of_something_else_take_nothing_back(noise in proptest::collection::vec("[ -~]{0,60}", 0..8)) {
            let mut lines = vec![YAML.to_owned()];
            lines.extend(noise);
            prop_assert!(signs(&lines).registries_error);
        }
    }
}
