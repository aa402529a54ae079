"""What each program of a one-node cluster is told: its command line and its file of settings. Nothing is started here."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from layout import (
    BRIDGE,
    DNS_SERVICE,
    DOMAIN,
    FIRST_POD,
    GATEWAY,
    LAST_POD,
    NODE,
    PAUSE,
    PLUGINS,
    PODS,
    PROGRAMS,
    SERVICES,
    SOCKET,
    Layout,
)


@dataclass(frozen=True)
class Component:
    """One program that runs as long as the cluster does."""

    name: str
    words: list[str]


def components(layout: Layout) -> Iterator[Component]:
    """In the order in which they start."""
    pki = layout.root / "pki"

    def program(name: str, **flags: object) -> Component:
        told = [f"--{flag.replace('_', '-')}={value}" for flag, value in flags.items()]
        return Component(name, [str(PROGRAMS / name), *told])

    def config(name: str) -> str:
        return str(layout.root / "etc" / f"{name}.kubeconfig")

    yield program(
        "etcd",
        data_dir=layout.root / "etcd",
        listen_client_urls="http://127.0.0.1:2379",
        advertise_client_urls="http://127.0.0.1:2379",
        listen_peer_urls="http://127.0.0.1:2380",
        unsafe_no_fsync="true",  # the cluster's own memory, which nobody needs after a power cut
        log_level="warn",
    )
    yield program(
        "kube-apiserver",
        etcd_servers="http://127.0.0.1:2379",
        bind_address=GATEWAY,
        advertise_address=GATEWAY,
        secure_port=6443,
        service_cluster_ip_range=SERVICES,
        tls_cert_file=pki / "api.crt",
        tls_private_key_file=pki / "api.key",
        client_ca_file=pki / "ca.crt",
        kubelet_client_certificate=pki / "api-to-kubelet.crt",
        kubelet_client_key=pki / "api-to-kubelet.key",
        kubelet_certificate_authority=pki / "ca.crt",
        kubelet_preferred_address_types="InternalIP",
        service_account_key_file=pki / "accounts.key",
        service_account_signing_key_file=pki / "accounts.key",
        service_account_issuer=f"https://kubernetes.default.svc.{DOMAIN}",
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",
        requestheader_client_ca_file=pki / "ca.crt",
        requestheader_allowed_names="front-proxy",
        requestheader_username_headers="X-Remote-User",
        requestheader_group_headers="X-Remote-Group",
        requestheader_extra_headers_prefix="X-Remote-Extra-",
        proxy_client_cert_file=pki / "front-proxy.crt",
        proxy_client_key_file=pki / "front-proxy.key",
        enable_aggregator_routing="true",
    )
    yield program(
        "kube-controller-manager",
        kubeconfig=config("controllers"),
        bind_address="127.0.0.1",
        leader_elect="false",
        service_account_private_key_file=pki / "accounts.key",
        root_ca_file=pki / "ca.crt",
        use_service_account_credentials="true",
    )
    yield program("kube-scheduler", kubeconfig=config("scheduler"), bind_address="127.0.0.1", leader_elect="false")
    yield Component("containerd", ["containerd", "--config", str(layout.root / "etc" / "containerd.toml")])
    yield program(
        "kubelet",
        kubeconfig=config("kubelet"),
        config=layout.root / "etc" / "kubelet.json",
        root_dir=layout.root / "kubelet",
        hostname_override=NODE,
        node_ip=GATEWAY,
    )
    yield program("kube-proxy", config=layout.root / "etc" / "proxy.json")


def write_settings(layout: Layout) -> None:
    """The files that those command lines name."""
    layout.file("etc", "containerd.toml").write_text(_containerd(layout))
    layout.file("etc", "cni", "10-bridge.conflist").write_text(json.dumps(_network(layout), indent=1))
    layout.file("etc", "kubelet.json").write_text(json.dumps(_kubelet(layout), indent=1))
    layout.file("etc", "proxy.json").write_text(json.dumps(_proxy(layout), indent=1))
    layout.file("etc", "resolv.conf").write_text("nameserver 127.0.0.1\n")


def _containerd(layout: Layout) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    return f"""\
version = 2
root = "{layout.folder("containerd")}"
state = "/run/containerd"
[grpc]
  address = "{SOCKET}"
[{cri}]
  restrict_oom_score_adj = true
  sandbox_image = "docker.io/{PAUSE}"
  [{cri}.cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{layout.root}/etc/cni"
  [{cri}.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [{cri}.containerd.runtimes.runc.options]
      SystemdCgroup = false
"""


def _network(layout: Layout) -> dict[str, object]:
    ranges = [[{"subnet": PODS, "rangeStart": FIRST_POD, "rangeEnd": LAST_POD, "gateway": GATEWAY}]]
    addresses = {
        "type": "host-local", "dataDir": str(layout.folder("addresses")), "ranges": ranges,
        "routes": [{"dst": "0.0.0.0/0"}],
    }  # fmt: skip
    bridge = {"type": "bridge", "bridge": BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def _kubelet(layout: Layout) -> dict[str, object]:
    pki = layout.root / "pki"
    little = {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"}
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": GATEWAY,
        "authentication": {
            "anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": f"{pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{pki}/node.crt",
        "tlsPrivateKeyFile": f"{pki}/node.key",
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "oomScoreAdj": 0,  # to lower it wants a right that a container's root may lack
        "clusterDNS": [DNS_SERVICE],
        "clusterDomain": DOMAIN,
        "resolvConf": f"{layout.root}/etc/resolv.conf",
        "podLogsDir": str(layout.folder("logs", "pods")),
        "evictionHard": little,
        "imageGCHighThresholdPercent": 100,  # what was loaded by hand comes back from nowhere
        "maxPods": 80,
    }  # fmt: skip


def _proxy(layout: Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": f"{layout.root}/etc/proxy.kubeconfig"},
        "hostnameOverride": NODE,
        "mode": "iptables",
        "clusterCIDR": PODS,
        "oomScoreAdj": 0,
        "nodePortAddresses": [f"{GATEWAY}/32"],
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
