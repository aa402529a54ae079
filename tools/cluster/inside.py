"""The first process of a one-node cluster, in namespaces of its own: mounts, a bridge, then the programs.

It ends when it is asked to, or when one of the programs does. Then the kernel ends every process, mount, rule and interface of
those namespaces with it. It knows no Kubernetes.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from components import components
from layout import BRIDGE, GATEWAY, UPLINK, VOLUMES, VOLUMES_AT, Layout

LINK_S = 20.0
END_S = 8.0


def live(layout: Layout) -> int:
    """Until SIGTERM, or until one of the programs ends by itself."""
    asked: list[int] = []
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda number, _: asked.append(number))
    _mounts(layout)
    _network()
    running: dict[str, subprocess.Popen[bytes]] = {}
    for component in components(layout):
        log = layout.file("logs", f"{component.name}.log").open("ab")
        running[component.name] = subprocess.Popen(
            component.words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        log.close()
    ours = {one.pid: name for name, one in running.items()}
    while not asked:
        _reap(ours)
        gone = [name for name in running if name not in ours.values()]
        if gone:
            sys.stderr.write(f"cluster: {', '.join(gone)} ended; its log is in {layout.root}/logs\n")
            break
        time.sleep(0.5)
    _end(running)
    return 0 if asked else 1


def _mounts(layout: Layout) -> None:
    """Places that the programs do not ask about, each our own."""
    _run("mount", "--make-rprivate", "/")
    for place in ("/run", "/tmp", "/var/lib/cni"):  # noqa: S108 - hides the machine's
        Path(place).mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", "mode=1777", "cluster", place)
    for number in range(VOLUMES):
        layout.folder("volumes", str(number)).chmod(0o777)  # any pod may write its own, whoever it runs as
    Path(VOLUMES_AT).mkdir()
    for place, kept in ((VOLUMES_AT, layout.folder("volumes")), ("/var/log", layout.folder("logs", "machine"))):
        _run("mount", "--bind", str(kept), place)


def _network() -> None:
    """A bridge with the node's address, and this machine on it."""
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", BRIDGE, "type", "bridge")
    _run("ip", "address", "add", f"{GATEWAY}/16", "dev", BRIDGE)
    _run("ip", "link", "set", BRIDGE, "up")
    for name in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        Path("/proc/sys", name).write_text("1")
    ends_at = time.monotonic() + LINK_S
    while not Path("/sys/class/net", UPLINK).exists() and _missing(UPLINK):
        if time.monotonic() > ends_at:
            raise SystemExit(f"cluster: nobody gave it {UPLINK}")
        time.sleep(0.1)
    _run("ip", "link", "set", UPLINK, "master", BRIDGE, "up")


def _missing(link: str) -> bool:
    return subprocess.run(["ip", "link", "show", link], capture_output=True, check=False).returncode != 0


def _reap(ours: dict[int, str]) -> None:
    """Whatever ended: shims' orphans come to us too."""
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        ours.pop(pid, None)


def _end(running: dict[str, "subprocess.Popen[bytes]"]) -> None:
    """Last started, first asked; who does not go in time is ended with the namespace."""
    for one in reversed(running.values()):
        try:
            os.kill(one.pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    left = {one.pid: "" for one in running.values()}
    ends_at = time.monotonic() + END_S
    while left and time.monotonic() < ends_at:
        _reap(left)
        time.sleep(0.1)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
