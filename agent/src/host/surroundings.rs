//! What decides how a node's containerd reaches registries, beside their configuration: whom it trusts, and its proxy.

use agent_core::preflight::Proxy;

use super::root::Root;

const LONGEST: u64 = 4 << 20;

/// Where Go looks for a bundle: the first that is there counts.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where it looks for single certificates, always.
const DIRECTORIES: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];

/// The PEM files that containerd's own trust is made of. What cannot be read is passed over, as Go does.
pub fn trusted(root: &Root) -> Vec<Vec<u8>> {
    let mut files: Vec<_> =
        BUNDLES.iter().find_map(|path| root.read(path, LONGEST).ok().flatten()).into_iter().collect();
    for directory in DIRECTORIES {
        for name in root.names(directory).unwrap_or_default() {
            let path = format!("{directory}/{name}");
            // The bundle is there already, and the names by hash are links to the others.
            if BUNDLES.contains(&path.as_str()) || root.link(&path).is_some_and(|target| !target.contains('/')) {
                continue;
            }
            files.extend(root.read(&path, LONGEST).ok().flatten());
        }
    }
    files
}

/// The proxy in the environment files and drop-ins of a unit, where k3s's installer and its documentation put it.
pub fn proxy(root: &Root, unit: &str) -> Option<Proxy> {
    let name = unit.trim_end_matches(".service");
    if name.is_empty() {
        return None;
    }
    let mut paths = Vec::new();
    for directory in ["/usr/lib/systemd/system", "/usr/local/lib/systemd/system", "/etc/systemd/system"] {
        paths.push(format!("{directory}/{name}.service"));
        let drop_ins = format!("{directory}/{name}.service.d");
        let names = root.names(&drop_ins).unwrap_or_default();
        paths.extend(names.into_iter().filter(|name| name.ends_with(".conf")).map(|name| format!("{drop_ins}/{name}")));
    }
    paths.extend([format!("/etc/default/{name}"), format!("/etc/sysconfig/{name}")]);
    paths.push(format!("/usr/local/lib/systemd/system/{name}.env"));
    paths.push(format!("/etc/systemd/system/{name}.service.env"));
    let read = |path: &String| root.read(path, LONGEST).ok().flatten();
    // The cluster's token stands in these files: of all lines only those of a proxy are looked at.
    let texts: Vec<_> =
        paths.iter().filter_map(read).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
    Proxy::read(texts.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use agent_core::preflight::Url;

    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let temp = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = temp.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            #[expect(clippy::disallowed_methods, reason = "a test plays the host")]
            std::fs::write(path, text).unwrap();
        }
        let root = Root::open(temp.path()).unwrap();
        (temp, root)
    }

    #[test]
    fn the_first_bundle_counts_and_single_certificates_beside_it() {
        let (temp, root) = host(&[
            ("etc/ssl/certs/ca-certificates.crt", "debian"),
            ("etc/pki/tls/certs/ca-bundle.crt", "fedora"),
            ("etc/ssl/certs/own.pem", "own"),
        ]);
        std::os::unix::fs::symlink("own.pem", temp.path().join("etc/ssl/certs/1234abcd.0")).unwrap();
        assert_eq!(trusted(&root), [b"debian".to_vec(), b"own".to_vec()]);
        assert!(trusted(&host(&[]).1).is_empty());
    }

    #[test]
    fn a_proxy_is_read_from_where_the_unit_is_given_it() {
        let registry = Url::parse("https://r.example.com/v2/").unwrap();
        for path in [
            "etc/systemd/system/k3s-agent.service.env",
            "etc/default/k3s-agent",
            "etc/systemd/system/k3s-agent.service.d/proxy.conf",
        ] {
            let text = if path.ends_with(".conf") {
                "[Service]\nEnvironment=HTTPS_PROXY=http://p"
            } else {
                "HTTPS_PROXY=http://p"
            };
            let (_temp, root) = host(&[(path, text)]);
            assert!(proxy(&root, "k3s-agent.service").is_some_and(|proxy| proxy.is_for(&registry)), "{path}");
            assert_eq!(proxy(&root, "k3s.service"), None);
            assert_eq!(proxy(&root, ""), None);
        }
    }
}
