//! Reads a service script of OpenRC, as k3s's installer writes it. Nothing is run: what only a shell could tell is unknown.

use super::Unit;
use super::Unsupported;
use crate::node::observed::Installation;
use crate::node::observed::Role;

/// Reads what a script starts. Without a command line that can be read the unit has no role. State and runlevel are not in
/// it.
pub fn parse_script(name: &str, script: &str) -> Unit {
    let mut unit = Unit { id: name.to_owned(), ..Unit::default() };
    let mut args = Some(String::new());
    for (at, line) in lines(script) {
        if line.starts_with("command=") {
            unit.executable = value(&script[at + "command=".len()..]).map_or_else(String::new, |(text, _)| text);
        } else if line.starts_with("command_args=") {
            args = value(&script[at + "command_args=".len()..]).map(|(text, _)| text);
        }
        // `if [ -f FILE ]; then . FILE; fi`
        let words: Vec<_> = line.split([' ', '\t', ';']).filter(|word| !word.is_empty()).collect();
        let sourced = words.windows(2).filter(|pair| pair[0] == "." && pair[1].starts_with('/'));
        unit.environment_files.extend(sourced.map(|pair| pair[1].to_owned()));
    }
    unit.exec = vec![unit.executable.clone()];
    // OpenRC lets a shell read the arguments a second time.
    unit.exec.extend(args.as_deref().and_then(words).unwrap_or_default());
    unit
}

/// Why a k3s that OpenRC runs is not managed: what was found, and what to do.
pub fn unguarded(found: &Installation) -> Unsupported {
    let Installation { unit, role, registries_path, .. } = found;
    let role = match role {
        Role::Server => "server",
        Role::Agent => "agent",
    };
    Unsupported(format!(
        "OpenRC runs {unit} ({role}, reads {registries_path}), and without systemd no undo can be armed: nothing is \
         written; exclude the node, or use `apply --service none` and restart it by hand"
    ))
}

/// Each line with its offset.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        at += line.len();
        (at - line.len(), line)
    })
}

/// The words of a command line, up to the first redirection. `None`: only a shell could tell.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() && !rest.trim_start_matches(|digit: char| digit.is_ascii_digit()).starts_with(['>', '<']) {
        let (word, after) = value(rest)?;
        if after.len() == rest.len() {
            // `;`, `&`, `|`, a comment: what comes after is another command.
            break;
        }
        words.push(word);
        rest = after.trim_start();
    }
    Some(words)
}

/// One word of a shell, and what comes after it. `None`: it has a substitution in it, or its quote does not end.
fn value(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut quote = None;
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match (quote, letter) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => word.push(letter),
            (_, '$' | '`') => return None,
            (_, '\\') => match (letters.next()?.1, quote) {
                ('\n', _) => {}
                (escaped, Some(_)) if !matches!(escaped, '$' | '`' | '"' | '\\') => word.extend(['\\', escaped]),
                (escaped, _) => word.push(escaped),
            },
            (Some(_), _) => word.push(letter),
            (None, '\'' | '"') => quote = Some(letter),
            (None, ' ' | '\t' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>') => return Some((word, &text[at..])),
            (None, '#') if at == 0 => return Some((word, text)),
            (None, _) => word.push(letter),
        }
    }
    quote.is_none().then_some((word, ""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::without_service;
    use super::*;

    /// The script that k3s's installer writes, with its own quoting of the arguments.
    fn script(role: &str, args: &[String]) -> String {
        let quoted: String =
            args.iter().map(|arg| format!("\t'{}' \\\n", arg.replace('\'', "'\\''").replace('"', "\\\""))).collect();
        format!(
            "#!/sbin/openrc-run\n\ndepend() {{\n    after network-online\n    want cgroups\n}}\n\nstart_pre() {{\n    \
             rm -f /tmp/k3s.*\n}}\n\nsupervisor=supervise-daemon\nname=k3s-one\ncommand=\"/opt/bin/k3s\"\n\
             command_args=\"{role} \\\n{quoted}    >>/var/log/k3s-one.log 2>&1\"\n\noutput_log=/var/log/k3s-one.log\n\
             error_log=/var/log/k3s-one.log\n\npidfile=\"/var/run/k3s-one.pid\"\nrespawn_delay=5\nrespawn_max=0\n\n\
             set -o allexport\nif [ -f /etc/environment ]; then . /etc/environment; fi\n\
             if [ -f /etc/rancher/k3s/k3s-one.env ]; then . /etc/rancher/k3s/k3s-one.env; fi\nset +o allexport\n"
        )
    }

    fn texts(args: &[&str]) -> Vec<String> {
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    #[test]
    fn the_installers_script_names_program_arguments_and_environment() {
        let args = texts(&["--embedded-registry", "--data-dir", "/srv/k 3s", "--node-label", "a=\"b\"", "it's"]);
        let unit = parse_script("k3s-one", &script("server", &args));
        assert_eq!((unit.id.as_str(), unit.executable.as_str()), ("k3s-one", "/opt/bin/k3s"));
        assert_eq!(unit.exec, [texts(&["/opt/bin/k3s", "server"]), args].concat());
        assert_eq!(unit.environment_files, ["/etc/environment", "/etc/rancher/k3s/k3s-one.env"]);
        assert_eq!(parse_script("k3s-one", &script("agent", &[])).role(), Some(Role::Agent));
    }

    #[test]
    fn what_only_a_shell_could_tell_is_no_role() {
        for args in ["\"${K3S_EXEC} ${K3S_OPTS}\"", "\"server", "`cat /x`", "", "\"; server\""] {
            let unit = parse_script("k3s", &format!("command=/usr/bin/k3s\ncommand_args={args}\n"));
            assert_eq!((unit.executable.as_str(), unit.role()), ("/usr/bin/k3s", None), "{args}");
        }
        assert_eq!(parse_script("k3s", "command=$BIN/k3s\ncommand_args=server\n").program(), None);
        assert_eq!(parse_script("k3s", "start() {\n  command=/usr/bin/k3s\n}\n").program(), None);
    }

    #[test]
    fn a_node_without_a_guard_is_told_what_was_found_and_what_to_do() {
        let found = Installation { unit: "k3s-one".to_owned(), role: Role::Server, ..without_service() };
        let Unsupported(why) = unguarded(&found);
        for part in ["k3s-one", "server", "/etc/rancher/k3s/registries.yaml", "exclude the node", "--service none"] {
            assert!(why.contains(part), "{part}: {why}");
        }
        // The Node's annotation holds no longer one.
        assert!(why.len() <= 256, "{}", why.len());
    }

    proptest! {
        #[test]
        fn whatever_the_installer_quoted_is_read_back(args in proptest::collection::vec("[ -#%-\\[\\]-_a-~\t]{0,12}", 0..6)) {
            let unit = parse_script("k3s-one", &script("server", &args));
            prop_assert_eq!(&unit.exec[2..], args.as_slice());
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "(command=|command_args=|[\"'\\\\$; \n>a/.é])*") {
            parse_script("k3s", &text);
        }
    }
}
