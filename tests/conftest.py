"""What every test may ask for. It starts a real part only for a test that names it."""

from collections.abc import Callable, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings
from l402core import telemetry
from opentelemetry.sdk.trace import TracerProvider

from tests.support.databases import Current, OnPostgres
from tests.support.lnd import Lnd, lightning_is_built, running_lnd
from tests.support.postgres import HOW, Postgres, postgres_is_there, running_postgres
from tests.support.real import require_real

# A busy machine is no failure: hypothesis must not judge by the clock.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(scope="session")
def real_lnd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lnd]:
    """A real lnd on its own simnet, one per worker; group the tests that use it, so that one worker starts it."""
    require_real(lightning_is_built(), "lnd, btcd and zpay32 (run `make tools`)")
    with running_lnd(tmp_path_factory.mktemp("lightning")) as lnd:
        yield lnd


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many simulated histories the run told, and what short forms of longer checks covered and left out."""
    sums = {"simulated_histories": 0, "simulated_effects": 0}
    covered = list[str]()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", []):
                if name in sums and getattr(report, "when", "") == "call":
                    sums[name] += int(value)
                elif name == "covered" and getattr(report, "when", "") == "call":
                    covered.append(str(value))
    if sums["simulated_histories"]:
        told = f"{sums['simulated_histories']} histories, {sums['simulated_effects']} effects"
        covered.append(f"simulation: {told}; more by `make simulate` and `make simulate-exhaustive`")
    for told in sorted(covered):
        terminalreporter.write_line(f"in short: {told}")


@pytest.fixture
def set_up_telemetry() -> Iterator[Callable[[], TracerProvider]]:
    """A service's own set-up in this process, of which other tests' logs hear nothing afterwards.

    A logger that is cached speaks for ever as it was told first: who listens to alarms later, as the simulator does, would
    hear none of it.
    """
    before = structlog.get_config()

    def made() -> TracerProvider:
        provider = telemetry.setup("tester", trace_file=None)
        structlog.configure(**{**structlog.get_config(), "cache_logger_on_first_use": False})
        return provider

    yield made
    structlog.configure(**before)
    structlog.contextvars.unbind_contextvars("service")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL, one per worker."""
    require_real(postgres_is_there(), HOW)
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def each_database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The test runs twice, on SQLite and on a real PostgreSQL; it is told the dialect's name."""
    if request.param == "sqlite":
        yield request.param
        return
    databases = OnPostgres(request.getfixturevalue("postgres"))
    monkeypatch.setattr(Current, "databases", databases)
    yield request.param
    databases.close()
