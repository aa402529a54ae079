"""Where a one-node cluster keeps what it has, and the addresses it uses. It starts nothing and writes nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

HOUSE: Final = Path(__file__).parents[2]
PROGRAMS: Final = HOUSE / ".tools" / "kubernetes"
"""What tools/build-kubernetes made."""
PLUGINS: Final = Path("/usr/lib/cni")

NODE: Final = "node"
BRIDGE: Final = "cni0"
LINK, UPLINK = "l402-cluster", "uplink"
"""The two ends of the pair through which this machine, and nobody else, reaches the cluster: ours and the bridge's."""
PODS: Final = "10.244.0.0/16"
FIRST_POD, LAST_POD = "10.244.0.10", "10.244.250.255"
GATEWAY: Final = "10.244.0.1"
"""The node's own address; the API server and kubelet listen on it."""
OURS: Final = "10.244.255.254"
"""This machine's address among the pods."""
SERVICES: Final = "10.96.0.0/16"
API_SERVICE, DNS_SERVICE = "10.96.0.1", "10.96.0.10"
API: Final = f"https://{GATEWAY}:6443"
DOMAIN: Final = "cluster.local"
VOLUMES: Final = 24
VOLUMES_AT: Final = "/tmp/volumes"  # noqa: S108 - the only place from which Kubernetes deletes what a claim left
PAUSE, DNS = "l402-train/pause:local", "l402-train/coredns:local"
SOCKET: Final = "/run/containerd/containerd.sock"
"""Inside the cluster's own mounts, where /run is nobody else's."""


@dataclass(frozen=True)
class Layout:
    """The folder of one cluster."""

    root: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.root / "kubeconfig"

    @property
    def pid_file(self) -> Path:
        """Holds the id of the cluster's first process, as this machine counts."""
        return self.root / "pid"

    @property
    def kernel_file(self) -> Path:
        """What kubelet changes in the kernel, as it was before."""
        return self.root / "kernel.json"

    def file(self, *names: str) -> Path:
        """A file below the folder, whose own folder exists."""
        path = self.root.joinpath(*names)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def folder(self, *names: str) -> Path:
        """A folder below the folder, which exists."""
        path = self.root.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        return path
