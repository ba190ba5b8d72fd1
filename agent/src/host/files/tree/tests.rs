use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;

const PATH: &str = "/etc/rancher/k3s/registries.yaml";
const OURS: Like = Like::Mode(0o600);

struct Bed {
    temp: TempDir,
    place: Configuration,
}

impl Bed {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let place = Configuration::new(Root::open(temp.path()).unwrap(), PATH);
        Self { temp, place }
    }

    fn etc(&self) -> std::path::PathBuf {
        self.temp.path().join("etc/rancher/k3s")
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.etc().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test plays another writer")]
        fs::write(path, text).unwrap();
    }

    fn no_leftover(&self) {
        let mut seen = vec![self.etc()];
        while let Some(dir) = seen.pop() {
            for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
                assert!(!entry.file_name().to_str().unwrap().starts_with(TEMPORARY), "{:?}", entry.path());
                if entry.file_type().unwrap().is_dir() {
                    seen.push(entry.path());
                }
            }
        }
    }
}

fn tree(registries: Option<&str>, tls: &[(&str, &str)]) -> Tree {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    Tree {
        registries: registries.map(secret),
        tls: tls.iter().map(|(path, text)| ((*path).to_owned(), secret(text))).collect(),
    }
}

#[test]
fn the_label_of_the_file_before_goes_over_to_the_new_one() {
    const SELINUX: &str = "security.selinux";
    const ITS_OWN: &[u8] = b"system_u:object_r:container_config_t:s0\0";
    let bed = Bed::new();
    bed.put("registries.yaml", "theirs");
    let path = bed.etc().join("registries.yaml");
    // A kernel without SELinux keeps the attribute as any other; one with it gives each new file a label of its own.
    rustix::fs::setxattr(&path, SELINUX, ITS_OWN, rustix::fs::XattrFlags::empty()).unwrap();
    bed.place.replace_tree(&tree(Some("ours"), &[]), OURS).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
    let mut label = [0_u8; 256];
    let length = rustix::fs::getxattr(&path, SELINUX, &mut label[..]).unwrap();
    assert_eq!(&label[..length], ITS_OWN);
}

#[test]
fn a_link_that_leads_nowhere_is_named_and_not_taken_for_an_empty_directory() {
    let bed = Bed::new();
    fs::create_dir_all(bed.temp.path().join("etc/rancher")).unwrap();
    assert_eq!(bed.place.read_tree().unwrap().oddity, None);
    symlink("/data/k3s", bed.etc()).unwrap();
    let oddity = bed.place.read_tree().unwrap().oddity.unwrap();
    assert!(oddity.contains("/etc/rancher/k3s is a symbolic link to /data/k3s, which is not there"), "{oddity}");
    fs::create_dir_all(bed.temp.path().join("data/k3s")).unwrap();
    assert_eq!(bed.place.read_tree().unwrap().oddity, None);
    fs::remove_file(bed.etc()).unwrap();
    fs::remove_dir_all(bed.temp.path().join("etc/rancher")).unwrap();
    symlink("../data/rancher", bed.temp.path().join("etc/rancher")).unwrap();
    assert!(bed.place.read_tree().unwrap().oddity.unwrap().contains("/etc/rancher is a symbolic link"));
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn mount(args: &[&str]) {
    #[expect(clippy::disallowed_methods, reason = "a test needs a small or read-only file system")]
    let status = std::process::Command::new("/bin/mount").args(args).status().unwrap();
    assert!(status.success());
}

struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        #[expect(clippy::disallowed_methods, reason = "undoes what `mount` did")]
        let _ = std::process::Command::new("/bin/umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_tree_that_was_written_is_read_back_and_a_second_write_changes_nothing() {
    let bed = Bed::new();
    let wanted = tree(Some("mirrors: {}\n"), &[("a:5000/ca.crt", "A"), ("b/tls.crt", "C"), ("b/tls.key", "K")]);
    assert!(bed.place.replace_tree(&wanted, OURS).unwrap());
    assert_eq!(bed.place.read_tree().unwrap().tree, wanted);
    assert_eq!(mode(&bed.etc().join("registries.yaml")), 0o600);
    assert_eq!(mode(&bed.etc().join("registry-tls/b/tls.key")), 0o600);
    assert_eq!(mode(&bed.etc().join("registry-tls/b")), 0o700);
    assert_eq!(mode(&bed.etc().join("registry-tls")), 0o700);
    let inode = fs::metadata(bed.etc().join("registries.yaml")).unwrap().ino();
    assert!(!bed.place.replace_tree(&wanted, OURS).unwrap());
    assert_eq!(fs::metadata(bed.etc().join("registries.yaml")).unwrap().ino(), inode);
    bed.no_leftover();
}

#[test]
fn a_changed_pair_is_exchanged_whole_and_an_unused_host_goes() {
    let bed = Bed::new();
    bed.place
        .replace_tree(&tree(Some("1"), &[("b/tls.crt", "C"), ("b/tls.key", "K"), ("c/ca.crt", "")]), OURS)
        .unwrap();
    let before = fs::metadata(bed.etc().join("registry-tls/b")).unwrap().ino();
    let wanted = tree(Some("2"), &[("b/tls.crt", "C"), ("b/tls.key", "K2")]);
    assert!(bed.place.replace_tree(&wanted, OURS).unwrap());
    assert_ne!(fs::metadata(bed.etc().join("registry-tls/b")).unwrap().ino(), before);
    assert_eq!(bed.place.read_tree().unwrap().tree, wanted);
    assert!(bed.place.replace_tree(&Tree::default(), OURS).unwrap());
    assert_eq!(fs::read_dir(bed.etc()).unwrap().count(), 0);
    bed.no_leftover();
}

#[test]
fn an_unsupported_exchange_moves_the_old_one_aside() {
    let bed = Bed::new();
    bed.put("registry-tls/b/tls.crt", "old");
    let dir = bed.place.root.dir("/etc/rancher/k3s/registry-tls").unwrap();
    let (prepared, fd) = Temporary::directory(dir.as_fd(), "b").unwrap();
    super::super::replace(fd.as_fd(), "tls.crt", "b", b"new", OURS).unwrap();
    super::super::move_aside(dir.as_fd(), &prepared.name, "b", "b").unwrap();
    drop(prepared);
    assert_eq!(fs::read_to_string(bed.etc().join("registry-tls/b/tls.crt")).unwrap(), "new");
    bed.no_leftover();
}

#[test]
fn a_lax_mode_is_tightened_without_a_new_file_and_a_foreign_owner_is_kept() {
    let bed = Bed::new();
    bed.put("registries.yaml", "x");
    let path = bed.etc().join("registries.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    assert!(bed.place.replace_tree(&tree(Some("x"), &[]), OURS).unwrap());
    assert_eq!((mode(&path), fs::metadata(&path).unwrap().ino()), (0o600, inode));
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
        assert!(bed.place.replace_tree(&tree(Some("y"), &[]), OURS).unwrap());
        let now = fs::metadata(&path).unwrap();
        assert_eq!((now.uid(), now.gid(), mode(&path)), (12, 34, 0o600));
    }
}

#[test]
fn what_is_put_back_has_its_old_mode() {
    let bed = Bed::new();
    bed.put("registries.yaml", "theirs");
    fs::set_permissions(bed.etc().join("registries.yaml"), fs::Permissions::from_mode(0o640)).unwrap();
    let before = bed.place.attributes().unwrap().unwrap();
    bed.place.replace_tree(&tree(Some("ours"), &[]), OURS).unwrap();
    bed.place.replace_tree(&tree(Some("theirs"), &[]), Like::Exactly(before)).unwrap();
    assert_eq!(bed.place.attributes().unwrap(), Some(before));
    assert_eq!(before.mode, 0o640);
}

#[test]
fn a_directory_or_a_symlink_in_place_of_the_file_is_named_and_left() {
    for what in ["a directory", "a symbolic link"] {
        let bed = Bed::new();
        bed.put("real", "canary");
        let path = bed.etc().join("registries.yaml");
        if what == "a directory" {
            fs::create_dir(&path).unwrap()
        } else {
            symlink("real", &path).unwrap()
        }
        let error = bed.place.replace_tree(&tree(Some("canary"), &[]), OURS).unwrap_err();
        let expected = format!("{PATH} is {what}: move it away, so that the agent can put its own there");
        assert_eq!(error.to_string(), expected);
        assert!(!format!("{error:?}").contains("canary"));
        assert_eq!(
            bed.place.read_tree().unwrap().oddity,
            Some(format!("{PATH} is {what}: move it away, so that the agent can put its own there"))
        );
        bed.place.replace_tree(&Tree::default(), OURS).unwrap_err();
        assert!(fs::symlink_metadata(&path).is_ok());
        bed.no_leftover();
    }
}

#[test]
fn a_tls_directory_that_is_a_symlink_is_refused_and_not_followed() {
    let bed = Bed::new();
    bed.put("elsewhere/ca.crt", "keep");
    fs::create_dir(bed.etc().join("registry-tls")).unwrap();
    symlink("../elsewhere", bed.etc().join("registry-tls/a")).unwrap();
    let error = bed.place.replace_tree(&tree(Some("1"), &[("a/ca.crt", "new")]), OURS).unwrap_err();
    assert_eq!(error.kind(), "in-the-way");
    bed.place.replace_tree(&tree(Some("1"), &[]), OURS).unwrap();
    assert_eq!(fs::read_to_string(bed.etc().join("elsewhere/ca.crt")).unwrap(), "keep");
}

#[test]
fn a_name_that_would_leave_the_directory_is_refused() {
    for path in ["../x", "a/../../x", "a", "a/b/c", "/a", "a/", "./a", "a/..", ".registries.1/a"] {
        let bed = Bed::new();
        let error = bed.place.replace_tree(&tree(Some("1"), &[(path, "x")]), OURS).unwrap_err();
        assert_eq!(error.kind(), "bad-name", "{path}");
        assert!(!bed.etc().exists(), "{path}");
    }
}

#[test]
fn an_administrators_file_in_registry_tls_stays_and_is_no_part_of_the_tree() {
    let bed = Bed::new();
    bed.put("registry-tls/own-ca.pem", "theirs");
    bed.place.replace_tree(&tree(Some("1"), &[("a/ca.crt", "x")]), OURS).unwrap();
    bed.place.replace_tree(&tree(Some("1"), &[]), OURS).unwrap();
    assert_eq!(fs::read_to_string(bed.etc().join("registry-tls/own-ca.pem")).unwrap(), "theirs");
    assert_eq!(bed.place.read_tree().unwrap(), Disk { oddity: None, ..bed.place.read_tree().unwrap() });
    assert!(bed.place.read_tree().unwrap().tree.tls.is_empty());
}

#[test]
fn leftovers_of_a_killed_process_are_swept_and_nothing_else() {
    let bed = Bed::new();
    bed.put("registries.yaml", "1");
    bed.put(".registries.0011/deep/er", "half");
    bed.put("registry-tls/.registries.22/tls.key", "half");
    bed.put("registries.yaml.bak", "theirs");
    bed.place.sweep().unwrap();
    bed.no_leftover();
    assert!(bed.etc().join("registries.yaml.bak").exists() && bed.etc().join("registries.yaml").exists());
}

#[test]
fn a_full_disk_leaves_the_old_file_and_no_temporary_one() {
    assert!(nix::unistd::geteuid().is_root(), "run the tests as root: only root may mount");
    let bed = Bed::new();
    fs::create_dir_all(bed.etc()).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=16k", "none", bed.etc().to_str().unwrap()]);
    let etc = bed.etc();
    let _mounted = Mounted(&etc);
    let old = tree(Some("old"), &[("a/ca.crt", "old")]);
    bed.place.replace_tree(&old, OURS).unwrap();
    let large = "canary".repeat(9000);
    for new in [tree(Some(&large), &[("a/ca.crt", "old")]), tree(Some("old"), &[("a/ca.crt", &large)])] {
        let error = bed.place.replace_tree(&new, OURS).unwrap_err();
        assert_eq!(error.kind(), "full", "{error:?}");
        assert!(!format!("{error:?}").contains("canary"));
        assert_eq!(bed.place.read_tree().unwrap().tree, old);
        bed.no_leftover();
    }
}

#[test]
fn a_read_only_directory_is_told_and_nothing_changes() {
    assert!(nix::unistd::geteuid().is_root(), "run the tests as root: only root may mount");
    let bed = Bed::new();
    bed.place.replace_tree(&tree(Some("old"), &[]), OURS).unwrap();
    let etc = bed.etc();
    let path = etc.to_str().unwrap();
    mount(&["--bind", path, path]);
    let _mounted = Mounted(&etc);
    mount(&["-o", "remount,bind,ro", path]);
    let error = bed.place.replace_tree(&tree(Some("new"), &[]), OURS).unwrap_err();
    assert_eq!(error.kind(), "read-only");
    let remedy = "its file system is mounted read-only: mount it writable";
    assert_eq!(error.to_string(), format!("cannot create a temporary file beside {PATH} ({remedy})"));
    assert_eq!(bed.place.read_tree().unwrap().tree, tree(Some("old"), &[]));
}

/// Some people guard their file with `chattr +i`. What the kernel says to that names nothing.
#[test]
fn what_is_not_permitted_is_told_with_the_way_to_see_and_end_that() {
    let told = failed("replace", PATH)(rustix::io::Errno::PERM).to_string();
    assert!(told.starts_with(&format!("cannot replace {PATH} (")), "{told}");
    assert!(told.contains("`lsattr -d`") && told.contains("`chattr -ia`"), "{told}");
    let told = failed("replace", PATH)(rustix::io::Errno::ACCESS).to_string();
    assert_eq!(told, format!("cannot replace {PATH} (run it as root)"));
    assert_eq!(failed("replace", PATH)(rustix::io::Errno::IO).to_string(), format!("cannot replace {PATH}"));
}

#[test]
fn an_absolute_symlink_of_the_host_is_followed_inside_the_root() {
    let bed = Bed::new();
    fs::create_dir_all(bed.temp.path().join("etc")).unwrap();
    fs::create_dir_all(bed.temp.path().join("data")).unwrap();
    symlink("/data", bed.temp.path().join("etc/rancher")).unwrap();
    bed.place.replace_tree(&tree(Some("x"), &[]), OURS).unwrap();
    assert_eq!(fs::read_to_string(bed.temp.path().join("data/k3s/registries.yaml")).unwrap(), "x");
}

#[test]
fn what_is_left_of_tls_files_by_one_killed_while_it_removed_them_is_swept() {
    let bed = Bed::new();
    bed.put("registries.yaml", "x");
    bed.put(&format!("registry-tls/{TEMPORARY}0/ca.crt"), "C");
    bed.place.sweep().unwrap();
    assert!(!bed.etc().join("registry-tls").exists());
    bed.put("registry-tls/b/ca.crt", "C");
    bed.place.sweep().unwrap();
    assert_eq!(bed.place.read_tree().unwrap().tree, tree(Some("x"), &[("b/ca.crt", "C")]));
}
