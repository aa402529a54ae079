"""Each process that has a node refuses to start with a macaroon that can do more than it needs."""

import asyncio
import sys
from pathlib import Path

import pytest
from l402train.credentials import ALLOWED
from l402train.services import MODULES, base_environment
from lndsim.macaroon import ADMIN, Bakery, Permission

PATIENCE_S = 60
SERVICES = set(ALLOWED) & set(MODULES)
"""Those that run; a sponsor's macaroon is a person's own."""


async def last_words(service: str, folder: Path, permissions: list[Permission], **knobs: str) -> tuple[int, str]:
    """Exit code and stderr of the service's process with such a macaroon, which reaches no node and no bus."""
    path = folder / "given.macaroon"
    await asyncio.to_thread(path.write_bytes, Bakery(bytes(32)).mint(permissions, nonce=bytes(16)))
    told = {"lnd_macaroon": str(path), "key_file": str(folder / "missing.json"), "data_dir": str(folder), **knobs}
    environment = {f"L402_{service.upper()}_{name.upper()}": value for name, value in told.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *MODULES[service], env=base_environment() | environment,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, said.decode()


@pytest.mark.parametrize("service", sorted(SERVICES))
async def test_a_service_does_not_start_with_the_admins_macaroon(service: str, tmp_path: Path) -> None:
    """It exits at once, and says what is too much and how to have less."""
    code, said = await last_words(service, tmp_path, list(ADMIN))
    assert code == 1
    assert "lnd_macaroon_excess" in said
    assert "onchain:write" in said
    assert f"l402-train bake {service}" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("service", sorted(SERVICES - {"invoicer"}))
async def test_nor_with_one_call_of_another_service(service: str, tmp_path: Path) -> None:
    """One URI more than its list: a way to mint fees is the invoicer's alone."""
    minting = "/lnrpc.Lightning/AddInvoice"
    code, said = await last_words(service, tmp_path, [*(("uri", uri) for uri in ALLOWED[service]), ("uri", minting)])
    assert code == 1
    assert f"more than this service needs: {minting}. " in said


async def test_what_is_tolerated_by_name_is_no_reason_to_stop(tmp_path: Path) -> None:
    """The settler goes on to its key file, which is missing here."""
    given: list[Permission] = [("info", "read"), ("offchain", "read")]
    code, said = await last_words("settler", tmp_path, given, lnd_macaroon_excess='["info:read", "offchain:read"]')
    assert code == 1
    assert "missing.json" in said
    assert "lnd_macaroon_excess" not in said
