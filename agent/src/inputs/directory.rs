//! Reads a directory of manifests: what `kubectl apply -f DIR` takes, without recursion.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use agent_core::inputs::{InputObject, Inputs, ObjectId, Origin};
use agent_core::secret::Secret;

use super::manifest;

/// Largest file that is read: the API server takes objects of 1.5 MiB, and a file may hold several.
const FILE_LIMIT: u64 = 4 << 20;

/// How often a directory that changes under the reader is read again.
const TRIES: usize = 5;

/// Reads every manifest of a directory. Blocks; what cannot be read is said in `unreadable`, never with content.
///
/// Editors rename files away and back, and mounted volumes swap the link that all files go through. So the listing is
/// compared before and after: a file that was away for a moment, or files of two generations, are not taken for inputs.
pub fn read(dir: &Path) -> Inputs {
    for _ in 1..TRIES {
        let before = list(dir);
        let inputs = read_listed(dir, &before);
        if list(dir) == before {
            return inputs;
        }
    }
    read_listed(dir, &list(dir))
}

/// A file's identity: changes when the file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    is_file: bool,
}

/// The names of manifests with what they are; or why the directory cannot be listed.
type Listing = Result<BTreeMap<OsString, Result<Stamp, io::ErrorKind>>, io::ErrorKind>;

fn list(dir: &Path) -> Listing {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(|error| error.kind())? {
        let entry = entry.map_err(|error| error.kind())?;
        let name = entry.file_name();
        if is_manifest(&name) {
            // Through links: a mounted volume has nothing else.
            let stamp = fs::metadata(entry.path()).map(|meta| stamp(&meta)).map_err(|error| error.kind());
            if entry.path().symlink_metadata().is_ok() {
                files.insert(name, stamp);
            }
        }
    }
    Ok(files)
}

fn stamp(meta: &fs::Metadata) -> Stamp {
    Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        length: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
        is_file: meta.is_file(),
    }
}

fn is_manifest(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    !name.starts_with('.') && [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end))
}

fn read_listed(dir: &Path, listing: &Listing) -> Inputs {
    let mut inputs = Inputs { origin: Origin::Directory, objects: Vec::new(), unreadable: Vec::new() };
    let files = match listing {
        Ok(files) => files,
        Err(kind) => {
            inputs.unreadable.push(format!("the directory of inputs {} cannot be listed: {kind}", dir.display()));
            return inputs;
        }
    };
    let mut places: BTreeMap<ObjectId, String> = BTreeMap::new();
    for (name, stamp) in files {
        let file = name.to_string_lossy();
        let text = match stamp {
            Ok(Stamp { is_file: false, .. }) => continue,
            Ok(_) => read_file(&dir.join(name)),
            Err(kind) => Err(format!("cannot be read: {kind}")),
        };
        let text = match text {
            Ok(Some(text)) => text,
            // Gone between listing and opening: the next listing is without it.
            Ok(None) => continue,
            Err(why) => {
                inputs.unreadable.push(format!("{file} {why}"));
                continue;
            }
        };
        let manifest::Manifest { objects, unreadable } = manifest::parse(&file, &text);
        inputs.unreadable.extend(unreadable);
        for (object, place) in objects {
            add(&mut inputs, &mut places, object, place);
        }
    }
    inputs
}

fn add(inputs: &mut Inputs, places: &mut BTreeMap<ObjectId, String>, object: InputObject, place: String) {
    match places.get(&object.id) {
        Some(first) => {
            inputs.unreadable.push(format!("{} stands twice: at {first} and at {place}", object.id));
        }
        None => {
            places.insert(object.id.clone(), place);
            inputs.objects.push(object);
        }
    }
}

fn read_file(path: &Path) -> Result<Option<Secret<Vec<u8>>>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot be opened: {}", error.kind())),
    };
    // Reserved at once: a vector that grows leaves copies of what it held.
    let mut text =
        Vec::with_capacity(usize::try_from(FILE_LIMIT.min(file.metadata().map_or(0, |m| m.len() + 1))).unwrap_or(0));
    let outcome = file.take(FILE_LIMIT + 1).read_to_end(&mut text);
    let text = Secret::new(text);
    match outcome {
        Err(error) => Err(format!("cannot be read: {}", error.kind())),
        Ok(length) if length as u64 > FILE_LIMIT => Err(format!("is larger than {} MiB", FILE_LIMIT >> 20)),
        Ok(_) => Ok(Some(text)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use agent_core::inputs::NAMESPACE;
    use tempfile::TempDir;

    use super::*;

    const CANARY: &str = "canary-hunter2";
    // base64 of the canary.
    const PACKED: &str = "Y2FuYXJ5LWh1bnRlcjI=";

    fn put(dir: &Path, name: &str, text: &str) {
        let mut file = tempfile::NamedTempFile::new_in(dir).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.persist(dir.join(name)).unwrap();
    }

    fn given(files: &[(&str, &str)]) -> (TempDir, Inputs) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            put(dir.path(), name, text);
        }
        let inputs = read(dir.path());
        (dir, inputs)
    }

    fn names(inputs: &Inputs) -> Vec<String> {
        inputs.objects.iter().map(|object| object.id.to_string()).collect()
    }

    #[test]
    fn documents_lists_and_kinds_are_taken_as_kubectl_takes_them() {
        let (_dir, inputs) = given(&[
            (
                "a.yaml",
                "# a comment\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: registries}\ndata:\n  registries.yaml: |\n    mirrors: {}\n---\n\
                 apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {replicas: 1}\n---\n---\n\
                 apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: one, namespace: team}\n  type: kubernetes.io/basic-auth\n  stringData: {username: u}\n",
            ),
            (
                "b.yml",
                "{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"two\"}}\n{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"three\"}}",
            ),
            (
                "c.json",
                "{\"apiVersion\":\"v1\",\"kind\":\"SecretList\",\"items\":[{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{\"name\":\"four\"}}]}",
            ),
            ("d.yaml", "{apiVersion: v1, kind: Secret, metadata: {name: five}}"),
            (".hidden.yaml", "kind: ["),
            ("notes.txt", "kind: ["),
            ("e.yaml~", "kind: ["),
        ]);
        assert_eq!(inputs.unreadable, Vec::<String>::new());
        let ours = |name: &str| format!("Secret {NAMESPACE}/{name}");
        assert_eq!(
            names(&inputs),
            [
                format!("ConfigMap {NAMESPACE}/registries"),
                "Secret team/one".into(),
                ours("two"),
                ours("three"),
                ours("four"),
                ours("five")
            ]
        );
        assert_eq!(inputs.objects[0].data["registries.yaml"].expose(), b"mirrors: {}\n");
        assert_eq!(inputs.objects[1].secret_type, "kubernetes.io/basic-auth");
        assert_eq!(inputs.objects[2].secret_type, "Opaque");
        assert_eq!(inputs.origin, Origin::Directory);
    }

    #[test]
    fn string_data_wins_and_base64_may_be_wrapped() {
        let (_dir, inputs) = given(&[(
            "a.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {both: from-text}\ndata:\n  both: Zm9v\n  wrapped: |\n    Y2FuYXJ5\n    LWh1bnRlcjI=\n  empty:\n",
        )]);
        assert_eq!(inputs.unreadable, Vec::<String>::new());
        let data = &inputs.objects[0].data;
        assert_eq!(data["both"].expose(), b"from-text");
        assert_eq!(data["wrapped"].expose(), CANARY.as_bytes());
        assert_eq!(data["empty"].expose(), b"");
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_place_and_never_with_its_content() {
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
        for (text, says) in [
            (format!("{secret}data: {{password: {CANARY}}}"), "bad.yaml, line 1: Secret k3s-registry-agent/s: data.password is not base64: plain text belongs under stringData".to_owned()),
            (format!("{secret}data:\n  password: {CANARY}\n   {CANARY}: x\n"), "bad.yaml, line 6 column".to_owned()),
            (format!("{secret}data: {{password: 12345}}"), "data.password is not a text: put it in quotes".to_owned()),
            (format!("{secret}stringdata: {{password: {CANARY}}}"), "unknown field stringdata: write stringData".to_owned()),
            (format!("{secret}{CANARY}: x"), "a field that it cannot have".to_owned()),
            (format!("{secret}data: {CANARY}"), "data is not a mapping".to_owned()),
            (format!("---\n\n---\n{secret}type: {{{CANARY}: 1}}"), "bad.yaml, line 4: Secret k3s-registry-agent/s: type is not a text".to_owned()),
            (format!("{secret}stringData:\n  {CANARY}: a\n  {CANARY}: b\n"), "bad.yaml, line 6 column 3: a key stands twice in the same mapping".to_owned()),
            (format!("password: {CANARY}"), "apiVersion or kind is missing".to_owned()),
            (CANARY.to_owned(), "the document is not an object".to_owned()),
            (format!("a: *{CANARY}"), "an alias names an anchor that is not there".to_owned()),
            (format!("{}{CANARY}{}", "[".repeat(100), "]".repeat(100)), "nested too deeply".to_owned()),
            ("apiVersion: v1\nkind: Secret\nmetadata: {generateName: s}".to_owned(), "has no metadata.name".to_owned()),
        ] {
            let (_dir, inputs) = given(&[("bad.yaml", &text)]);
            assert_eq!(inputs.objects, []);
            assert_eq!(inputs.unreadable.len(), 1, "{:?}", inputs.unreadable);
            assert!(inputs.unreadable[0].contains(&says), "{}", inputs.unreadable[0]);
            let shown = format!("{inputs:?}");
            assert!(!shown.contains(CANARY) && !shown.contains(PACKED), "{shown}");
        }
    }

    #[test]
    fn broken_json_is_named_by_line_and_column() {
        let text =
            format!("{{\"apiVersion\": \"v1\", \"kind\": \"Secret\",\n \"data\": {{\"a\": \"{CANARY}\", \"a\": 1}}}}");
        let (_dir, inputs) = given(&[("a.json", &text), ("b.json", "{\"kind\": }")]);
        assert!(inputs.unreadable[0].starts_with("a.json, line 2 column "), "{:?}", inputs.unreadable);
        assert!(inputs.unreadable[0].ends_with("a key stands twice in the same mapping"), "{:?}", inputs.unreadable);
        assert_eq!(inputs.unreadable[1], "b.json, line 1 column 10: it is not valid JSON");
    }

    #[test]
    fn an_object_that_stands_twice_is_refused_with_both_places() {
        let one = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
        let (_dir, inputs) = given(&[
            ("a.yaml", one),
            ("b.yaml", &format!("---\n{one}")),
            ("c.yaml", &one.replace("{name: s}", "{name: s, namespace: other}")),
        ]);
        assert_eq!(
            inputs.unreadable,
            ["Secret k3s-registry-agent/s stands twice: at a.yaml, line 1 and at b.yaml, line 2"]
        );
        assert_eq!(names(&inputs), ["Secret k3s-registry-agent/s", "Secret other/s"]);
    }

    #[test]
    fn only_our_annotations_are_kept_since_kubectl_copies_the_data_into_one() {
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n  labels: {{k3s-registry-agent/ignore: \"true\"}}\n  annotations:\n    k3s-registry-agent/host: a.example\n    \
             kubectl.kubernetes.io/last-applied-configuration: '{{\"data\":{{\"password\":\"{PACKED}\"}}}}'\ndata: {{password: {PACKED}}}\n"
        );
        let (_dir, inputs) = given(&[("a.yaml", &text)]);
        assert_eq!(inputs.unreadable, Vec::<String>::new());
        assert_eq!(inputs.objects[0].annotations.len(), 1);
        assert_eq!(inputs.objects[0].labels["k3s-registry-agent/ignore"], "true");
        assert!(!format!("{inputs:?}").contains(PACKED));
        assert_eq!(inputs.objects[0].data["password"].expose(), CANARY.as_bytes());
    }

    #[test]
    fn objects_that_the_cluster_watches_leave_out_are_left_out() {
        let (_dir, inputs) = given(&[(
            "a.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: h}\ntype: helm.sh/release.v1\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: kube-root-ca.crt}\n",
        )]);
        assert_eq!((inputs.objects.len(), inputs.unreadable.len()), (0, 0));
    }

    #[test]
    fn a_mounted_volume_is_read_through_its_links_before_and_after_the_swap() {
        let dir = tempfile::tempdir().unwrap();
        let secret = |name: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\n");
        for (generation, name) in [("..2026_1", "old"), ("..2026_2", "new")] {
            fs::create_dir(dir.path().join(generation)).unwrap();
            put(&dir.path().join(generation), "s.yaml", &secret(name));
        }
        symlink("..2026_1", dir.path().join("..data")).unwrap();
        symlink("..data/s.yaml", dir.path().join("s.yaml")).unwrap();
        assert_eq!(names(&read(dir.path())), ["Secret k3s-registry-agent/old"]);
        symlink("..2026_2", dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        let inputs = read(dir.path());
        assert_eq!(names(&inputs), ["Secret k3s-registry-agent/new"]);
        assert_eq!(inputs.unreadable, Vec::<String>::new());
    }

    #[test]
    fn a_file_that_vanishes_between_listing_and_opening_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "a.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n");
        let listing = list(dir.path());
        fs::rename(dir.path().join("a.yaml"), dir.path().join("a.yaml~")).unwrap();
        let inputs = read_listed(dir.path(), &listing);
        assert_eq!((inputs.objects.len(), inputs.unreadable.len()), (0, 0));
        assert_ne!(list(dir.path()), listing, "so the directory is read again");
    }

    #[test]
    fn a_missing_directory_a_dangling_link_and_a_huge_file_are_said() {
        let dir = tempfile::tempdir().unwrap();
        symlink("nowhere", dir.path().join("a.yaml")).unwrap();
        put(dir.path(), "b.yaml", &"#".repeat(usize::try_from(FILE_LIMIT).unwrap() + 1));
        fs::create_dir(dir.path().join("c.yaml")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("d.yaml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut file = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
        file.write_all(b"a: \xff").unwrap();
        file.persist(dir.path().join("e.yaml")).unwrap();
        assert_eq!(
            read(dir.path()).unreadable,
            ["a.yaml cannot be read: entity not found", "b.yaml is larger than 4 MiB", "e.yaml: the text is not UTF-8"]
        );
        let missing = read(&dir.path().join("missing"));
        assert!(missing.unreadable[0].ends_with("missing cannot be listed: entity not found"), "{missing:?}");
    }
}
