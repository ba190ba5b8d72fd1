//! What k3s wrote for containerd, what names its version, and the end of a log file.

use std::fs::File;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;

use agent_core::node::discovery::Data;
use agent_core::node::observed::RuntimeFiles;
use agent_core::secret::Secret;
use jiff::Timestamp;
use rustix::fs::OFlags;

use super::root::Root;

const HOSTS_TOML: u64 = 256 * 1024;
const CONFIG_TOML: u64 = 8 << 20;
const TAIL: u64 = 256 * 1024;
const TEMPLATES: [&str; 2] = ["config-v3.toml.tmpl", "config.toml.tmpl"];

/// Reads `DATA/agent/etc/containerd`. What is missing is missing; what cannot be read is an error, and no absence.
pub fn runtime_files(root: &Root, data_dir: &str) -> std::io::Result<RuntimeFiles> {
    let base = format!("{data_dir}/agent/etc/containerd");
    let mut seen = RuntimeFiles::default();
    for name in root.names(&format!("{base}/certs.d"))? {
        let directory = format!("{base}/certs.d/{name}");
        if root.dir(&directory).is_ok() {
            let hosts = root.read(&format!("{directory}/hosts.toml"), HOSTS_TOML)?;
            seen.hosts.insert(name, hosts);
        }
    }
    let config = format!("{base}/config.toml");
    seen.config = root.read(&config, CONFIG_TOML)?.map(Secret::new);
    if let Some(stat) = root.stat(&config)? {
        let nanoseconds = i32::try_from(stat.st_mtime_nsec).unwrap_or_default();
        seen.config_modified = Timestamp::new(stat.st_mtime, nanoseconds).ok();
    }
    Ok(seen)
}

/// What discovery wants to know of a data directory.
pub fn data(root: &Root, data_dir: &str) -> std::io::Result<Data> {
    let base = format!("{data_dir}/agent/etc/containerd");
    let mut template = None;
    for name in TEMPLATES {
        let path = format!("{base}/{name}");
        if let Some(text) = root.read(&path, CONFIG_TOML)? {
            template = Some((path, String::from_utf8_lossy(&text).into_owned()));
            break;
        }
    }
    Ok(Data {
        has_containerd: root.has(&base),
        has_certs_d: root.has(&format!("{base}/certs.d")),
        certs_d: root.names(&format!("{base}/certs.d"))?,
        config_toml: root.read(&format!("{base}/config.toml"), CONFIG_TOML)?.map(Secret::new),
        template,
        has_etcd: root.has(&format!("{data_dir}/server/db/etcd")),
    })
}

/// Names the version that was started last: k3s and RKE2 unpack each version into a directory of its own and point a
/// link at it. It can be read while nothing runs, and a replaced binary that was not started yet does not change it.
pub fn version(root: &Root, data_dir: &str) -> String {
    let links = [format!("{data_dir}/data/current"), format!("{data_dir}/bin")];
    links.iter().find_map(|link| root.link(link)).unwrap_or_default()
}

/// The last 256 KiB of a log file; `None` if it cannot be read.
pub(crate) fn tail(root: &Root, path: &str) -> Option<Vec<u8>> {
    let mut file = File::from(root.at(path, OFlags::RDONLY | OFlags::NONBLOCK).ok()?);
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut text = Vec::new();
    file.take(TAIL).read_to_end(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_k3s_wrote_is_read_and_a_directory_without_hosts_toml_is_told() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join("d/agent/etc/containerd");
        std::fs::create_dir_all(base.join("certs.d/a:5000")).unwrap();
        std::fs::create_dir_all(base.join("certs.d/b")).unwrap();
        std::fs::create_dir_all(temp.path().join("d/data")).unwrap();
        symlink("/d/data/abc", temp.path().join("d/data/current")).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test plays k3s")]
        let put = |name: &str, text: &str| std::fs::write(base.join(name), text).unwrap();
        put("certs.d/a:5000/hosts.toml", "x");
        put("certs.d/plain", "x");
        put("config.toml", "canary");
        put("config.toml.tmpl", "old");
        put("config-v3.toml.tmpl", "new");
        let root = Root::open(temp.path()).unwrap();
        let seen = runtime_files(&root, "/d").unwrap();
        assert_eq!(seen.hosts, [("a:5000".to_owned(), Some(b"x".to_vec())), ("b".to_owned(), None)].into());
        assert!(seen.config_modified.is_some() && !format!("{seen:?}").contains("canary"));
        let data = data(&root, "/d").unwrap();
        assert_eq!(data.template, Some(("/d/agent/etc/containerd/config-v3.toml.tmpl".to_owned(), "new".to_owned())));
        assert!(data.has_certs_d && !data.has_etcd);
        assert_eq!(version(&root, "/d"), "/d/data/abc");
        assert_eq!(runtime_files(&root, "/none").unwrap(), RuntimeFiles::default());
    }
}
