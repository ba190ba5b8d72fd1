//! Names that mean something else on a node than in the cluster: cluster DNS, bare names, localhost.

use std::net::IpAddr;

use super::Findings;
use super::placeholder;
use super::rules;
use super::view::Address;
use super::view::Endpoint;
use super::view::View;
use super::view::host_and_port;
use super::view::shown;
use crate::registries::document::KeyPath;

/// Where Kubernetes opens NodePorts unless told otherwise: there loopback is meant.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

pub(super) fn check(view: &View<'_>, out: &mut Findings<'_>) {
    for endpoint in &view.endpoints {
        let Some(address) = endpoint.address() else { continue };
        if placeholder::in_address(endpoint.text).is_none() {
            check_endpoint(view, endpoint, address, out);
        }
    }
    for key in view.registries.mirrors.keys() {
        if view.addresses_of(key).next().is_none() {
            check_key(view, "mirrors", key, out);
        }
    }
    for key in view.registries.configs.keys() {
        if !view.registries.mirrors.contains_key(key) && view.addresses_under(key).next().is_none() {
            check_key(view, "configs", key, out);
        }
    }
}

fn check_endpoint(view: &View<'_>, endpoint: &Endpoint<'_>, address: &Address, out: &mut Findings<'_>) {
    let Address { registry: _, url: _, scheme, host, port, path: _ } = address;
    if is_cluster_name(host) {
        let message = format!(
            "{} is a name of cluster DNS, and containerd asks the node's DNS, which does not know it: every pull by it \
             fails; write the Service's ClusterIP or a NodePort, as in `{scheme}://10.43.0.50{}` or \
             `{scheme}://127.0.0.1:30500`, and keep the name as the mirror's key",
            shown(host),
            port.as_ref().map(|port| format!(":{port}")).unwrap_or_default(),
        );
        out.add(rules::ENDPOINT_CLUSTER_NAME, endpoint.path(), message);
    } else if is_loopback(host) {
        let port = port.as_ref().and_then(|port| port.parse::<u16>().ok());
        // The embedded registry listens on every node.
        let is_embedded =
            view.context.settings.embedded.as_ref().is_some_and(|own| own.mirror_addr == address.registry);
        if !is_embedded && !port.is_some_and(|port| NODE_PORTS.contains(&port)) {
            let message = "on each node this is the node itself, so it works only where a registry listens on every node; \
                           for one inside the cluster write its NodePort (`http://127.0.0.1:30080`), for one elsewhere its \
                           address";
            out.add(rules::ENDPOINT_LOOPBACK, endpoint.path(), message);
        }
    } else if is_bare(host) {
        let message = format!(
            "{} is a name without a domain: containerd asks the node's DNS and /etc/hosts, and neither knows a Service \
             or container of that name unless you entered it on every node; write a full name or an IP address",
            shown(host)
        );
        out.add(rules::ENDPOINT_BARE_NAME, endpoint.path(), message);
    }
}

/// A host that nothing leads elsewhere, so that containerd will go to the name itself.
fn check_key(view: &View<'_>, section: &str, key: &str, out: &mut Findings<'_>) {
    let (host, port) = host_and_port(key);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    if is_cluster_name(host) {
        let message = format!(
            "images of this name are pulled from the name itself, and the node's DNS does not know cluster DNS; add a \
             mirror of this name whose endpoint is the Service's ClusterIP or a NodePort, with `http://` if it speaks \
             HTTP (`http://10.43.0.50{port}`), and put credentials and TLS settings under the endpoint's host and port"
        );
        out.add(rules::CLUSTER_NAME_WITHOUT_MIRROR, KeyPath::of([section, key]), message);
    } else if is_loopback(host) && view.context.settings.embedded.is_none() {
        let message = format!(
            "on each node this is the node itself, where nothing listens on that port unless you put it there \
             (`connection refused`); for a registry inside the cluster add a mirror of this name with its NodePort \
             as endpoint, such as `http://127.0.0.1:30080`, and put credentials under that host and port{}",
            if port.is_empty() { "; images named `localhost/…` carry no port" } else { "" }
        );
        out.add(rules::LOCALHOST_IS_THE_NODE, KeyPath::of([section, key]), message);
    }
}

fn is_cluster_name(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    host.ends_with(".svc") || host.ends_with(".cluster.local") || host.contains(".svc.")
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// k3d's container names are known inside its network.
fn is_bare(host: &str) -> bool {
    !host.is_empty() && !host.contains(['.', ':']) && !host.starts_with("k3d-")
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::Case;
    use super::super::tests::file;
    use super::super::tests::run;
    use super::*;

    pub(crate) fn cases() -> Vec<Case> {
        let to = |endpoint: &str| file().mirror("r.example.com", &[endpoint]);
        vec![
            (
                rules::ENDPOINT_CLUSTER_NAME,
                to("http://registry.gitea.svc.cluster.local:5000"),
                to("http://10.43.1.2:5000"),
            ),
            (rules::ENDPOINT_CLUSTER_NAME, to("http://registry.gitea.svc"), to("http://svc.example.com")),
            (rules::ENDPOINT_BARE_NAME, to("http://gitea-http:3000"), to("http://k3d-registry:5000")),
            (rules::ENDPOINT_BARE_NAME, to("http://gitea"), to("http://gitea.lan")),
            (rules::ENDPOINT_LOOPBACK, to("http://localhost:3000"), to("http://localhost:30080")),
            (rules::ENDPOINT_LOOPBACK, to("https://127.0.0.1:6443"), to("https://127.0.0.1:6443").embedded()),
            (
                rules::LOCALHOST_IS_THE_NODE,
                file().login("localhost:3000"),
                file().mirror("localhost:3000", &["http://127.0.0.1:30080"]).login("127.0.0.1:30080"),
            ),
            (
                rules::LOCALHOST_IS_THE_NODE,
                file().mirror("localhost:3000", &[]),
                file().mirror("localhost.example.com:3000", &[]),
            ),
            (
                rules::CLUSTER_NAME_WITHOUT_MIRROR,
                file().skip_verify("registry.gitea.svc.cluster.local:5000"),
                file()
                    .mirror("registry.gitea.svc.cluster.local:5000", &["http://10.43.1.2:5000"])
                    .skip_verify("registry.gitea.svc.cluster.local:5000"),
            ),
        ]
    }

    #[test]
    fn each_rule_names_its_mistake_and_not_its_near_miss() {
        run(&cases());
    }

    #[test]
    fn the_remedy_for_a_cluster_name_is_an_address_with_the_same_scheme_and_port() {
        let to = "http://registry.gitea.svc.cluster.local:5000";
        let message =
            file().mirror("registry.gitea.svc.cluster.local:5000", &[to]).message(rules::ENDPOINT_CLUSTER_NAME);
        assert!(message.contains("`http://10.43.0.50:5000`") && message.contains("NodePort"), "{message}");
    }
}
