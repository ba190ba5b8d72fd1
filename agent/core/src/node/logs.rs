//! What the log of one invocation says about `registries.yaml` and containerd.

use super::observed::LogSigns;

/// Reads the signs out of the log's lines, oldest first, each in k3s's or containerd's own words. A line that shows
/// that the start went on takes back what came before it: k3s reads the file again and again until it can, within one
/// invocation.
pub fn signs<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> LogSigns {
    let mut signs = LogSigns::default();
    for line in lines {
        let line = line.as_ref();
        if line.contains("Running containerd") || line.contains("containerd is now running") {
            // k3s starts containerd only after it read the file, and reads the file only after its server answered.
            signs.registries_error = false;
            signs.waits_for_server = false;
        } else if let Some((_, why)) = line.split_once("server is not ready: ") {
            let file = why.starts_with("yaml: ") || why.contains("registries.yaml");
            signs.registries_error = file;
            signs.waits_for_server = !file;
        } else if line.contains("Failed to validate connection to cluster at ") {
            signs.waits_for_server = true;
        } else if line.contains("containerd exited") {
            signs.containerd_exited = true;
        } else if line.contains("failed to load TOML") {
            signs.containerd_config_error = true;
        } else if line.contains("starting containerd") {
            // Written by containerd after it took its configuration.
            signs.containerd_config_error = false;
        }
    }
    signs
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &str = r#"level=info msg="Waiting to retrieve agent configuration; server is not ready: yaml: line 3: found character that cannot start any token""#;
    const DIRECTORY: &str = r#"level=info msg="Waiting to retrieve agent configuration; server is not ready: read /etc/rancher/k3s/registries.yaml: is a directory""#;
    const AWAY: &str =
        r#"level=error msg="Failed to validate connection to cluster at https://10.0.0.1:6443: connection refused""#;
    const NO_SERVER: &str =
        r#"level=info msg="Waiting to retrieve agent configuration; server is not ready: failed to get CA certs""#;
    const RUNS: &str =
        r#"level=info msg="Running containerd -c /var/lib/rancher/k3s/agent/etc/containerd/config.toml""#;
    const EXITED: &str = r#"level=error msg="containerd exited: exit status 1""#;
    const TOML: &str =
        "containerd: failed to load TOML from /var/lib/rancher/k3s/agent/etc/containerd/config.toml: 9:3";
    const STARTING: &str = r#"time="2026-01-01" level=info msg="starting containerd" revision=x version=v2.3.2"#;

    #[test]
    fn each_message_is_told_from_the_others() {
        let seen = |lines: &[&str]| {
            let signs = signs(lines);
            (signs.registries_error, signs.waits_for_server, signs.containerd_config_error, signs.containerd_exited)
        };
        assert_eq!(seen(&[]), (false, false, false, false));
        assert_eq!(seen(&[BAD]), (true, false, false, false));
        assert_eq!(seen(&[DIRECTORY]), (true, false, false, false));
        assert_eq!(seen(&[AWAY]), (false, true, false, false));
        assert_eq!(seen(&[NO_SERVER]), (false, true, false, false));
        assert_eq!(seen(&[RUNS, TOML, EXITED]), (false, false, true, true));
    }

    #[test]
    fn the_last_word_counts() {
        assert!(!signs([BAD, RUNS]).registries_error);
        assert!(signs([AWAY, BAD]).registries_error);
        assert!(!signs([AWAY, BAD]).waits_for_server);
        assert!(signs([BAD, NO_SERVER]).waits_for_server);
        assert!(!signs([TOML, STARTING]).containerd_config_error);
        assert!(signs([STARTING, TOML]).containerd_config_error);
    }
}
