//! `explain`: what containerd does with an image. Nobody is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use agent_core::explain::{Asked, Explanation, Login, Reference, explain as ask_core};
use agent_core::inputs::{Inputs, NAMESPACE};
use agent_core::node::observed::Installation;
use agent_core::node::prepare::policy;
use agent_core::registries::document::{KeyPath, without_user_part};
use agent_core::registries::model::Registries;
use agent_core::registries::on_disk::{self, OnDisk};
use serde_json::{Value, json};

use super::lint;
use super::operate::{OperateError, connected};
use super::plan::extras;
use super::render::{installation, made, settings, usable};
use super::session::{self, SessionError};
use super::{Answer, Code, line};
use crate::args::ExplainArgs;
use crate::cluster::client::Cluster;
use crate::inputs::cluster::read_inputs;

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The directory of inputs.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The cluster.
    #[error(transparent)]
    Operate(#[from] OperateError),
    /// The cluster's inputs.
    #[error("cannot read the inputs: {0}")]
    Unread(String),
    /// The file.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What is explained with: the file, and where each of its credentials comes from.
struct Given {
    registries: Registries,
    sources: BTreeMap<String, String>,
}

/// Runs `explain`.
pub async fn explain(args: &ExplainArgs) -> Result<Answer, ExplainError> {
    let ExplainArgs { images, inputs, file, cluster, .. } = args;
    let mut read = Vec::new();
    let mut refused = Vec::new();
    for image in images {
        match Reference::parse(image) {
            Ok(reference) => read.push(reference),
            // What stands before the host may be a password.
            Err(why) => refused.push(format!("{}: {why}", without_user_part(image))),
        }
    }
    if !refused.is_empty() {
        return Ok(refusal(&refused));
    }
    let installation = installation(args.disable_default_registry_endpoint, args.embedded_registry.clone());
    let given = match (file, inputs) {
        (Some(file), _) => of_file(file)?,
        (None, Some(dir)) => of_inputs(&session::read_inputs(dir)?, NAMESPACE, &installation),
        (None, None) => {
            let cluster = connected(cluster).await.map_err(OperateError::from)?;
            of_cluster(&cluster, &installation).await?
        }
    };
    Ok(match given {
        Ok(given) => answer(&read, &given, &installation, args.show_users),
        Err(sentences) => refusal(&sentences),
    })
}

async fn of_cluster(
    cluster: &Cluster,
    installation: &Installation,
) -> Result<Result<Given, Vec<String>>, ExplainError> {
    let mut inputs = read_inputs(cluster, &BTreeSet::new()).await.map_err(ExplainError::Unread)?;
    let extras = extras(&policy(&inputs, cluster.namespace(), None).0);
    if !extras.is_empty() {
        inputs = read_inputs(cluster, &extras).await.map_err(ExplainError::Unread)?;
    }
    Ok(of_inputs(&inputs, cluster.namespace(), installation))
}

fn of_inputs(inputs: &Inputs, namespace: &str, installation: &Installation) -> Result<Given, Vec<String>> {
    let (prepared, refused) = made(inputs, namespace, installation);
    let wanted = usable(prepared.desired, refused, inputs, namespace)?;
    Ok(Given { registries: wanted.registries, sources: wanted.credential_sources })
}

fn of_file(path: &Path) -> Result<Result<Given, Vec<String>>, ExplainError> {
    let bytes = lint::read(path).map_err(|source| ExplainError::Read { path: path.to_owned(), source })?;
    let shown = match path.to_string_lossy() {
        stdin if stdin == "-" => "standard input".to_owned(),
        name => name.into_owned(),
    };
    let document = match on_disk::read(&bytes) {
        OnDisk::Read(document) => document,
        OnDisk::Rejected(rejection) => return Ok(Err(vec![format!("k3s cannot read {shown}: {rejection}")])),
        OnDisk::CannotTell(why) => return Ok(Err(vec![format!("cannot tell what k3s makes of {shown}: {why}")])),
    };
    let place = |host: &String| match document.mark(&KeyPath::of(["configs", host, "auth"])) {
        Some(mark) => format!("{shown}, line {}", mark.line),
        None => shown.clone(),
    };
    let sources = document.registries.configs.keys().map(|host| (host.clone(), place(host))).collect();
    Ok(Ok(Given { registries: document.registries, sources }))
}

fn refusal(sentences: &[String]) -> Answer {
    let mut text = String::new();
    for sentence in sentences {
        line(&mut text, "refused", sentence);
    }
    Answer { text, json: json!({ "refused": sentences }), code: Code::Refused }
}

fn answer(images: &[Reference], given: &Given, installation: &Installation, shows_users: bool) -> Answer {
    let Given { registries, sources } = given;
    let settings = settings(installation);
    let said: Vec<_> = images.iter().map(|image| (image, ask_core(image, registries, &settings))).collect();
    let says = Says { sources, shows_users };
    let texts: Vec<String> = said.iter().map(|(image, said)| says.text(image, said)).collect();
    let values: Vec<Value> = said.iter().map(|(image, said)| says.json(image, said)).collect();
    Answer { text: texts.join("\n"), json: json!({ "images": values }), code: Code::Done }
}

/// How an explanation is shown.
struct Says<'g> {
    sources: &'g BTreeMap<String, String>,
    shows_users: bool,
}

impl Says<'_> {
    fn text(&self, image: &Reference, said: &Explanation) -> String {
        let Explanation { entry, asked, untried, unsent, notes } = said;
        let mut text = String::new();
        line(&mut text, "image", &image.to_string());
        line(
            &mut text,
            "entry",
            &entry.as_ref().map_or("none: containerd's own defaults".to_owned(), ToString::to_string),
        );
        for (at, asked) in asked.iter().enumerate() {
            let default = if asked.is_default { " (default endpoint)" } else { "" };
            line(&mut text, &format!("asks {}", at + 1), &format!("{}{default}", asked.urls.join(" or ")));
            let mut detail = |label: &str, what: &str| {
                text.push_str("  ");
                line(&mut text, label, what);
            };
            for change in &asked.rewriting.changes {
                detail("rewrite", &format!("`{}` to `{}`", change.pattern, change.replacement));
            }
            detail("tls", &asked.tls.to_string());
            detail("login", &self.login(&asked.login));
        }
        if let Some(url) = untried {
            line(&mut text, "not asked", &format!("{url} (default endpoint, disabled)"));
        }
        for host in unsent {
            let entry = KeyPath::of(["configs", host]);
            let source = self.sources.get(host).map_or_else(String::new, |source| format!(" from {source}"));
            let why = match host.as_str() {
                "*" => "containerd looks none up under the wildcard",
                _ => "it is none of the hosts that are asked, port included",
            };
            line(&mut text, "not sent", &format!("the credential of {entry}{source}: {why}"));
        }
        for note in notes {
            line(&mut text, "note", note);
        }
        text
    }

    fn login(&self, login: &Login) -> String {
        let Some(under) = login.under() else { return login.to_string() };
        let source = self.sources.get(under).map_or_else(String::new, |source| format!(" from {source}"));
        let user = self.user(login).map_or_else(String::new, |user| format!(" ({user})"));
        format!("{login}{user}{source}, as {}", KeyPath::of(["configs", under]))
    }

    /// The user name, where it was asked for.
    fn user<'l>(&self, login: &'l Login) -> Option<&'l str> {
        match login {
            Login::Password { user, .. } if self.shows_users => Some(user.expose()),
            Login::Password { .. }
            | Login::Anonymous
            | Login::Incomplete(_)
            | Login::Undecodable(_)
            | Login::Token(_) => None,
        }
    }

    fn json(&self, image: &Reference, said: &Explanation) -> Value {
        let Explanation { entry, asked, untried, unsent, notes } = said;
        let asked: Vec<Value> = asked.iter().map(|asked| self.asked_json(asked)).collect();
        let unsent = unsent.iter().map(|host| json!({"host": without_user_part(host), "from": self.sources.get(host)}));
        json!({
            "image": image.to_string(),
            "registry": image.registry,
            "repository": image.repository,
            "entry": entry.as_ref().map(ToString::to_string),
            "asked": asked,
            "defaultNotAsked": untried,
            "credentialsNotSent": unsent.collect::<Vec<_>>(),
            "notes": notes,
        })
    }

    fn asked_json(&self, asked: &Asked) -> Value {
        let Asked { urls, is_default, rewriting, tls, login } = asked;
        let rules = rewriting.changes.iter().map(|change| json!([change.pattern, change.replacement]));
        let kind = match login {
            Login::Password { .. } => "password",
            Login::Token(_) => "identity token",
            Login::Undecodable(_) => "undecodable",
            Login::Anonymous | Login::Incomplete(_) => "anonymous",
        };
        let client = tls.client.iter().map(|(certificate, key)| json!([certificate, key]));
        json!({
            "urls": urls,
            "default": is_default,
            "rewrites": rules.collect::<Vec<_>>(),
            "tls": {"scheme": tls.transport.as_str(), "skipVerify": tls.skip_verify, "ca": tls.ca,
                "client": client.collect::<Vec<_>>()},
            "login": {"kind": kind, "user": self.user(login), "under": login.under().map(without_user_part),
                "from": login.under().and_then(|under| self.sources.get(under))},
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::fake::{Counts, Fake};

    #[tokio::test(start_paused = true)]
    async fn a_cluster_is_explained_from_its_config_map_and_every_secret_that_the_policy_names() {
        let fake = Fake::default();
        let cluster = fake.cluster(Arc::new(Counts::default()));
        let installation = installation(true, None);
        assert_eq!(of_cluster(&cluster, &installation).await.unwrap().err().unwrap().len(), 1, "nothing is there");
        let policy = "version: 1\nsecrets: [{namespace: apps, name: login}]\n";
        fake.put(
            "/api/v1/namespaces/k3s-registry-agent/configmaps/registries",
            json!({"data": {"registries.yaml": "mirrors: {docker.io: {endpoint: [\"https://m.example\"]}}\n",
                "policy.yaml": policy}}),
        );
        fake.put(
            "/api/v1/namespaces/apps/secrets/login",
            json!({"metadata": {"annotations": {"k3s-registry-agent/host": "m.example"}},
                "type": "kubernetes.io/basic-auth", "data": {"username": "dQ==", "password": "Y2FuYXJ5LWh1bnRlcjI="}}),
        );
        let Ok(given) = of_cluster(&cluster, &installation).await.unwrap() else { panic!("refused") };
        let images = [Reference::parse("nginx").unwrap()];
        let shown = |shows_users| answer(&images, &given, &installation, shows_users).show(crate::args::Output::Text);
        let login = "login      user name and password from Secret apps/login, as configs.\"m.example\"\n";
        assert!(shown(false).contains(login), "{}", shown(false));
        assert!(shown(true).contains("user name and password (u) from Secret apps/login"), "{}", shown(true));
        assert!(shown(true).contains("not asked  https://registry-1.docker.io/v2/library/nginx/manifests/latest"));
        assert!(!shown(true).contains("canary"));
    }
}
