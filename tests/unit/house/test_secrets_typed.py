"""What is secret has a type that shows nothing of it, everywhere in our own code; what cannot have it hides in its struct."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from l402_gateway.config import Config as GatewayConfig
from l402_gateway.control_plane import Credit
from l402_oracle.config import AttestorConfig
from l402_oracle.keys import _AttestorFile, _WorkerFile
from l402_oracle.worker.results import Opened
from l402_peer_agent.adapters.gateway import CreditGrant
from l402_peer_agent.adapters.journal import decoded, encoded
from l402_peer_agent.journal import Attempt, Payment, Token
from l402_settler.config import Config as SettlerConfig
from l402_settler.keys import _File as _SettlerFile
from l402core.keyfiles import read_key_file
from l402core.lnd.port import PaymentStatus, PaymentView
from l402core.secret import Secret
from l402core.signing import Signed
from l402train.folder import Folder
from l402train.keys import Keyring, Public, write_keys
from l402train.lightning.btcd import Btcd
from l402train.services import Wiring

from tests.support.secrets_scan import key_values

ROOT = Path(__file__).parents[3]
NAMES = re.compile(
    r"_*((?!sealed_)\w+_)?(preimages?|macaroons?|(signing|seed|answers|preimage|sealing|content|reading|root)_keys?|passwords?)_?"
)
"""As a parameter, a field, a variable or a function is named that is a secret, or gives one. What is sealed is none."""
IN_THE_CLEAR = {
    "node.py macaroon",  # its name
    "rotating.py _add_preimage",  # the key's id
    "control_plane.py macaroon", "gateway.py macaroon",  # an answer as JSON, which hides it from `repr`
    "btcd.py password",  # a file as JSON, likewise
    "books.py _without_password",  # what is left
    "documents.py reading_key", "rounds.py reading_key",  # the public half
    "scope.py root_key", "baking.py root_key", "command.py root_key",  # its number
    "documents.py content_key", "evidence.py content_key", "parts.py content_key", "building_again.py content_key",  # published
    "results.py content_key",  # before that, hidden
    "sealing.py content_key",  # where it is used
}  # fmt: skip
HIDDEN = "5a" * 32
URL = f"nats://settler:{HIDDEN}@127.0.0.1:4222"


def annotated(path: Path) -> Iterator[tuple[str, str]]:
    """Every name that a module gives a type, with the type."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.AnnAssign):
            yield ast.unparse(node.target).rpartition(".")[2], ast.unparse(node.annotation)
        elif isinstance(node, ast.arg) and node.annotation:
            yield node.arg, ast.unparse(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns:
            yield node.name, ast.unparse(node.returns)


def test_no_secret_is_bytes_or_text() -> None:
    """Preimages, macaroons and keys are `Secret`, or of a class that shows nothing. The simulator's are another's."""
    found = {
        f"{path.name} {name}"
        for path in (*ROOT.glob("libs/l402*/src/**/*.py"), *ROOT.glob("services/*/src/**/*.py"))
        for name, kind in annotated(path)
        if NAMES.fullmatch(name) and re.search(r"\b(bytes|str)\b", re.sub(r"(dict|Mapping)\[str, ", "", kind))
    }
    assert found == IN_THE_CLEAR


def test_what_must_be_text_is_not_shown_by_what_holds_it() -> None:
    """Addresses with passwords, answers with a token, a payment with its preimage."""
    signed = Signed(body="{}", signer="", signature="")
    token = Token(macaroon=Secret(HIDDEN.encode()), payment_hash="", token_id="", amount_msat=1)
    payment = Payment(payment_hash="", bolt11="", amount_msat=1, preimage=Secret(bytes.fromhex(HIDDEN)))
    attempt = Attempt(round=1, terms=signed, traceparent="", token=token)
    view = PaymentView(
        payment_hash=b"", status=PaymentStatus.SETTLED, amount_msat=1, preimage=Secret(bytes.fromhex(HIDDEN))
    )
    for one in (
        token, payment, attempt, view,
        Credit(macaroon=HIDDEN, payment_hash="", token_id="", amount_msat=1),
        CreditGrant(macaroon=HIDDEN, payment_hash="", token_id="", amount_msat=1),
        Opened(packed=b"", content_key=HIDDEN, round=1, checkpoint="", peer=""),
        Btcd(rpc="", listen="", cert=Path(), user="", password=HIDDEN),
        Wiring(
            network="", nats_urls={"settler": URL}, redis_url=URL, attestor_port=1, gateway_port=1, nodes={},
            public=Public(settler="", attestor="", reading="", peers=()), rounds=1, expected=(), seed=0,
        ),
        GatewayConfig(nats_url=URL, redis_url=URL), AttestorConfig(nats_url=URL, database_url=URL),
        SettlerConfig(nats_url=URL, database_url=URL),
    ):  # fmt: skip
        assert HIDDEN not in f"{one}{one!r}"
        assert repr(bytes.fromhex(HIDDEN))[2:-1] not in f"{one!r}"
    for kept in (view, token):
        with pytest.raises(TypeError, match="Secret"):
            msgspec.json.encode(kept)


def test_a_peers_journal_keeps_what_the_peer_spends() -> None:
    """It alone writes secrets down, and reads them again; a payment that has not ended has none."""
    payment = Payment(payment_hash="ab", bolt11="b", amount_msat=1, status="settled", preimage=Secret(b"\x05" * 32))
    assert decoded(encoded(payment), Payment) == payment
    pending = msgspec.structs.replace(payment, status="pending", preimage=None)
    assert decoded(encoded(pending), Payment) == pending
    signed = Signed(body="{}", signer="", signature="")
    token = Token(macaroon=Secret(b"\xff\x00"), payment_hash="ab", token_id="cd", amount_msat=1)
    attempt = Attempt(round=1, terms=signed, traceparent="", token=token)
    assert decoded(encoded(attempt), Attempt) == attempt


def test_no_key_of_a_file_is_shown_by_what_reads_it(tmp_path: Path) -> None:
    """Of settler, attestor and worker: public keys alone."""
    folder = Folder(tmp_path / "net")
    folder.create()
    write_keys(folder, Keyring.from_seed(3), ())
    for name, kind in (("settler", _SettlerFile), ("attestor", _AttestorFile), ("worker", _WorkerFile)):
        file = folder.keys / f"{name}.json"
        shown = repr(read_key_file(file, kind))
        keys = {place: key.hex() for place, key in key_values(folder.keys).items() if place.startswith(f"{name}.")}
        assert keys
        assert [place for place, key in keys.items() if key in shown] == []
