"""The whole loop through the real command: trained, paid, judged, settled, booked, traced, and no secret left lying."""

import base64
import contextlib
import gzip
import hashlib
import json
import shutil
import sqlite3
import struct
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from l402train import auditing, explaining, looking, screen, spans, story_screen
from l402train.exits import Exit
from l402train.folder import Folder
from lndsim.journal import Journal
from lndsim.network import Network

from tests.support import leaks
from tests.support.demos import COMMAND, CONSOLE, ROUNDS, Run, environment, printed
from tests.support.secrets_scan import WINDOW, Needles, key_values, scan, spellings
from tests.support.watching import rows

pytestmark = [pytest.mark.xdist_group("demo"), pytest.mark.timeout(400)]
SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
CHEATS = ("accomplice", "sign-flip", "noise")


def test_the_run_holds_what_it_promises(demo_run: Run) -> None:
    """The command checks itself, and ends with 0."""
    assert demo_run.returncode == Exit.FINE, demo_run.output


def test_the_report_is_what_the_docs_promise(demo_run: Run) -> None:
    """It fits the schema, and has every round and every peer."""
    jsonschema.validate(demo_run.report, json.loads(SCHEMA.read_text()))
    assert [round_["round"] for round_ in demo_run.report["rounds"]] == list(range(1, ROUNDS + 1))
    for round_ in demo_run.report["rounds"]:
        assert {one["peer"] for one in round_["submissions"]} == {f"peer-{n}" for n in range(1, 7)}


def test_the_model_gets_better_in_every_round(demo_run: Run) -> None:
    """Held-out loss falls, and each round begins where the last one ended."""
    losses = [(round_["loss_before"], round_["loss_after"]) for round_ in demo_run.report["rounds"]]
    assert all(after < before for before, after in losses)
    assert all(losses[n][1] == losses[n + 1][0] for n in range(len(losses) - 1))


def test_every_receipt_that_it_keeps_can_be_verified(demo_run: Run) -> None:
    """Each round's record, with nothing but the folder of public objects; every payload opens, and its losses add up."""
    for number in range(1, ROUNDS + 1):
        file = demo_run.folder / "receipts" / f"round-{number}.json"
        wanted = auditing.Wanted(
            source=str(file), settler="", attestor="", objects="", whole_round=True, rerun=False, device="cpu"
        )  # fmt: skip
        evidence = auditing.read_evidence(str(file), whole_round=True)
        found = auditing.audit(evidence, wanted, auditing.objects_of(wanted))
        findings = [*found.round, *(one for each in found.receipts.values() for one in each)]
        assert [one for one in findings if one.agrees is not True] == []
        assert len(found.receipts) == len(demo_run.report["rounds"][number - 1]["submissions"])


def test_honest_peers_earn_and_cheats_do_not(demo_run: Run) -> None:
    """Everybody paid the fee and had a reward locked; only honest work was paid, and each refusal has a reason."""
    for one in demo_run.submissions():
        assert one["fee_msat"] > 0
        assert one["locked_msat"] > 0
        if one["kind"] in CHEATS:
            assert one["reward_msat"] == 0, one
            assert one["reasons"]
    for peer in ("peer-1", "peer-2", "peer-3"):
        mine = [one for one in demo_run.submissions() if one["peer"] == peer]
        assert sum(one["reward_msat"] for one in mine) > sum(one["fee_msat"] for one in mine)


def test_every_millisatoshi_is_booked(demo_run: Run) -> None:
    """Debits equal credits, nothing is locked any more, and the books say what the receipts say."""
    ledger = demo_run.report["ledger"]
    rewards = sum(one["reward_msat"] for one in demo_run.submissions())
    fees = sum(one["fee_msat"] for one in demo_run.submissions())
    assert ledger["debits_msat"] == ledger["credits_msat"] > 0
    assert ledger["open_escrows"] == 0
    assert ledger["accounts"]["rewards"]["debits_msat"] == rewards
    assert ledger["accounts"]["fees:earned"]["credits_msat"] == fees
    for name, account in ledger["accounts"].items():
        if name.startswith("peer:"):
            assert account["debits_msat"] == account["credits_msat"], name


def test_every_round_is_funded_by_a_sponsor_who_pays_for_progress_alone(demo_run: Run) -> None:
    """One tranche a round, minted as a hold invoice: settled where the gain reached the margin, else given back."""
    tranches = [round_["tranche"] for round_ in demo_run.report["rounds"]]
    assert [one["tranche"] for one in tranches] == list(range(ROUNDS))
    for one in tranches:
        assert one["outcome"] == ("settled" if one["interval"][0] >= one["margin"] else "returned"), one
    accounts = demo_run.report["ledger"]["accounts"]
    (booked,) = (account for name, account in accounts.items() if name.startswith("sponsors:"))
    assert booked["credits_msat"] == sum(one["amount_msat"] for one in tranches if one["outcome"] == "settled") > 0
    assert booked["debits_msat"] == booked["pending_credits_msat"] == 0
    assert f"Sponsored: {ROUNDS} of {ROUNDS} rounds." in demo_run.output
    for number in range(1, ROUNDS + 1):
        assert f"Sponsor of round {number}: " in demo_run.output
    assert "Sponsor of round 1: " in (demo_run.folder / "report.html").read_text()


def test_each_tranche_ended_at_both_nodes_as_the_books_say(demo_run: Run) -> None:
    """The coordinator's invoice and the sponsor's payment, from the simulated network's own journal."""
    journal = Journal(demo_run.folder / "lnd" / "network.journal")
    try:
        network = Network.restore(journal, lambda: 0)
    finally:
        journal.close()
    assert network is not None
    for one in (round_["tranche"] for round_ in demo_run.report["rounds"]):
        hash_ = bytes.fromhex(one["payment_hash"])
        invoice = network.nodes["coordinator"].invoices[hash_]
        payment = network.nodes["sponsor"].payments[hash_]
        settled = one["outcome"] == "settled"
        assert invoice.hold
        assert invoice.state.name == ("SETTLED" if settled else "CANCELED")
        assert payment.status.name == ("SUCCEEDED" if settled else "FAILED")


def test_every_trace_goes_through_all_five_services(demo_run: Run) -> None:
    """One trace id from the peer's request to the ledger's posting, paid or not."""
    for one in demo_run.submissions():
        trace = demo_run.report["traces"][one["trace_id"]]
        assert set(trace["services"]) == spans.FIVE, one
        assert trace["spans"] >= len(spans.FIVE)


def test_a_paid_submissions_posting_is_in_its_trace(demo_run: Run) -> None:
    """The ledger's own lines name the trace that the peer began."""
    paid = next(one for one in demo_run.submissions() if one["reward_msat"])
    query = "select distinct trace_id from transfers where phase = 'post' and commitment = ?"
    posted = rows(demo_run.folder / "settler" / "books.sqlite3", query, paid["submission_id"])
    assert posted == [(paid["trace_id"],)]


def test_the_pages_and_the_picture_are_there(demo_run: Run) -> None:
    """One page that fetches nothing, and a PNG that is not empty."""

    class Reader(HTMLParser):
        fetched: list[str] = []  # noqa: RUF012 - one reader, one list

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    Reader().feed((demo_run.folder / "report.html").read_text())
    assert [source[:22] for source in Reader.fetched] == ["data:image/png;base64,"]
    png = (demo_run.folder / "run.png").read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    assert width > 1_000
    assert height > 500


def test_the_run_is_told_while_it_happens(demo_run: Run) -> None:
    """Rounds, verdicts, the waterfall, the balance and the times are on the screen, as plain text without a terminal."""
    for words in ("Round 1: held-out loss", "sign-flip", "Trial balance", "first paid gradient", "Trace "):
        assert words in demo_run.output
    assert "\x1b[" not in demo_run.output


def test_afterwards_the_folder_can_still_be_asked(demo_run: Run) -> None:
    """`trace` and `ledger` work on a network that no longer runs."""
    out, folder = screen.console(to_stderr=True), Folder(demo_run.folder)
    paid = next(one for one in demo_run.submissions() if one["reward_msat"])
    assert looking.trace(out, folder=folder, wanted=paid["trace_id"][:12], as_json=False) is Exit.FINE
    books = folder.settler / "books.sqlite3"
    assert looking.ledger(out, where=books, account=None, export=None, as_json=True) is Exit.FINE


def test_a_submission_is_explained_by_its_trace_and_every_part_of_its_story_is_told(demo_run: Run) -> None:
    """By its trace id as by its commitment: offer, fee, rungs, evidence of the lock, score, decision, ends, ledger, trace."""
    paid = next(one for one in demo_run.submissions() if one["reward_msat"])
    told = explaining.explain(demo_run.folder / "settler" / "books.sqlite3", paid["trace_id"])
    assert (told.commitment, told.trace_id) == (paid["submission_id"], paid["trace_id"])
    out = screen.console()
    with out.capture() as captured:
        story_screen.tell_story(out, told)
    text = captured.get()
    for row in ("fee", "fee hash", "offer", "peer's word", "locked", "score", "decision", "settled", "trace"):
        assert f"\n{row} " in text, row
    for words in (paid["trace_id"], "Rungs", "Ledger, in satoshi", "rung post", "What would have earned more"):
        assert words in text


# Secrets.


def test_keys_and_macaroons_are_nowhere_but_in_their_files(demo_run: Run) -> None:
    """No key file's value and no service's macaroon is in any log, span, message, book or report."""
    secrets = key_values(demo_run.folder / "keys")
    assert len(secrets) > 15
    assert scan(demo_run.folder, secrets) == []


def test_what_commands_tell_of_a_kept_run_holds_no_secret(demo_run: Run) -> None:
    """The ledger, an export, a statement, an explanation, a trace, every receipt: as text and as JSON, all searched."""
    place, kept = demo_run.place, ["--dir", str(demo_run.folder)]
    paid = next(one for one in demo_run.submissions() if one["reward_msat"])["submission_id"]
    receipts = str(demo_run.folder / "receipts" / "round-1.json")
    for words in (
        ["ledger", *kept, "--export", str(place / "journal.csv")],
        ["ledger", *kept, "--account", "rewards", "--export", str(place / "rewards.json")],
        ["explain", paid, *kept],
        ["trace", "latest", "--all", *kept],
        ["trace", "sponsor", *kept],
        ["verify-receipt", receipts, "--round"],
        ["keys", "list", "preimages", *kept],
    ):
        for form in ([], ["--json"]):
            done = subprocess.run(
                [*COMMAND, *words, *form], capture_output=True, text=True, timeout=60, check=False, env=environment()
            )
            told = printed(place, done.stdout, done.stderr)
            assert done.returncode == Exit.FINE, told
    assert min((place / name).stat().st_size for name in ("journal.csv", "rewards.json", CONSOLE)) > 100
    assert leaks.leaks(demo_run.folder, beside=place) == []


def test_every_secret_of_the_run_is_known_to_the_search(demo_run: Run) -> None:
    """Preimages of every offer and tranche, what the fees bought, and what opens the nodes: as many as there must be."""
    folder, submissions = demo_run.folder, len(demo_run.submissions())
    assert len(leaks.reward_preimages(folder)) == 6 * submissions
    assert len(leaks.tranche_preimages(folder)) == len(demo_run.report["rounds"])
    journals = folder.glob("peers/*/journal.sqlite3")
    assert sum(len(leaks.bought(journal)) for journal in journals) == 2 * submissions
    assert len(leaks.node_preimages(folder)) >= submissions
    assert len(leaks.node_keys(folder)) >= len(("coordinator", "sponsor", "observer")) + 6


def test_a_leak_is_found_whatever_leaks_and_wherever(demo_run: Run, tmp_path: Path) -> None:
    """Planted into a copy of what the search knows by: each kind of secret, into each kind of place, all of them found."""
    network, mine = tmp_path / "kept", Path("peers/peer-1")
    for name in ("keys", "settler", "lnd", "peers"):
        shutil.copytree(demo_run.folder / name, network / name)
    assert leaks.leaks(network, beside=tmp_path) == []
    bought = leaks.bought(network / mine / "journal.sqlite3")
    found = set[str]()
    for kind, secrets in (
        ("reward", leaks.reward_preimages(network)),
        ("tranche", leaks.tranche_preimages(network)),
        ("key", key_values(network / "keys")),
        ("node", leaks.node_keys(network)),
        ("fee", {name: secret for name, secret in bought.items() if name.startswith("fee")}),
        ("token", {name: secret for name, secret in bought.items() if name.startswith("macaroon")}),
    ):
        name, secret = next(iter(secrets.items()))
        planted = plant(tmp_path, secret)
        told = leaks.leaks(network, beside=tmp_path)
        assert {one for one in told if one.startswith(f"{name} in ")} == {f"{name} in {file}" for file in planted}, kind
        found |= {one.partition(" in ")[2] for one in told}
        for file in planted:
            (tmp_path / file).unlink()
    assert leaks.leaks(network, beside=tmp_path) == []
    assert len(found) == len(planted)


def plant(place: Path, secret: bytes) -> list[str]:
    """Into every kind of file that a run writes, as it would be written there; the files' names."""
    hexed, signed = secret.hex(), json.dumps({"body": json.dumps({"oops": secret.hex()})})
    packed = base64.b64encode(json.dumps({"b": base64.b64encode(secret).decode()}).encode())
    files = {
        "kept/logs/settler.log": json.dumps({"event": "oops", "value": repr(secret)}).encode(),
        "kept/logs/nats.log": f"[TRC] <<- MSG_PAYLOAD: [{json.dumps(signed)}]".encode(),
        "kept/logs/lightning.log": hexed.upper().encode(),
        "kept/nats/jetstream/OPERATOR/streams/FACTS/msgs/1.blk": b"\x00\x17" + packed + b"\x00",
        "kept/redis/appendonly.aof": b"$32\r\n" + secret + b"\r\n",
        "kept/traces/gateway.jsonl": json.dumps({"attributes": {"oops": list(secret)}}).encode(),
        "kept/objects/ab/abcd": b"\x93NUMPY" + secret,
        "kept/receipts/round-1.json": signed.encode(),
        "kept/report.html": f"<td>{hexed}</td>".encode(),
        "kept/peers/peer-2/rounds.jsonl.new": f'{{"oops": "{hexed}"}}'.encode(),
        "kept/lnd/coordinator/logs/bitcoin/simnet/lnd.log": f"SRVR: Adding preimage={hexed}".encode(),
        "kept/lnd/coordinator/logs/bitcoin/simnet/lnd.log.1.gz": gzip.compress(str(list(secret)).encode()),
        "journal.csv": f"1,rewards,{base64.urlsafe_b64encode(secret).decode()}".encode(),
        CONSOLE: f"L402 {base64.b64encode(b'..' + secret).decode()}:".encode(),
    }
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    database = place / "kept" / "attestor.sqlite3"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("create table t (b blob)")
        connection.execute("insert into t values (?)", (secret,))
        connection.commit()
    return [*files, "kept/attestor.sqlite3"]


def test_the_scanner_finds_what_it_looks_for(tmp_path: Path) -> None:
    """A planted secret is found in every spelling, and not in the places made for it."""
    secret = bytes(range(32))
    for number, spelled in enumerate(spellings(secret)):
        (tmp_path / f"{number}").write_bytes(b'{"oops": "' + spelled + b'"}')
    for home in ("keys/a.json", "lnd/coordinator/channel.db"):
        (tmp_path / home).parent.mkdir(parents=True)
        (tmp_path / home).write_text(secret.hex())
    assert scan(tmp_path, {"planted": secret}) == sorted(f"planted in {n}" for n in range(len(spellings(secret))))


def test_what_a_database_page_cuts_in_two_and_what_its_log_alone_holds_is_found(tmp_path: Path) -> None:
    """Values longer than a page go on in another one, wherever that cuts them; a transaction may be in the `-wal` alone."""
    secrets = {str(number): hashlib.sha256(bytes([number])).digest() for number in range(128)}
    with contextlib.closing(sqlite3.connect(tmp_path / "books.sqlite3")) as connection:
        connection.execute("pragma page_size = 512")
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table offers (body text)")
        for number, secret in enumerate(secrets.values()):
            connection.execute("insert into offers values (?)", ("." * 600 + secret.hex() + "." * 4 * number,))
        connection.commit()
        assert {one.split()[0] for one in scan(tmp_path, secrets) if one.endswith("sqlite3")} == set(secrets)
        on_disk = (tmp_path / "books.sqlite3").read_bytes() + (tmp_path / "books.sqlite3-wal").read_bytes()
        assert len(Needles(secrets).found_in(on_disk)) < len(secrets)


def test_what_lies_on_the_edge_of_two_windows_is_found(tmp_path: Path) -> None:
    """A log is longer than what is looked at at once."""
    secrets = {str(number): hashlib.sha256(bytes([number])).digest() for number in range(3)}
    edge = b"." * (WINDOW - 40)
    (tmp_path / "nats.log").write_bytes(edge + b"".join(secret.hex().encode() + edge for secret in secrets.values()))
    assert scan(tmp_path, secrets) == [f"{name} in nats.log" for name in secrets]
