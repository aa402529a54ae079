"""The container's own probe believes what the service says of itself, and calls silence not ready."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI
from l402core.control import control_app, serving


def app(*, well: bool) -> FastAPI:
    """A service whose one part answers, or does not."""

    async def parts() -> dict[str, bool]:
        return {"bus": well}

    return control_app("probed", parts)


async def probe(folder: Path) -> tuple[int, str]:
    """Exit code and words of a probe in a process of its own, as a container runs it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "l402core.probe",
        stdout=subprocess.PIPE, env={"L402_SETTLER_DATA_DIR": str(folder), "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), timeout=60)
    return process.returncode or 0, said.decode()


@pytest.mark.parametrize("well", [True, False])
async def test_it_repeats_what_the_service_says(tmp_path: Path, *, well: bool) -> None:
    """And names the part that is missing."""
    async with serving(app(well=well), "127.0.0.1", 0, address_file=tmp_path / "settler.url"):
        code, said = await probe(tmp_path)
    assert code == (0 if well else 1)
    assert '"bus"' in said


async def test_a_service_that_does_not_listen_is_not_ready(tmp_path: Path) -> None:
    """Neither before it has written its address, nor when nobody answers there."""
    code, said = await probe(tmp_path)
    assert (code, "no service listens" in said) == (1, True)
    async with serving(app(well=True), "127.0.0.1", 0) as url:
        pass
    (tmp_path / "settler.url").write_text(url)
    assert (await probe(tmp_path))[0] == 1
