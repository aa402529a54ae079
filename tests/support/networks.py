"""The processes of a running network, one by one: where each answers, ended in good order, started again.

It starts no network and knows no story.
"""

import functools
import re
from pathlib import Path

from l402train import services
from l402train.folder import Folder
from l402train.stack import Network

from tests.support.watching import NETWORK_S, until

UNHURRIED = {
    "L402_SETTLER_COMMIT_S": "180",
    "L402_SETTLER_LOCK_S": "60",
    "L402_SETTLER_UPLOAD_S": "120",
    "L402_SETTLER_JUDGE_S": "300",
    "L402_SETTLER_RECONCILE_S": "10",
    "L402_SETTLER_INNER_STEPS": "2",
    "L402_SETTLER_BATCH": "2",
    "L402_SETTLER_EVAL_TOKENS": "1024",
    "L402_PEER_IDLE_EXIT_S": "600",
}
"""Deadlines for a busy machine: a phase ends once everybody is through, and a peer waits for what it is owed."""


def address(folder: Folder, name: str) -> Path:
    """The file in which a process says where it answers; a worker has a folder of its own."""
    return folder.run / (f"{name}/worker.url" if name.startswith("worker") else f"{name}.url")


async def ended_in_good_order(network: Network, name: str) -> None:
    """By itself after SIGTERM, with exit code 0."""
    process = network.process(name)
    process.ask_to_end()
    await until(lambda: process.returncode is not None, patience_s=NETWORK_S)
    assert process.returncode == 0, process.tail()


async def started_again(network: Network, name: str) -> None:
    """A service that has ended; until it says that it is ready."""
    process = network.process(name)
    process.start_again()
    ready = functools.partial(services.ready_at, address(network.folder, name))
    await process.until(ready, deadline_s=services.READY_S)


def stay_at_its_port(network: Network) -> None:
    """The bus chose its port itself; those that know it by that one must find it again."""
    config = network.folder.nats / "nats.conf"
    port = network.nats_url.rpartition(":")[2].strip("/")
    config.write_text(re.sub(r'listen: "127\.0\.0\.1:-?\d+"', f'listen: "127.0.0.1:{port}"', config.read_text()))
