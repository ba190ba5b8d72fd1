//! `configs.HOST.tls`: files that are not what they should be, settings that do nothing.

use super::FileFact;
use super::Findings;
use super::rules;
use super::view::Address;
use super::view::View;
use super::view::shown;
use crate::registries::document::KeyPath;
use crate::registries::model::Tls;

pub(super) fn check(view: &View<'_>, out: &mut Findings<'_>) {
    for (key, config) in &view.registries.configs {
        let Some(tls) = &config.tls else { continue };
        let path = KeyPath::of(["configs", key, "tls"]);
        let Tls { ca_file, cert_file, key_file, insecure_skip_verify } = tls;
        if *tls == Tls::default() && !is_said(view, &path) {
            let message = "no setting is given: k3s writes a directory for the host all the same, which takes it out of \
                           the wildcard `\"*\"` and makes `localhost:PORT` plain http; fill in, or leave `tls` out";
            out.add(rules::TLS_EMPTY, path, message);
            continue;
        }
        half_client(cert_file, key_file, &path, out);
        for (field, file) in [("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)] {
            check_file(view, field, file, path.child(field), out);
        }
        if *insecure_skip_verify && !ca_file.is_empty() {
            let message = "with `insecure_skip_verify: true` any certificate is accepted and the CA is never asked; leave \
                           out one of the two (keeping `ca_file` is the safe choice)";
            out.add(rules::TLS_CA_UNUSED, path.child("ca_file"), message);
        }
        on_http(view, key, tls, path, out);
    }
}

/// An explicit `insecure_skip_verify: false`, or paths left empty beside other words, are no slip.
fn is_said(view: &View<'_>, path: &KeyPath) -> bool {
    view.document.marks.contains_key(&path.child("insecure_skip_verify"))
}

fn half_client(cert_file: &str, key_file: &str, path: &KeyPath, out: &mut Findings<'_>) {
    let (given, missing) = match (cert_file.is_empty(), key_file.is_empty()) {
        (false, true) => ("cert_file", "key_file"),
        (true, false) => ("key_file", "cert_file"),
        (true, true) | (false, false) => return,
    };
    let message = format!(
        "`{given}` without `{missing}`: containerd reads a directory in place of the missing file, and every pull of the \
         host fails, from other endpoints too; give both, or neither"
    );
    out.add(rules::TLS_HALF_CLIENT, path.child(given), message);
}

fn check_file(view: &View<'_>, field: &str, file: &str, path: KeyPath, out: &mut Findings<'_>) {
    if file.is_empty() {
        return;
    }
    if file.chars().any(char::is_control) {
        let message = "the path holds a control character: containerd cannot read the hosts.toml that k3s makes of it and \
                       drops it whole, so pulls go to the upstream without mirrors; type the path anew";
        out.add(rules::TLS_PATH_CONTROL_CHARACTER, path, message);
        return;
    }
    if !file.starts_with('/') {
        let message = format!(
            "{} is relative to the host's directory in certs.d, which k3s empties at every start, so the file is not \
             there and every pull of the host fails; write the absolute path",
            shown(file)
        );
        out.add(rules::TLS_PATH_RELATIVE, path, message);
        return;
    }
    let consequence = "every pull of the host fails, from other endpoints too";
    let wanted = if field == "key_file" { "a private key" } else { "a certificate" };
    let (rule, state) = match view.context.files.get(file).copied().unwrap_or(FileFact::Unknown) {
        FileFact::Unknown => return,
        FileFact::Certificate if field != "key_file" => return,
        FileFact::Key if field == "key_file" => return,
        FileFact::Missing => (rules::TLS_FILE_MISSING, "there is no such file on the node".to_owned()),
        FileFact::Unreadable => (rules::TLS_FILE_UNREADABLE, "it cannot be read as a file".to_owned()),
        FileFact::NotPem => (rules::TLS_FILE_WRONG, format!("it holds no PEM block, and {wanted} in PEM is needed")),
        FileFact::Certificate => (rules::TLS_FILE_WRONG, format!("it holds a certificate, and {wanted} is needed")),
        FileFact::Key => (rules::TLS_FILE_WRONG, format!("it holds a private key, and {wanted} is needed")),
    };
    let message = format!("{}: {state}; {consequence}; put the right file there, or leave `{field}` out", shown(file));
    out.add(rule, path, message);
}

/// All endpoints that the entry applies to speak plain http.
fn on_http(view: &View<'_>, key: &str, tls: &Tls, path: KeyPath, out: &mut Findings<'_>) {
    if *tls == Tls::default() {
        return;
    }
    let addresses: Vec<&Address> = view.addresses_under(key).collect();
    if addresses.is_empty() || addresses.iter().any(|address| address.scheme != "http") {
        return;
    }
    let (path, what) = if tls.insecure_skip_verify {
        (path.child("insecure_skip_verify"), "`insecure_skip_verify`")
    } else {
        (path, "`tls`")
    };
    let also = if addresses.iter().any(|address| address.port.as_deref().is_some_and(|port| port != "80")) {
        " (it only makes containerd try https first)"
    } else {
        ""
    };
    let message = format!(
        "the endpoint speaks http, which is not https with a bad certificate: {what} does nothing for it{also}; leave it \
         out, or write `https://` in the endpoint"
    );
    out.add(rules::TLS_ON_HTTP, path, message);
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Case;
    use super::super::tests::Subject;
    use super::super::tests::file;
    use super::super::tests::run;
    use super::*;

    const HOST: &str = "r.example.com";

    fn client(cert_file: &str, key_file: &str) -> Subject {
        file().tls(HOST, Tls { cert_file: cert_file.to_owned(), key_file: key_file.to_owned(), ..Tls::default() })
    }

    pub(crate) fn cases() -> Vec<Case> {
        let pair = || client("/c.pem", "/k.pem");
        let ca = || file().ca(HOST, "/ca.pem");
        vec![
            (rules::TLS_HALF_CLIENT, client("/c.pem", ""), pair()),
            (rules::TLS_HALF_CLIENT, client("", "/k.pem"), ca()),
            (rules::TLS_FILE_MISSING, ca().fact("/ca.pem", FileFact::Missing), ca()),
            (
                rules::TLS_FILE_MISSING,
                ca().fact("/ca.pem", FileFact::Missing),
                ca().fact("/other.pem", FileFact::Missing),
            ),
            (
                rules::TLS_FILE_UNREADABLE,
                pair().fact("/k.pem", FileFact::Unreadable),
                pair().fact("/k.pem", FileFact::Unknown),
            ),
            (
                rules::TLS_FILE_WRONG,
                ca().fact("/ca.pem", FileFact::NotPem),
                ca().fact("/ca.pem", FileFact::Certificate),
            ),
            (
                rules::TLS_FILE_WRONG,
                pair().fact("/c.pem", FileFact::Key).fact("/k.pem", FileFact::Key),
                pair().fact("/c.pem", FileFact::Certificate).fact("/k.pem", FileFact::Key),
            ),
            (rules::TLS_FILE_WRONG, pair().fact("/k.pem", FileFact::Certificate), pair()),
            (rules::TLS_PATH_CONTROL_CHARACTER, file().ca(HOST, "/a\u{1}"), file().ca(HOST, "/a é")),
            (rules::TLS_PATH_RELATIVE, file().ca(HOST, "ca.pem"), ca()),
            (
                rules::TLS_EMPTY,
                file().tls(HOST, Tls::default()),
                file().tls(HOST, Tls::default()).mark(&["configs", HOST, "tls", "insecure_skip_verify"], 3),
            ),
            (
                rules::TLS_CA_UNUSED,
                file().tls(HOST, Tls { ca_file: "/ca.pem".to_owned(), insecure_skip_verify: true, ..Tls::default() }),
                file().skip_verify(HOST),
            ),
            (
                rules::TLS_ON_HTTP,
                file().mirror(HOST, &["http://r.example.com"]).skip_verify(HOST),
                file().mirror(HOST, &["http://r.example.com", "https://r.example.com"]).skip_verify(HOST),
            ),
            (
                rules::TLS_ON_HTTP,
                file().mirror("n.example.com", &["http://r.example.com"]).ca(HOST, "/ca.pem"),
                file().mirror("n.example.com", &["http://r.example.com:5000"]).ca(HOST, "/ca.pem"),
            ),
        ]
    }

    #[test]
    fn each_rule_names_its_mistake_and_not_its_near_miss() {
        run(&cases());
    }
}
