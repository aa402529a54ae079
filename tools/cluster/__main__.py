"""A Kubernetes of one node on this machine, for trying the chart: `tools/cluster up`, `load IMAGE...`, `keda`, `down`.

Real parts, built from source by tools/build-kubernetes, in namespaces of their own: this machine reaches it, by one interface
that ends with it, and nobody else does. It refuses to know what is installed on it.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import credentials
import images
import inside
import keda
import machine
import objects
from components import write_settings
from layout import DNS, GATEWAY, HOUSE, LINK, OURS, PAUSE, PROGRAMS, SERVICES, SOCKET, UPLINK, Layout

READY_S = 180.0


def main() -> int:
    """One command."""
    parser = argparse.ArgumentParser(prog="tools/cluster", description=__doc__)
    parser.add_argument("command", choices=["up", "down", "load", "keda", "inside"])
    parser.add_argument("images", nargs="*", help="with load: names of the Docker engine's images, or *.tar")
    parser.add_argument("--dir", type=Path, default=HOUSE / ".tools" / "cluster", help="where it keeps everything")
    parser.add_argument("--stay", action="store_true", help="with up: until ctrl-C, and then take it down")
    options = parser.parse_args()
    layout = Layout(options.dir.resolve())
    match options.command:
        case "up":
            return up(layout, stay=options.stay)
        case "down":
            return down(layout)
        case "load":
            return load(layout, options.images)
        case "keda":
            return scaler(layout)
    return inside.live(layout)


def up(layout: Layout, *, stay: bool) -> int:
    """Until the node is ready and names are answered. What runs already stays."""
    if os.environ.get("KUBECONFIG"):
        print(f"KUBECONFIG is set: {os.environ['KUBECONFIG']} is used, and nothing is started")
        return 0
    if _first_process(layout):
        print(f"runs already: export KUBECONFIG={layout.kubeconfig}")
        return 0
    wrong = machine.complaints()
    if wrong:
        sys.stderr.write("".join(f"cluster: {one}\n" for one in wrong))
        return 1
    began = time.monotonic()
    try:
        _start(layout)
        _until(layout, "the API server answers", "get", "--raw", "/readyz")
        _kubectl(layout, "apply", "-f", "-", given=objects.volumes() + "\n")
        _import(layout, PAUSE, "pause")
        _import(layout, DNS, "coredns")
        _kubectl(layout, "apply", "-f", "-", given=objects.names() + "\n")
        _until(layout, "the node is ready", "wait", "--for=condition=Ready", "node/node", "--timeout=5s")
        print(f"the node is ready after {time.monotonic() - began:.0f} s")
        _until(
            layout, "names are answered", "-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=5s"
        )
        print(f"names are answered after {time.monotonic() - began:.0f} s")
    except BaseException as error:
        down(layout)
        if isinstance(error, TimeoutError | subprocess.SubprocessError):
            sys.stderr.write(f"cluster: {error}; logs are in {layout.root}/logs\n")
            return 1
        raise
    print(f"export KUBECONFIG={layout.kubeconfig}")
    if stay:
        _stay(layout)
    return 0


def down(layout: Layout) -> int:
    """No process, mount, rule or interface is left; the folder keeps its logs."""
    first = _first_process(layout)
    if first:
        os.kill(first, signal.SIGTERM)
        ends_at = time.monotonic() + 30
        while Path("/proc", str(first)).exists():
            if time.monotonic() > ends_at:
                os.kill(first, signal.SIGKILL)
            time.sleep(0.1)
    layout.pid_file.unlink(missing_ok=True)
    left = machine.restore(layout)
    for name in ("etcd", "containerd", "kubelet", "volumes", "addresses", "pki", "etc", "kubeconfig"):
        place = layout.root / name
        place.unlink() if place.is_file() else shutil.rmtree(place, ignore_errors=True)
    sys.stderr.write("".join(f"cluster: left behind: {one}\n" for one in left))
    print("nothing of the cluster runs" if first else "no cluster ran")
    return 1 if left else 0


def load(layout: Layout, names: list[str]) -> int:
    """Images into the node, from the Docker engine or from archives."""
    if not _first_process(layout):
        sys.stderr.write("cluster: none runs here: tools/cluster up\n")
        return 1
    archives = [name for name in names if name.endswith(".tar")]
    saved = [name for name in names if name not in archives]
    for name in archives:
        subprocess.run(_ctr(layout, "images", "import", name), check=True, stdout=subprocess.DEVNULL)
    if saved:
        with subprocess.Popen(["docker", "save", *saved], stdout=subprocess.PIPE) as given:
            subprocess.run(
                _ctr(layout, "images", "import", "-"), stdin=given.stdout, check=True, stdout=subprocess.DEVNULL
            )
        if given.returncode != 0:
            return 1
    return 0


def scaler(layout: Layout) -> int:
    """KEDA, until it scales."""
    missing = [name for name in keda.IMAGES if not (PROGRAMS / name).exists()]
    if missing:
        sys.stderr.write(f"cluster: {', '.join(missing)} is missing: tools/build-kubernetes keda\n")
        return 1
    began = time.monotonic()
    for program, name in keda.IMAGES.items():
        _import(layout, name, program)
    _kubectl(layout, "apply", "--server-side", "-f", "-", given=keda.definitions())
    _kubectl(layout, "apply", "--server-side", "-f", "-", given=keda.rest())
    for name in ("keda-operator", "keda-metrics-apiserver"):
        _until(layout, f"{name} is ready", "-n", "keda", "rollout", "status", f"deployment/{name}", "--timeout=5s")
    print(f"KEDA scales after {time.monotonic() - began:.0f} s")
    return 0


def _start(layout: Layout) -> None:
    """The namespaces and their first process, and the one way in."""
    layout.folder()
    credentials.make(layout)
    write_settings(layout)
    machine.remember_kernel(layout)
    program = [sys.executable, str(Path(__file__).parent), "inside", "--dir", str(layout.root)]
    apart = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", *program]
    log = layout.file("logs", "cluster.log").open("ab")
    outer = subprocess.Popen(apart, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    log.close()
    layout.pid_file.write_text(str(_child_of(outer)))
    first = layout.pid_file.read_text()
    _run("ip", "link", "add", LINK, "type", "veth", "peer", "name", UPLINK, "netns", first)
    _run("ip", "address", "add", f"{OURS}/16", "dev", LINK)
    _run("ip", "link", "set", LINK, "up")
    _run("ip", "route", "add", SERVICES, "via", GATEWAY)


def _child_of(outer: "subprocess.Popen[bytes]") -> int:
    """The first process of the namespaces that `unshare` made."""
    listed = Path("/proc", str(outer.pid), "task", str(outer.pid), "children")
    ends_at = time.monotonic() + 10
    while time.monotonic() < ends_at and outer.poll() is None:
        told = listed.read_text().split()
        if told and "inside" in Path("/proc", told[0], "cmdline").read_text().split("\0"):
            return int(told[0])
        time.sleep(0.05)
    raise TimeoutError("no namespaces can be made here")


def _first_process(layout: Layout) -> int | None:
    """Its id, where it runs: a number alone may be somebody else's by now."""
    if not layout.pid_file.exists():
        return None
    pid = int(layout.pid_file.read_text())
    try:
        told = Path("/proc", str(pid), "cmdline").read_text().split("\0")
    except OSError:
        return None
    return pid if "inside" in told and str(layout.root) in told else None


def _until(layout: Layout, what: str, *words: str) -> None:
    ends_at = time.monotonic() + READY_S
    while True:
        if not _first_process(layout):
            raise TimeoutError(f"one of its programs ended before {what}: {layout.root}/logs/cluster.log says which")
        try:
            _kubectl(layout, *words)
        except subprocess.CalledProcessError as error:
            if time.monotonic() > ends_at:
                raise TimeoutError(f"not within {READY_S:g} s: {what}: {error.stderr}") from error
            time.sleep(0.5)
        else:
            return


def _kubectl(layout: Layout, *words: str, given: str | None = None) -> str:
    asked = [str(PROGRAMS / "kubectl"), f"--kubeconfig={layout.kubeconfig}", *words]
    return subprocess.run(asked, input=given, capture_output=True, text=True, check=True).stdout


def _import(layout: Layout, name: str, program: str) -> None:
    archive = layout.file("images", f"{program}.tar")
    images.write(archive, f"docker.io/{name}", PROGRAMS / program)
    subprocess.run(_ctr(layout, "images", "import", str(archive)), check=True, capture_output=True)
    archive.unlink()


def _ctr(layout: Layout, *words: str) -> list[str]:
    """containerd's client, where containerd is."""
    entered = ["nsenter", "--target", str(_first_process(layout)), "--mount", "--pid"]
    return [*entered, "ctr", "--address", SOCKET, "--namespace", "k8s.io", *words]


def _stay(layout: Layout) -> None:
    try:
        while _first_process(layout):
            time.sleep(0.5)
    except KeyboardInterrupt:
        print()
    down(layout)


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


if __name__ == "__main__":
    sys.exit(main())
