//! The Go types of `rancher/wharfie` `types.go`, each with its own way of being filled.

use std::collections::{BTreeMap, BTreeSet};

use super::super::document::{KeyPath, NoteKind};
use super::super::keys::Level;
use super::super::model::{Auth, HostConfig, Mirror, Registries, Tls};
use super::{Decoder, Good, Place, Stop, Target};
use crate::secret::Secret;
use crate::yaml::{NodeId, Resolved, Scalar};

/// `Registry`.
#[derive(Default)]
pub(super) struct Root {
    pub(super) registries: Registries,
    auths: BTreeMap<String, Auth>,
}

/// A key of a map: text like any other, but called a key in the message.
#[derive(Default)]
pub(super) struct Key(pub(super) String);

fn text(decoder: &mut Decoder<'_>, scalar: &Scalar, resolved: Resolved) -> Result<String, Stop> {
    decoder.count_text(scalar.text.len())?;
    Ok(match resolved {
        Resolved::Binary(bytes) => match std::str::from_utf8(bytes.expose()) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                decoder.found.doubt = Some("a !!binary value is not UTF-8");
                String::new()
            }
        },
        Resolved::Doubtful => {
            decoder.found.doubt = Some("a value has a tag that may not fit it");
            scalar.text.clone()
        }
        Resolved::Null | Resolved::Bool { .. } | Resolved::Text | Resolved::Contradiction => scalar.text.clone(),
    })
}

impl Target for Key {
    const MUST_BE: &'static str = "a key must be text, not a list or a map";

    fn scalar(&mut self, decoder: &mut Decoder<'_>, scalar: &Scalar, resolved: Resolved, _: Place<'_>) -> Good {
        self.0 = text(decoder, scalar, resolved)?;
        Ok(true)
    }
}

impl Target for String {
    const MUST_BE: &'static str = "must be text, not a list or a map";

    fn scalar(&mut self, decoder: &mut Decoder<'_>, scalar: &Scalar, resolved: Resolved, _: Place<'_>) -> Good {
        *self = text(decoder, scalar, resolved)?;
        Ok(true)
    }
}

impl Target for Secret<String> {
    const MUST_BE: &'static str = String::MUST_BE;

    fn scalar(&mut self, decoder: &mut Decoder<'_>, scalar: &Scalar, resolved: Resolved, _: Place<'_>) -> Good {
        *self = Secret::new(text(decoder, scalar, resolved)?);
        Ok(true)
    }
}

impl Target for bool {
    const MUST_BE: &'static str = "must be true or false, without quotes";

    fn scalar(&mut self, decoder: &mut Decoder<'_>, scalar: &Scalar, resolved: Resolved, place: Place<'_>) -> Good {
        let Resolved::Bool { value, is_old } = resolved else { return Ok(false) };
        *self = value;
        if is_old && scalar.tag.is_empty() {
            decoder.note(NoteKind::OldBoolean, place.path, place.at);
        }
        Ok(true)
    }
}

/// A later list replaces an earlier one.
impl Target for Vec<String> {
    const MUST_BE: &'static str = "must be a list: write each value on a line of its own behind '- '";

    fn sequence(&mut self, decoder: &mut Decoder<'_>, items: &[NodeId], path: &KeyPath) -> Good {
        decoder.forget_below(path);
        self.clear();
        for (position, id) in items.iter().enumerate() {
            decoder.count_text(path.keys().iter().map(String::len).sum())?;
            let path = path.index(position);
            let mut item = String::new();
            if decoder.unmarshal(*id, &mut item, &path)? {
                decoder.mark(&path, *id);
                self.push(item);
            }
        }
        Ok(true)
    }
}

/// A later map adds to an earlier one; a later value of the same key replaces the earlier one wholly.
impl<V: Target> Target for BTreeMap<String, V> {
    const MUST_BE: &'static str = "must be a map: 'KEY: VALUE', one on each line, indented";

    fn mapping(&mut self, decoder: &mut Decoder<'_>, entries: &[(NodeId, NodeId)], path: &KeyPath) -> Good {
        let mut seen = Seen::default();
        for (key_id, value_id) in entries {
            if decoder.is_merge(*key_id) {
                seen.merge(decoder, path, *key_id);
                decoder.merge(*value_id, self, path)?;
                continue;
            }
            let Some((key, path)) = decoder.key(*key_id, path)? else { continue };
            seen.key(decoder, &key, &path, *key_id);
            let mut value = V::default();
            decoder.forget_below(&path);
            if decoder.unmarshal(*value_id, &mut value, &path)? {
                decoder.mark(&path, *key_id);
                self.insert(key, value);
            }
        }
        Ok(true)
    }
}

/// The keys of one map in the text, to notice doubled ones.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn key(&mut self, decoder: &mut Decoder<'_>, key: &str, path: &KeyPath, id: NodeId) {
        if !self.0.insert(key.to_owned()) {
            decoder.note(NoteKind::DoubledKey, path, decoder.tree.node(id).at);
        }
    }

    fn merge(&mut self, decoder: &mut Decoder<'_>, path: &KeyPath, id: NodeId) {
        self.key(decoder, "<<", &path.child("<<"), id);
    }
}

/// A Go struct. Fields are set one by one, so that a later map adds to an earlier one.
trait Struct: Default {
    const LEVEL: Level;

    /// Decodes a field, if there is one of this name.
    fn field(&mut self, decoder: &mut Decoder<'_>, key: &str, id: NodeId, path: &KeyPath) -> Option<Good>;

    fn fields(&mut self, decoder: &mut Decoder<'_>, entries: &[(NodeId, NodeId)], path: &KeyPath) -> Good
    where
        Self: Target,
    {
        let mut seen = Seen::default();
        for (key_id, value_id) in entries {
            if decoder.is_merge(*key_id) {
                seen.merge(decoder, path, *key_id);
                decoder.merge(*value_id, self, path)?;
                continue;
            }
            let Some((key, path)) = decoder.key(*key_id, path)? else { continue };
            let at = decoder.tree.node(*key_id).at;
            if !Self::LEVEL.keys().contains(&key.as_str()) {
                // Its value is not even looked at.
                let shown = Self::LEVEL.shown(&key);
                let nearest = Self::LEVEL.meant(&shown);
                decoder.note(NoteKind::UnknownKey { nearest }, &path.parent().child(shown), at);
                continue;
            }
            seen.key(decoder, &key, &path, *key_id);
            if Self::LEVEL == Level::Top && key == "auths" {
                decoder.note(NoteKind::UnusedAuths, &path, at);
            }
            decoder.mark(&path, *key_id);
            if let Some(good) = self.field(decoder, &key, *value_id, &path) {
                good?;
            }
        }
        Ok(true)
    }
}

macro_rules! structs {
    ($($type:ty, $level:expr, $($key:literal => $($field:ident).+),+;)+) => {$(
        impl Struct for $type {
            const LEVEL: Level = $level;

            fn field(&mut self, decoder: &mut Decoder<'_>, key: &str, id: NodeId, path: &KeyPath) -> Option<Good> {
                match key {
                    $($key => Some(decoder.unmarshal(id, &mut self.$($field).+, path)),)+
                    _ => None,
                }
            }
        }

        impl Target for $type {
            const MUST_BE: &'static str = "must be a map: 'KEY: VALUE', one on each line, indented";

            fn mapping(&mut self, decoder: &mut Decoder<'_>, entries: &[(NodeId, NodeId)], path: &KeyPath) -> Good {
                self.fields(decoder, entries, path)
            }
        }
    )+};
}

structs! {
    Root, Level::Top,
        "mirrors" => registries.mirrors, "configs" => registries.configs, "auths" => auths;
    Mirror, Level::Mirror,
        "endpoint" => endpoints, "rewrite" => rewrites;
    HostConfig, Level::Config,
        "auth" => auth, "tls" => tls;
    Auth, Level::Auth,
        "username" => username, "password" => password, "auth" => auth, "identity_token" => identity_token;
    Tls, Level::Tls,
        "ca_file" => ca_file, "cert_file" => cert_file, "key_file" => key_file,
        "insecure_skip_verify" => insecure_skip_verify;
}

/// A pointer: one that is there already is filled further.
impl<T: Target> Target for Option<T> {
    const MUST_BE: &'static str = T::MUST_BE;

    fn mapping(&mut self, decoder: &mut Decoder<'_>, entries: &[(NodeId, NodeId)], path: &KeyPath) -> Good {
        self.get_or_insert_default().mapping(decoder, entries, path)
    }
}
