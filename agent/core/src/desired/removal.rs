//! What lies on the node and is not given any more: probably an object that was deleted by mistake, and every pull of
//! the host would fail.

use std::collections::{BTreeMap, BTreeSet};

use super::MergeContext;
use super::refusal::Refusal;
use crate::inputs::{InputObject, POLICY_KEY, REGISTRIES_KEY};
use crate::registries::document::without_user_part;
use crate::registries::model::{Registries, Tls};

/// What the inputs give now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub registries: &'a Registries,
    /// Host of each credential to the object it comes from.
    pub credentials: &'a BTreeMap<String, String>,
    /// Hosts that the ConfigMap names.
    pub file_hosts: &'a BTreeSet<String>,
}

/// Credentials, client certificates and CAs that lie on the node and that the inputs do not give any more, although
/// their host did not leave the file. `used` are the objects that give something.
pub(super) fn removals(context: &MergeContext<'_>, given: &Given<'_>, used: &[&InputObject]) -> Vec<Refusal> {
    let has_left = |host: &str| context.known_file_hosts.contains(host) && !given.file_hosts.contains(host);
    let credentials = context
        .known_credential_hosts
        .iter()
        .filter(|(host, _)| !given.credentials.contains_key(*host))
        .map(|(host, source)| ("credential", host.as_str(), source));
    let files = context.known_tls_files.iter().filter_map(|(file, source)| {
        let (host, name) = file.rsplit_once('/')?;
        let tls = given.registries.configs.get(host).and_then(|config| config.tls.as_ref());
        let (what, is_given) = of_file(name, tls);
        (!is_given).then_some((what, host, source))
    });
    let mut lost: Vec<_> = credentials.chain(files).filter(|(_, host, _)| !has_left(host)).collect();
    // Certificate and key are one thing to whoever reads it.
    lost.dedup();
    lost.into_iter()
        .map(|(what, host, source)| {
            let host = without_user_part(host);
            let is_there = used.iter().any(|object| object.id.to_string() == *source);
            let gone = if is_there { "which no longer holds one for it" } else { "which is gone" };
            Refusal::sentence(format!(
                "the {what} of {host} came from {source}, {gone}: put it back, take the host out of {REGISTRIES_KEY}, or write `allowRemoval: true` into {POLICY_KEY}"
            ))
        })
        .collect()
}

/// What a TLS file is called, and whether its host still has one: of which object, or of the node's own, is all the same.
fn of_file(name: &str, tls: Option<&Tls>) -> (&'static str, bool) {
    let is_set = |path: fn(&Tls) -> &String| tls.is_some_and(|tls| !path(tls).is_empty());
    match name {
        "ca.crt" => ("CA", is_set(|tls| &tls.ca_file)),
        "tls.crt" => ("client certificate", is_set(|tls| &tls.cert_file)),
        _ => ("client certificate", is_set(|tls| &tls.key_file)),
    }
}
