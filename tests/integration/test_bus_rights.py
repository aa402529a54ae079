"""What each user of the bus may say and hear, on a real server: a stolen password is worth one service's words, no more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from l402core.bus import Bus
from l402core.errors import Unavailable
from l402core.events import EVENTS, QUESTIONS, EscrowFrozen, EscrowThawed
from l402core.jetstream import inbox
from l402core.rights import KEEPERS, MIGRATION, OPERATOR, ORDERS, SERVICES, USERS, Rights, rights_of
from l402core.streams import Declared
from l402train import bus_users, keys, migration, parts, services
from l402train.folder import Folder
from nats.errors import Error as NatsError

PASSWORDS = keys.Keyring.from_seed(0).passwords()
PATIENCE_S = 60.0


@contextlib.asynccontextmanager
async def server(folder: Path) -> AsyncIterator[str]:
    """A NATS server with our users and streams; its address without a password."""
    place = Folder(folder / "net")
    place.create()
    process = parts.start_nats(place, services.base_environment(), PASSWORDS)
    try:
        address = await process.until(lambda: parts.nats_url(place, process), deadline_s=PATIENCE_S)
        await migration.migrate(as_(address, MIGRATION), books_url=place.books_url, decisions_url=place.decisions_url)
        yield address
    finally:
        process.ask_to_end()
        await process.ended(within_s=10)


def as_(address: str, user: str) -> str:
    """The address with the user's own password."""
    return bus_users.url_of(address, user, PASSWORDS)


def matches(pattern: str, subject: str) -> bool:
    """NATS's wildcards, for the laws below."""
    wanted, words = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(words) >= len(wanted) and words[: len(wanted) - 1] == wanted[:-1]
    return wanted == words


def may_say(rights: Rights, subject: str) -> bool:
    return any(matches(pattern, subject) for pattern in rights.publish)


def test_every_event_can_be_said_by_its_writer_and_by_nobody_else() -> None:
    """Facts have one writer; here the server holds everybody to it."""
    known = migration.consumers()
    for event in EVENTS:
        said = [user for user in USERS if may_say(rights_of(user, known), f"{event.name}.x")]
        assert said == [event.writer], event.name


def test_orders_are_the_operators_and_every_question_has_somebody_who_may_ask_and_one_who_hears_it() -> None:
    """Freezing money is no right of the edge's."""
    known = migration.consumers()
    for question, _ in QUESTIONS:
        asking = {user for user in USERS if may_say(rights_of(user, known), question.name)}
        assert asking, question.name
        assert question not in ORDERS or asking == {OPERATOR}, question.name
        hearing = [
            user for user in SERVICES if any(matches(one, question.name) for one in rights_of(user, known).subscribe)
        ]
        assert hearing == [question.answered_by], question.name


def test_each_invoicer_may_overhear_freezes_and_thaws_and_no_other_fact() -> None:
    """Any of several may have the lock in hand; nothing else is its business but what its consumers are handed."""
    may = rights_of("invoicer", migration.consumers()).subscribe
    overheard = {event for event in EVENTS if any(matches(one, f"{event.name}.x") for one in may)}
    assert overheard == {EscrowFrozen, EscrowThawed}


def test_only_those_who_keep_a_database_may_declare_streams() -> None:
    """A worker that was taken over cannot delete what others wait for."""
    known = migration.consumers()
    for user in SERVICES:
        rights = rights_of(user, known)
        assert may_say(rights, "$JS.API.STREAM.CREATE.FACTS") == (user in KEEPERS), user
        assert not may_say(rights, "$JS.API.STREAM.DELETE.FACTS"), user
        assert not may_say(rights, "$JS.API.STREAM.PURGE.FACTS"), user


async def refused(url: str, user: str, subject: str) -> bool:
    """Whether the server says no to a publication."""
    told: asyncio.Queue[str] = asyncio.Queue()

    async def on_error(error: Exception) -> None:
        await told.put(str(error).lower())

    client = await nats.connect(url, inbox_prefix=inbox(user), error_cb=on_error, allow_reconnect=False)
    try:
        await client.publish(subject, b"{}")
        with contextlib.suppress(NatsError):
            await client.flush()
        try:
            return "permissions violation" in await asyncio.wait_for(told.get(), 1.0 if told.empty() else PATIENCE_S)
        except TimeoutError:
            return False
    finally:
        await client.close()


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("settler", "gradient.scored.v1.x"),
        ("gateway", "money.freeze.v1"),
        ("worker", "gradient.scored.v1.x"),
        ("invoicer", "escrow.lock.v1.x"),
        ("attestor", "escrow.settled.v1.x.0"),
        ("worker", "$JS.API.STREAM.DELETE.FACTS"),
        ("operator", "round.opened.v1.1"),
    ],
)
async def test_the_server_refuses_what_a_user_may_not_say(tmp_path: Path, user: str, subject: str) -> None:
    """With the coordinator's passwords nobody writes the oracle's facts, and the reverse."""
    async with server(tmp_path) as address:
        assert await refused(as_(address, user), user, subject)


async def test_nobody_comes_in_without_a_password_or_listens_to_anothers_answers(tmp_path: Path) -> None:
    """An answer travels to its asker's own subject."""
    async with server(tmp_path) as address:
        with pytest.raises(Unavailable, match="NATS does not answer"):
            await asyncio.wait_for(Bus(address, "stranger").start(), PATIENCE_S)
        told: asyncio.Queue[str] = asyncio.Queue()

        async def on_error(error: Exception) -> None:
            await told.put(str(error).lower())

        client = await nats.connect(as_(address, "worker"), inbox_prefix=inbox("worker"), error_cb=on_error)
        try:
            await client.subscribe("_INBOX_gateway.>")
            assert "permissions violation" in await asyncio.wait_for(told.get(), PATIENCE_S)
        finally:
            await client.close()


async def test_a_keeper_declares_a_lost_stream_again_with_no_more_than_its_rights(tmp_path: Path) -> None:
    """What `keep_streams` does after a broker lost its disk."""
    async with server(tmp_path) as address:
        admin = await nats.connect(as_(address, MIGRATION), inbox_prefix=inbox(MIGRATION))
        client = await nats.connect(as_(address, "settler"), inbox_prefix=inbox("settler"))
        try:
            declared = Declared(client.jetstream(timeout=5))
            assert await declared.restore() == []
            await admin.jetstream(timeout=5).delete_stream("WORK")
            gone = await declared.restore()
            assert gone[0] == "WORK"
            assert len(gone) > 1  # its consumers too
        finally:
            await client.close()
            await admin.close()
