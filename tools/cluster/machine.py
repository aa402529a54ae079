"""What a one-node cluster asks of this machine, and what it leaves as it was: refusals before, traces after."""

import ipaddress
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Final

from layout import LINK, PLUGINS, PODS, PROGRAMS, SERVICES, Layout

CGROUPS: Final = Path("/sys/fs/cgroup")
KERNEL: Final = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys",
                 "kernel/keys/root_maxbytes")  # fmt: skip
"""What kubelet sets for the whole machine."""
BUILT: Final = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
                "pause", "coredns")  # fmt: skip
INSTALLED: Final = {
    "containerd": "containerd", "runc": "runc", "ctr": "containerd", "ip": "iproute2", "iptables": "iptables",
    "unshare": "util-linux", "nsenter": "util-linux",
}  # fmt: skip
"""Program and Debian's package of it."""


def complaints() -> list[str]:
    """Why no cluster can start here; nothing where one can."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return ["it runs on Linux, x86_64, alone"]
    if os.geteuid() != 0:
        return ["only root may make namespaces and mounts: run it as root"]
    found = [
        f"{name} is missing: tools/build-kubernetes core coredns" for name in BUILT if not (PROGRAMS / name).exists()
    ]
    lacking = {package for name, package in INSTALLED.items() if shutil.which(name) is None}
    lacking |= set() if (PLUGINS / "bridge").exists() else {"containernetworking-plugins"}
    found += [f"{package} is missing (Debian: apt-get install {package})" for package in sorted(lacking)]
    return found + _taken()


def _taken() -> list[str]:
    if Path("/sys/class/net", LINK).exists():
        return [f"the interface {LINK} is there: another cluster of this kind runs; end it first"]
    routes = json.loads(_told("ip", "-json", "route"))
    wanted = [ipaddress.ip_network(one) for one in (PODS, SERVICES)]
    theirs = [ipaddress.ip_network(one["dst"]) for one in routes if one["dst"] != "default"]
    return [
        f"{one} is taken by a route of this machine" for one in theirs if any(one.overlaps(ours) for ours in wanted)
    ]


def remember_kernel(layout: Layout) -> None:
    """Settings that kubelet is going to change."""
    told = {name: Path("/proc/sys", name).read_text().strip() for name in KERNEL if Path("/proc/sys", name).exists()}
    layout.kernel_file.write_text(json.dumps(told))


def restore(layout: Layout) -> list[str]:
    """Kernel settings, cgroups and the interface, after the last process; what could not be."""
    left: list[str] = []
    if layout.kernel_file.exists():
        for name, value in json.loads(layout.kernel_file.read_text()).items():
            Path("/proc/sys", name).write_text(value)
        layout.kernel_file.unlink()
    for root in CGROUPS.glob("*/kubepods"):
        for folder in (*sorted((one for one in root.rglob("*") if one.is_dir()), reverse=True), root):
            try:
                folder.rmdir()
            except OSError as error:
                left.append(f"{folder}: {error.strerror}")
    if Path("/sys/class/net", LINK).exists():
        subprocess.run(["ip", "link", "delete", LINK], check=False)
    return left


def _told(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout
