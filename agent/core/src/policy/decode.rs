//! From the tree to the policy: every mistake is named, with the nearest key or word and what to write.

use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::tree::{self, Node, Value};
use super::window::{Clock, Day, Window};
use super::{
    Adopt, Drift, Enforcement, MaxUnavailable, Mode, Order, Policy, PolicyError, Preflight, Proof, SecretName,
};
use crate::registries::document::{KeyPath, Mark};
use crate::yaml::nearest;

/// Keys of the file.
const KEYS: [&str; 15] = [
    "version",
    "mode",
    "adopt",
    "pause",
    "order",
    "maxUnavailable",
    "settle",
    "windows",
    "deadline",
    "drift",
    "preflight",
    "proof",
    "secrets",
    "allowRemoval",
    "unit",
];
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAYS: [(&str, Day); 7] = [
    ("Mon", Day::Monday),
    ("Tue", Day::Tuesday),
    ("Wed", Day::Wednesday),
    ("Thu", Day::Thursday),
    ("Fri", Day::Friday),
    ("Sat", Day::Saturday),
    ("Sun", Day::Sunday),
];
const ENFORCEMENTS: [(&str, Enforcement); 3] =
    [("enforce", Enforcement::Enforce), ("warn", Enforcement::Warn), ("off", Enforcement::Off)];

pub(super) fn policy(text: &str) -> Result<Policy, Vec<PolicyError>> {
    let root = KeyPath::default();
    let node = tree::read(text).map_err(|(at, problem)| vec![PolicyError { at, path: root.clone(), problem }])?;
    let mut decoder = Decoder { errors: Vec::new() };
    let mut policy = Policy::default();
    for (key, path, node) in decoder.mapping(&node, &root, &KEYS) {
        decoder.field(&mut policy, key, &path, node);
    }
    if decoder.errors.is_empty() { Ok(policy) } else { Err(decoder.errors) }
}

struct Decoder {
    errors: Vec<PolicyError>,
}

impl Decoder {
    fn field(&mut self, policy: &mut Policy, key: &str, path: &KeyPath, node: &Node) {
        let Policy {
            mode,
            adopt,
            pause,
            order,
            max_unavailable,
            settle,
            windows,
            deadline,
            drift,
            preflight,
            proof,
            secrets,
            allow_removal,
            unit,
        } = policy;
        match key {
            "version" => self.version(node, path),
            "mode" => self.word(
                node,
                path,
                &[("manage", Mode::Manage), ("report", Mode::Report), ("restore", Mode::Restore)],
                mode,
            ),
            "adopt" => self.word(node, path, &[("refuse", Adopt::Refuse), ("replace", Adopt::Replace)], adopt),
            "pause" => self.flag(node, path, pause),
            "order" => {
                self.word(node, path, &[("canary", Order::Canary), ("servers-first", Order::ServersFirst)], order)
            }
            "maxUnavailable" => self.max_unavailable(node, path, max_unavailable),
            "settle" => self.duration(node, path, Duration::from_millis(1), 10 * MINUTE, settle),
            "windows" => {
                *windows = self.list(node, path).iter().filter_map(|(path, node)| self.window(node, path)).collect();
            }
            "deadline" => self.duration(node, path, SECOND, 60 * MINUTE, deadline),
            "drift" => self.word(node, path, &[("restore", Drift::Restore), ("report", Drift::Report)], drift),
            "preflight" => self.preflight(node, path, preflight),
            "proof" => self.proof(node, path, proof),
            "secrets" => self.secrets(node, path, secrets),
            "allowRemoval" => self.flag(node, path, allow_removal),
            "unit" => self.unit(node, path, unit),
            // `mapping` lets only KEYS through; a key that were forgotten above fails the test of all keys.
            _ => self.report(node.at, path, "is not decoded".to_owned()),
        }
    }

    fn version(&mut self, node: &Node, path: &KeyPath) {
        let Value::Integer(version) = node.value else {
            self.wrong(node, path, "the number 1");
            return;
        };
        if version != 1 {
            let problem = format!(
                "version {version} is not known here: this release reads version 1 only; write `version: 1`, or install the release that knows version {version}"
            );
            self.report(node.at, path, problem);
        }
    }

    fn max_unavailable(&mut self, node: &Node, path: &KeyPath, to: &mut MaxUnavailable) {
        const WANTED: &str = "a number of nodes (at least 1) or a per cent (`\"10%\"`, 1 to 100)";
        match &node.value {
            Value::Integer(number) => match u32::try_from(*number) {
                Ok(number) if number > 0 => *to = MaxUnavailable::Number(number),
                _ => self.report(node.at, path, format!("must be {WANTED}; to stop, write `pause: true`")),
            },
            Value::Text(text) => match text.strip_suffix('%').map(u8::from_str) {
                Some(Ok(percent)) if (1..=100).contains(&percent) => *to = MaxUnavailable::Percent(percent),
                _ => self.report(node.at, path, format!("must be {WANTED}")),
            },
            Value::Null | Value::Bool(_) | Value::Float | Value::List(_) | Value::Map(_) => {
                self.wrong(node, path, WANTED);
            }
        }
    }

    fn duration(&mut self, node: &Node, path: &KeyPath, least: Duration, most: Duration, to: &mut Duration) {
        let Value::Text(text) = &node.value else {
            self.wrong(node, path, "a duration with its unit, such as `2s`, `90s` or `5m`");
            return;
        };
        match text.parse::<SignedDuration>().ok().map(Duration::try_from) {
            Some(Ok(duration)) if (least..=most).contains(&duration) => *to = duration,
            Some(_) => self.report(node.at, path, format!("must be between {} and {}", shown(least), shown(most))),
            None => self.report(
                node.at,
                path,
                "is not a duration: write a number with its unit, such as `2s`, `90s` or `5m`".to_owned(),
            ),
        }
    }

    fn window(&mut self, node: &Node, path: &KeyPath) -> Option<Window> {
        let fields = self.mapping(node, path, &["days", "start", "end", "zone"]);
        let (mut days, mut start, mut end, mut zone) = (Vec::new(), None, None, None);
        let errors = self.errors.len();
        for (key, path, node) in fields {
            match key {
                "days" => {
                    for (path, node) in self.list(node, &path) {
                        let mut day = Day::Monday;
                        self.word(node, &path, &DAYS, &mut day);
                        days.push(day);
                    }
                }
                "start" => start = self.clock(node, &path),
                "end" => end = self.clock(node, &path),
                _ => zone = self.zone(node, &path),
            }
        }
        if self.errors.len() > errors {
            return None;
        }
        let (Some(start), Some(end), Some(zone)) = (start, end, zone) else {
            let example = "`{days: [Sat, Sun], start: \"02:00\", end: \"05:00\", zone: Europe/Berlin}`";
            self.report(node.at, path, format!("needs `start`, `end` and `zone`, as in {example}"));
            return None;
        };
        if start == end {
            self.report(node.at, path, "starts when it ends: a whole day is `00:00` to `24:00`".to_owned());
        }
        Some(Window { days, start, end, zone })
    }

    fn clock(&mut self, node: &Node, path: &KeyPath) -> Option<Clock> {
        let clock = node.text().and_then(Clock::parse);
        if clock.is_none() {
            self.report(node.at, path, "must be a time of day as `\"02:00\"`, up to `\"24:00\"`, in quotes".to_owned());
        }
        clock
    }

    fn zone(&mut self, node: &Node, path: &KeyPath) -> Option<TimeZone> {
        let Value::Text(text) = &node.value else {
            self.wrong(node, path, "a time zone such as `Europe/Berlin` or `UTC`");
            return None;
        };
        // The bundled database alone: a decision must not depend on the files of the image it runs in.
        let database = TimeZoneDatabase::bundled();
        let zone = database.get(text).ok();
        if zone.is_none() {
            let names: Vec<_> = database.available().map(|name| name.to_string()).collect();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let meant = meant(nearest(text, &names));
            self.report(
                node.at,
                path,
                format!("is not a time zone of the IANA database, such as `Europe/Berlin`{meant}"),
            );
        }
        zone
    }

    fn preflight(&mut self, node: &Node, path: &KeyPath, to: &mut Preflight) {
        let Preflight { credential, tls, name, route, realm, api } = to;
        for (key, path, node) in self.mapping(node, path, &["credential", "tls", "name", "route", "realm", "api"]) {
            let stage = match key {
                "credential" => &mut *credential,
                "tls" => &mut *tls,
                "name" => &mut *name,
                "route" => &mut *route,
                "realm" => &mut *realm,
                _ => &mut *api,
            };
            self.word(node, &path, &ENFORCEMENTS, stage);
        }
    }

    fn proof(&mut self, node: &Node, path: &KeyPath, to: &mut Proof) {
        let Proof { images, timeout } = to;
        for (key, path, node) in self.mapping(node, path, &["images", "timeout"]) {
            if key == "timeout" {
                self.duration(node, &path, SECOND, 30 * MINUTE, timeout);
                continue;
            }
            for (path, node) in self.list(node, &path) {
                match node.text().filter(|image| is_image(image)) {
                    Some(image) => images.push(image.to_owned()),
                    None => self.report(
                        node.at,
                        &path,
                        "must be an image with its registry and tag, such as `registry.example.com/team/app:1`".into(),
                    ),
                }
            }
        }
    }

    fn secrets(&mut self, node: &Node, path: &KeyPath, to: &mut Vec<SecretName>) {
        for (path, node) in self.list(node, path) {
            let (mut namespace, mut name) = (None, None);
            let errors = self.errors.len();
            for (key, path, node) in self.mapping(node, &path, &["namespace", "name"]) {
                let is_name = |text: &&str| is_object_name(text) && (key == "name" || !text.contains('.'));
                match node.text().filter(is_name) {
                    Some(text) => *(if key == "name" { &mut name } else { &mut namespace }) = Some(text.to_owned()),
                    None => self.report(node.at, &path, "must be a Kubernetes name (a-z, 0-9, `-`)".to_owned()),
                }
            }
            match (namespace, name) {
                (Some(namespace), Some(name)) => {
                    let secret = SecretName { namespace, name };
                    if to.contains(&secret) {
                        self.report(node.at, &path, "stands in the list already: remove it".to_owned());
                    } else {
                        to.push(secret);
                    }
                }
                _ if self.errors.len() > errors => {}
                _ => self.report(
                    node.at,
                    &path,
                    "needs `namespace` and `name`, as in `{namespace: honeydue, name: gitea-credentials}`".to_owned(),
                ),
            }
        }
    }

    fn unit(&mut self, node: &Node, path: &KeyPath, to: &mut String) {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@' | b':' | b'\\');
        let is_unit = |text: &&str| text.len() < 256 && !text.starts_with('-') && text.bytes().all(is_allowed);
        match node.text().filter(is_unit) {
            Some(text) => text.clone_into(to),
            None => self.report(node.at, path, "must be the name of a systemd unit, such as `k3s-agent`".to_owned()),
        }
    }

    fn word<T: Copy>(&mut self, node: &Node, path: &KeyPath, words: &[(&str, T)], to: &mut T) {
        let text = node.text().unwrap_or_default();
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => *to = *value,
            None => {
                let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                let meant = meant(nearest(text, &known));
                let known = known.join("`, `");
                self.report(node.at, path, format!("must be one of `{known}`{meant}"));
            }
        }
    }

    fn flag(&mut self, node: &Node, path: &KeyPath, to: &mut bool) {
        let Value::Bool(value) = node.value else {
            self.wrong(node, path, "`true` or `false`, without quotes");
            return;
        };
        *to = value;
    }

    /// The entries of a list; nothing at all is an empty one.
    fn list<'n>(&mut self, node: &'n Node, path: &KeyPath) -> Vec<(KeyPath, &'n Node)> {
        match &node.value {
            Value::List(items) => items.iter().enumerate().map(|(at, item)| (path.index(at), item)).collect(),
            Value::Null => Vec::new(),
            Value::Bool(_) | Value::Integer(_) | Value::Float | Value::Text(_) | Value::Map(_) => {
                self.wrong(node, path, "a list");
                Vec::new()
            }
        }
    }

    /// The known keys of a mapping; the others are reported. Nothing at all is an empty one.
    fn mapping<'n>(
        &mut self,
        node: &'n Node,
        path: &KeyPath,
        known: &[&'static str],
    ) -> Vec<(&'static str, KeyPath, &'n Node)> {
        let Value::Map(entries) = &node.value else {
            if !matches!(node.value, Value::Null) {
                self.wrong(node, path, "a mapping");
            }
            return Vec::new();
        };
        let mut found = Vec::new();
        for (key, at, node) in entries {
            match known.iter().find(|known| *known == key) {
                Some(known) => found.push((*known, path.child(*known), node)),
                None => {
                    let remedy = match nearest(key, known) {
                        Some(nearest) => format!("did you mean `{nearest}`?"),
                        None => format!("known here: {}", known.join(", ")),
                    };
                    self.report(*at, &path.child(key), format!("unknown key; {remedy}"));
                }
            }
        }
        found
    }

    fn wrong(&mut self, node: &Node, path: &KeyPath, wanted: &str) {
        self.report(node.at, path, format!("must be {wanted}, not {}", node.value.kind()));
    }

    fn report(&mut self, at: Mark, path: &KeyPath, problem: String) {
        self.errors.push(PolicyError { at, path: path.clone(), problem });
    }
}

fn shown(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{}ms", duration.as_millis()),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

fn meant(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"))
}

fn is_image(text: &str) -> bool {
    let has_registry = text
        .split_once('/')
        .is_some_and(|(host, rest)| !rest.is_empty() && (host.contains(['.', ':']) || host == "localhost"));
    has_registry && !text.starts_with('-') && text.len() < 512 && text.bytes().all(|b| b.is_ascii_graphic())
}

/// A DNS subdomain, which is what names of objects are.
fn is_object_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
}
