"""Each container's own folder of secrets: keys, passwords and addresses, made once and mounted nowhere else.

It knows the parts of `compose.yaml` by name and port, and starts none.
"""

import json
import os
import secrets
from pathlib import Path

from l402core.l402 import keys as root_keys
from l402core.rights import MIGRATION, OPERATOR, SERVICES
from l402core.secret import Secret

from l402train import bus_users, keys
from l402train.exits import stop_for
from l402train.folder import Folder
from l402train.keys import Keyring
from l402train.lightning.programs import LND_LOG_LEVEL
from l402train.parts import SPONSOR

USER = 65_532
"""Whom our images run as."""
NATS, REDIS, POSTGRES = "nats://nats:4222", "redis://:{}@redis:6379/0", "postgresql+psycopg://{}:{}@postgres:5432/{}"
BTCD_RPC, BTCD_LISTEN = "btcd:18556", "btcd:18555"
BTCD_CERT = Path("/btcd/rpc.cert")
DONE = "made"
_LND = """\
[Application Options]
noseedbackup=true
nobootstrap=true
norest=true
listen=0.0.0.0:9735
rpclisten=0.0.0.0:10009
tlsdisableautofill=true
debuglevel={level}
trickledelay=50
maxpendingchannels=8
[Bitcoin]
bitcoin.simnet=true
bitcoin.node=btcd
bitcoin.defaultchanconfs=1
[btcd]
btcd.rpchost={rpc}
btcd.rpcuser=l402
btcd.rpcpass={password}
btcd.rpccert={cert}
"""
_SIZES = "max_payload: 8MB\njetstream { store_dir: /data, sync_interval: always, max_file_store: 8GB }\n"


class Shelves:
    """The folders below one root, a volume each. Nothing that is there is made again: money hangs on it."""

    def __init__(self, root: Path, peers: tuple[str, ...], ring: Keyring | None = None) -> None:
        self._root, self.peers = root, peers
        self._ring = ring or Keyring(secrets.token_bytes(32))
        self._mine = USER if os.geteuid() == 0 else os.geteuid()

    def fill(self) -> bool:
        """Everything; False where it was there. Raises Stop."""
        if (self._root / OPERATOR / DONE).exists():
            return False
        self._ours()
        self._theirs()
        self._bus()
        self.put(OPERATOR, DONE, "")  # last: what a crash left half done is made again
        return True

    def put(self, name: str, file: str, content: str | bytes, *, mode: int = 0o600) -> None:
        """One file on one shelf, for the user that our images run as. Raises Stop."""
        path = self._place(name, file)
        Folder.write_private(path, content.encode() if isinstance(content, str) else content)
        self._own(path, mode)

    def _place(self, name: str, file: str) -> Path:
        path = self._root / name / file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise stop_for(error, path) from error
        return path

    def _own(self, path: Path, mode: int = 0o600) -> None:
        try:
            path.chmod(mode)
            for one in (path, path.parent):
                os.chown(one, self._mine, self._mine)
        except OSError as error:
            raise stop_for(error, path) from error

    def _ours(self) -> None:
        ring = self._ring
        owners = {name: ring.password(f"database/{name}") for name in ("books", "decisions")}
        books, decisions = (POSTGRES.format(name, _text(password), name) for name, password in owners.items())
        cache = _text(ring.password("database/redis"))
        for name, content in keys.files(ring, (*self.peers, SPONSOR)).items():
            self.put(name, "key.json", json.dumps(content))
        root_keys.save(keys.gateway_ring(ring), self._place("gateway", "key.json"))
        self._own(self._root / "gateway" / "key.json")
        known = keys.public_halves(ring, (*self.peers, SPONSOR))
        public = {
            "attestor": known.attestor,
            "settler": known.settler,
            "reading": known.reading,
            "peers": json.dumps(known.peers[:-1]),
            "sponsors": json.dumps(known.peers[-1:]),
        }
        for name in ("gateway", "invoicer", "settler", "attestor", OPERATOR, SPONSOR, *self.peers):
            for file, value in public.items():
                self.put(name, file, value)
        self.put("gateway", "redis_url", REDIS.format(cache))
        self.put("settler", "database_url", books)
        self.put("attestor", "database_url", decisions)
        self.put(MIGRATION, "books_url", books)
        self.put(MIGRATION, "decisions_url", decisions)
        self.put("redis", "redis.conf", f'requirepass {cache}\nsave ""\nmaxmemory 256mb\n', mode=0o644)
        self.put("postgres", "password", _text(ring.password("database/postgres")), mode=0o644)
        self.put("postgres", "users.sql", _sql(owners), mode=0o644)

    def _theirs(self) -> None:
        """The chain's password, for whoever speaks to it."""
        password = self._ring.password("btcd")
        told = {
            "rpc": BTCD_RPC, "listen": BTCD_LISTEN, "cert": str(BTCD_CERT), "user": "l402", "password": _text(password),
        }  # fmt: skip
        self.put("btcd", "btcd.json", json.dumps(told))
        self.put("btcd", "btcd.conf", f"rpcuser=l402\nrpcpass={_text(password)}\n", mode=0o644)
        self.put("btcd", "lnd.conf", _lnd_conf(password), mode=0o644)

    def _bus(self) -> None:
        passwords = self._ring.passwords()
        self.put("nats", "nats.conf", f"http: 8222\n{_SIZES}{bus_users.block(passwords)}", mode=0o644)
        for user in (*SERVICES, OPERATOR, MIGRATION):
            self.put(user, "nats_url", bus_users.url_of(NATS, user, passwords))


def _text(password: Secret) -> str:
    """For a file that is to hold it."""
    return password.reveal().decode()


def _lnd_conf(password: Secret) -> str:
    return _LND.format(rpc=BTCD_RPC, cert=BTCD_CERT, password=_text(password), level=LND_LOG_LEVEL)


def _sql(passwords: dict[str, Secret]) -> str:
    """A database for each owner, who may use no other."""
    return "".join(
        f"CREATE ROLE {name} LOGIN PASSWORD '{_text(password)}';\nCREATE DATABASE {name} OWNER {name};\n"
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;\n"
        for name, password in passwords.items()
    )
