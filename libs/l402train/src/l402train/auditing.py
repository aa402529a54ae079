"""`l402-train verify-receipt`: reads evidence from a file or a URL, has it looked at, and says what it found.

It decides nothing itself: `verifying` looks at documents, `replaying` measures again.
"""

import hashlib
import http.client
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from l402core.evidence import Evidence
from rich.console import Console

from l402train import services, verifying
from l402train.exits import Exit, Stop
from l402train.folder import Folder
from l402train.neighbours import Neighbours, Read
from l402train.own_data_again import own_findings
from l402train.verifying import Finding, Opened
from l402train.yardstick_again import yardstick_findings

Get = Callable[[str], bytes | None]
OBJECT_MAX_BYTES = 1 << 30
FETCH_S = 60.0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked on the command line."""

    source: str
    settler: str
    attestor: str
    objects: str
    whole_round: bool
    rerun: bool
    device: str


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: `round` holds for all receipts, `receipts` by commitment."""

    agrees: bool
    round: tuple[Finding, ...]
    receipts: dict[str, tuple[Finding, ...]]


def verify_receipt(out: Console, wanted: Wanted, *, as_json: bool) -> Exit:
    """FINE where everything that could be looked at agrees, UNTRUE where anything differs."""
    evidence = read_evidence(wanted.source, whole_round=wanted.whole_round)
    found = audit(evidence, wanted, objects_of(wanted))
    if as_json:
        out.print_json(msgspec.json.encode(found).decode())
    else:
        _tell(out, found, wanted)
    return Exit.FINE if found.agrees else Exit.UNTRUE


def audit(evidence: Evidence, wanted: Wanted, get: Get) -> Audit:
    """Everything that can be looked at."""
    found, findings = verifying.opened(evidence, settler=wanted.settler, attestor=wanted.attestor)
    by_receipt: dict[str, tuple[Finding, ...]] = {}
    if found is not None:
        findings += verifying.round_findings(found)
        beside = Neighbours(found, rounds_of(wanted))
        if wanted.whole_round:
            findings += [*verifying.chain_findings(found), *beside.findings()]
        again, for_all = _again(found, beside, wanted, get) if wanted.rerun else ({}, [])
        findings += for_all
        receipts = [receipt for receipt, _ in found.receipts]
        yardstick = found.judged.yardstick
        findings += own_findings(receipts, get, whole_round=wanted.whole_round, yardstick=yardstick)
        findings += yardstick_findings(found.judged, get)
        for receipt, signed in found.receipts:
            looks = [
                *verifying.receipt_findings(found, receipt, signed),
                *verifying.losses_findings(receipt, get),
                *verifying.payload_findings(receipt, get),
                *again.get(receipt.commitment, ()),
            ]
            by_receipt[receipt.commitment] = tuple(looks)
    everything = [*findings, *(one for looks in by_receipt.values() for one in looks)]
    agrees = found is not None and all(one.agrees is not False for one in everything)
    return Audit(agrees=agrees, round=tuple(findings), receipts=by_receipt)


def _again(
    found: Opened, beside: Neighbours, wanted: Wanted, get: Get
) -> tuple[dict[str, list[Finding]], list[Finding]]:
    from l402train import replaying  # noqa: PLC0415  # it imports torch, which nothing else here needs

    return replaying.replayed(found, beside, get, device=wanted.device, whole_round=wanted.whole_round)


def read_evidence(source: str, *, whole_round: bool) -> Evidence:
    """From a file or the attestor's URL. Raises Stop."""
    data = _fetched(_evidence_url(source)) if _is_url(source) else _read(Path(source))
    evidence = _decoded(data, source)
    if whole_round and _is_url(source) and "/receipts/" in source:
        number = json.loads(evidence.judged.body)["round"]
        return _decoded(_fetched(f"{source.split('/v1/', maxsplit=1)[0]}/v1/rounds/{number}/evidence"), source)
    return evidence


def rounds_of(wanted: Wanted) -> Read:
    """Other rounds' public records: from the same oracle, or from files named like this one beside it."""
    base = wanted.source.split("/v1/", maxsplit=1)[0]
    file = Path(wanted.source)

    def read(number: int) -> Evidence | None:
        try:
            if _is_url(wanted.source):
                return _decoded(_fetched(f"{base}/v1/rounds/{number}/evidence"), base)
            beside = file.with_name(f"round-{number}.json")
            return _decoded(_read(beside), str(beside)) if file.name.startswith("round-") else None
        except Stop:
            return None

    return read


def keep_rounds(folder: Folder, attestor_url: str, rounds: int) -> None:
    """The public record of each round, as files. Raises Stop."""
    for number in range(1, rounds + 1):
        record = _fetched(f"{attestor_url}/v1/rounds/{number}/evidence")
        Folder.write_private(folder.receipts / f"round-{number}.json", record)


def objects_of(wanted: Wanted) -> Get:
    """Objects by their hash, each checked against it: from a folder, a gateway, or the folder beside the file."""
    place = wanted.objects
    if not place and not _is_url(wanted.source):
        beside = Path(wanted.source).absolute().parent.parent / "objects"
        place = str(beside) if beside.is_dir() else ""

    def get(sha256: str) -> bytes | None:
        if not place:
            return None
        data = _object_at(place, sha256) if _is_url(place) else _object_in(Path(place), sha256)
        return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None

    return get


def _tell(out: Console, found: Audit, wanted: Wanted) -> None:
    for commitment, findings in found.receipts.items():
        out.print(f"receipt {commitment[:16]}…: {_verdict(findings)}", soft_wrap=True)
        _tell_findings(out, findings)
    out.print(f"the round: {_verdict(found.round)}", soft_wrap=True)
    _tell_findings(out, found.round)
    if not wanted.attestor or not wanted.settler:
        out.print("The keys are those that the terms name: pin yours with --attestor and --settler.", soft_wrap=True)
    if not wanted.rerun:
        out.print("Nothing was measured again: --rerun does, and needs torch.", soft_wrap=True)
    out.print("AGREES" if found.agrees else "DIFFERS", style="bold green" if found.agrees else "bold red")


def _tell_findings(out: Console, findings: tuple[Finding, ...]) -> None:
    for one in findings:
        if one.agrees is not True or "again" in one.check:
            mark = {True: "agrees", False: "DIFFERS", None: "not looked at"}[one.agrees]
            out.print(f"  {mark}: {one.check}{': ' if one.detail else ''}{one.detail}", soft_wrap=True, markup=False)


def _verdict(findings: tuple[Finding, ...]) -> str:
    wrong, unseen = (sum(one.agrees is value for one in findings) for value in (False, None))
    if wrong:
        return f"DIFFERS in {wrong} of {len(findings)} checks"
    return f"agrees in {len(findings) - unseen} checks{f', {unseen} could not be made here' if unseen else ''}"


def _is_url(source: str) -> bool:
    return source.startswith(("http://", "https://"))


def _evidence_url(url: str) -> str:
    return url if urlsplit(url).path.endswith("/evidence") else f"{url.rstrip('/')}/evidence"


def _decoded(data: bytes, source: str) -> Evidence:
    try:
        return msgspec.json.decode(data, type=Evidence)
    except msgspec.MsgspecError as error:
        raise Stop(Exit.UNTRUE, f"{source} is not a receipt's evidence: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Stop(Exit.NOT_FOUND, f"{path} cannot be read: {error.strerror}") from error


def _fetched(url: str) -> bytes:
    try:
        status, body = services.get(url, timeout_s=FETCH_S, max_bytes=OBJECT_MAX_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise Stop(Exit.NOT_FOUND, f"{url} does not answer: {error}") from error
    if status != http.HTTPStatus.OK:
        raise Stop(Exit.NOT_FOUND, f"{url} answers {status}")
    return body


def _object_at(place: str, sha256: str) -> bytes | None:
    for kind in ("objects", "checkpoints"):
        try:
            return _fetched(f"{place.rstrip('/')}/v1/{kind}/{sha256}")
        except Stop:
            continue
    return None


def _object_in(folder: Path, sha256: str) -> bytes | None:
    try:
        return (folder / bytes.fromhex(sha256).hex()).read_bytes()
    except (OSError, ValueError):
        return None
