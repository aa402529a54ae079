"""Where everything of one local network lies. It knows paths and permissions, and starts nothing."""

import os
import shutil
from pathlib import Path

import msgspec

from l402train.exits import Exit, Stop, stop_for

MARK = "network.json"
URL_FILE = "L402_NATS_URL_FILE"
FREE_BYTES_MIN = 300_000_000
"""Below this a run would end half-way: a demo writes about 60 MB, JetStream preallocates some, and SQLite needs room."""


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """`network.json`: what runs here, for `status`, for peers that join, and for tests."""

    pid: int
    """Of the process that started everything and will stop it."""
    network: str
    gateway_url: str
    attestor_url: str
    nats_url: str
    """Without a password; `Folder.operator_url` has one."""
    redis_url: str
    nodes_file: str
    parts: dict[str, str]
    pids: dict[str, int]


class Folder:
    """The layout. Every path below `root` is named here and nowhere else."""

    def __init__(self, root: Path, *, books_url: str = "", decisions_url: str = "") -> None:
        self.root = root.absolute()
        self._books_url, self._decisions_url = books_url, decisions_url
        self.keys = self.root / "keys"
        self.lnd = self.root / "lnd"
        self.objects = self.root / "objects"
        self.traces = self.root / "traces"
        self.logs = self.root / "logs"
        self.run = self.root / "run"
        self.settler = self.root / "settler"
        self.attestor = self.root / "attestor"
        self.peers = self.root / "peers"
        self.receipts = self.root / "receipts"
        self.sponsor = self.root / "sponsor"
        self.nats = self.root / "nats"
        self.redis = self.root / "redis"
        self.mark = self.root / MARK
        self.nodes = self.lnd / "nodes.json"
        self.passwords = self.keys / "bus.json"

    @property
    def books_url(self) -> str:
        """The settler's database: a file of ours, unless another one was named."""
        return self._books_url or f"sqlite:///{self.settler / 'books.sqlite3'}"

    @property
    def books(self) -> Path | str:
        """The same, for whoever reads it: our file, or the URL of the other one."""
        return self._books_url or self.settler / "books.sqlite3"

    @property
    def decisions_url(self) -> str:
        """The attestor's database, likewise."""
        return self._decisions_url or f"sqlite:///{self.attestor / 'decisions.sqlite3'}"

    def log(self, name: str) -> Path:
        """One process's log."""
        return self.logs / f"{name}.log"

    def trace(self, name: str) -> Path:
        """One process's spans."""
        return self.traces / f"{name}.jsonl"

    def create(self, *, replace: bool = False) -> None:
        """Make it, for its owner alone. Raises Stop: not empty and not ours, no permission, disk full.

        With `replace` an earlier network that no longer runs is removed first; anything else is never removed.
        """
        try:
            if self.mark.exists() and self._is_running():
                raise Stop(Exit.FOLDER, f"a network is running in {self.root}; stop it first")
            if replace and self.mark.exists():
                shutil.rmtree(self.root)
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if any(self.root.iterdir()):
                raise Stop(Exit.FOLDER, f"{self.root} is not empty; name another folder, or remove it")
            for folder in vars(self).copy().values():
                if isinstance(folder, Path) and not folder.suffix:
                    folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise stop_for(error, self.root) from error
        free = shutil.disk_usage(self.root).free
        if free < FREE_BYTES_MIN:
            raise Stop(
                Exit.DISK_FULL,
                f"the disk is full: {free // 1_000_000} MB are free for {self.root}, {FREE_BYTES_MIN // 1_000_000} needed",
            )

    def _is_running(self) -> bool:
        try:
            os.kill(self.describe().pid, 0)
        except (ProcessLookupError, Stop):
            return False
        except PermissionError:
            return True
        return True

    def write_description(self, description: Description) -> None:
        """Replace `network.json` in one step."""
        self.write_private(self.mark, msgspec.json.format(msgspec.json.encode(description)) + b"\n")

    def describe(self) -> Description:
        """What runs (or ran) here. Raises Stop where no network ever did."""
        try:
            return msgspec.json.decode(self.mark.read_bytes(), type=Description)
        except (OSError, msgspec.DecodeError) as error:
            raise Stop(Exit.NOT_FOUND, f"{self.root} holds no network: {MARK} is missing or not readable") from error

    def operator_url(self, given: str | None = None) -> str:
        """The bus, for orders and looks: as given, as L402_NATS_URL_FILE names a file of it, or this folder's. Raises Stop."""
        mounted = os.environ.get(URL_FILE)
        if given or mounted:
            return given or _content(Path(str(mounted)))
        from l402core.rights import OPERATOR  # noqa: PLC0415 - `--help` need not know the bus

        from l402train import bus_users  # noqa: PLC0415

        server = self.describe().nats_url
        try:
            passwords = bus_users.read(self.passwords)
        except (OSError, msgspec.DecodeError) as error:
            raise Stop(Exit.NOT_FOUND, f"{self.passwords} is missing or not readable") from error
        return bus_users.url_of(server, OPERATOR, passwords)

    @staticmethod
    def write_private(path: Path, content: bytes) -> None:
        """Whole or not at all, and only for its owner to read. Raises Stop."""
        unfinished = path.with_name(f".{path.name}.new")
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError as error:
            raise stop_for(error, path) from error


def _content(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise stop_for(error, path) from error
