"""One connection to nats-server: acknowledged publishes, requests, pulls. It knows nats-py and bytes, and no event.

Every message of the network comes by here several times, so that it is thin: what a framework adds to each message cost
more than what is done with it.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

log = structlog.get_logger()
EXPIRES_S: Final = 5.0
"""How long the server keeps a request for messages that finds none."""
SILENCE_S: Final = 1.0
"""So much later we believe that it has forgotten it."""
GONE_PAUSE_S: Final = 1.0
GRACE_S: Final = 10.0
"""For what is in hand when we stop."""
PING_EVERY_S: Final = 10.0
"""Between two questions whether the server is there."""
_STATUS: Final = "Status"
_OVER: Final = ("404", "408", "409", "503")
"""The request brings no more: none there, expired, consumer gone or other, nobody listens."""


def inbox(user: str) -> str:
    """Where answers to this user's requests arrive: a subject of its own, so that rights can tell it from another's."""
    return f"_INBOX_{user}"


class Delivery:
    """One message of a durable consumer, and what may be said of it to the server."""

    def __init__(self, message: Msg) -> None:
        self._message = message
        self.subject = message.subject
        self.body = message.data
        self.headers: Mapping[str, str] = message.headers or {}
        self.attempt = message.metadata.num_delivered
        self.stored_at_s = message.metadata.timestamp.timestamp()

    async def ack(self) -> None:
        """It is done."""
        await self._message.ack()

    async def nack(self, delay: float | None = None) -> None:
        """Again, after a while."""
        await self._message.nak(delay=delay)

    async def reject(self) -> None:
        """Never again: a dead letter."""
        await self._message.term()

    async def in_progress(self) -> None:
        """It takes longer."""
        await self._message.in_progress()


class _Acknowledged(msgspec.Struct):
    """What JetStream says to a publish."""

    seq: int = 0
    error: dict[str, object] | None = None


class NotStored(NatsError):
    """JetStream refused a message."""


class Link:
    """A connection by name. Reconnects for ever once it was there; raises nats-py's errors, OSError and TimeoutError.

    A wire on which nothing comes any more, and which nobody closed, is given up after three to four times `ping_every_s`.
    """

    def __init__(self, url: str, name: str, *, ping_every_s: float = PING_EVERY_S) -> None:
        self._url, self._name, self._ping_every_s = url, name, ping_every_s
        self._client = Client()
        self._numbers = itertools.count()
        self._asked: dict[str, asyncio.Future[Msg]] = {}
        self._inbox = ""
        self._pulls: list[Pull] = []
        self.cut: list[Callable[[], None]] = []
        """Told when the connection is lost, and again when it is there."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Raises when the server does not answer."""
        await self._client.connect(
            self._url, name=self._name, inbox_prefix=inbox(self._name), max_reconnect_attempts=-1,
            reconnect_time_wait=1, allow_reconnect=True, reconnected_cb=self._reconnected,
            disconnected_cb=self._disconnected, error_cb=_noted,
            ping_interval=self._ping_every_s, max_outstanding_pings=2,  # type: ignore[arg-type]  # it sleeps so long
        )  # fmt: skip
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(f"{self._inbox}.*", cb=self._answered)

    def connected(self) -> bool:
        """Whether the server is there now."""
        return self._client.is_connected

    async def close(self) -> None:
        """Take nothing more, finish what is in hand within `GRACE_S`, disconnect."""
        for pull in self._pulls:
            await pull.stop()
        mine = self._tasks - {asyncio.current_task()}
        if mine:
            _, late = await asyncio.wait(mine, timeout=GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        with suppress(NatsError, OSError, TimeoutError):
            await self._client.flush(timeout=1)
        await self._client.close()

    async def request(self, subject: str, body: bytes, headers: dict[str, str], timeout_s: float) -> Msg:
        """The first answer. Raises NoRespondersError at once, TimeoutError in time."""
        loop = asyncio.get_running_loop()
        number, answer = str(next(self._numbers)), loop.create_future()
        self._asked[number] = answer
        timer = loop.call_later(timeout_s, _too_late, answer)
        try:
            await self._client.publish(subject, body, reply=f"{self._inbox}.{number}", headers=headers or None)
            message: Msg = await answer
        finally:
            timer.cancel()
            del self._asked[number]
        if message.headers and message.headers.get(_STATUS) == "503":
            raise NoRespondersError
        return message

    async def store(
        self, stream: str, subject: str, message_id: str, body: bytes, headers: dict[str, str], timeout_s: float
    ) -> None:
        """Publish into a stream, once for each message id, and wait until the server has it."""
        told = {"Nats-Msg-Id": message_id, "Nats-Expected-Stream": stream, **headers}
        answer = await self.request(subject, body, told, timeout_s)
        acknowledged = msgspec.json.decode(answer.data, type=_Acknowledged)
        if acknowledged.error is not None:
            raise NotStored(str(acknowledged.error.get("description", "refused")))

    async def send(self, subject: str, body: bytes) -> None:
        """Publish and hope: for answers and hints."""
        await self._client.publish(subject, body)

    async def listen(self, subject: str, heard: Callable[[Msg], Awaitable[None]], *, queue: str = "") -> None:
        """Each message in order, the next once the last is done."""
        await self._client.subscribe(subject, queue=queue, cb=heard)

    async def serve(self, subject: str, answer: Callable[[Msg], Awaitable[bytes]], *, queue: str, at_once: int) -> None:
        """Answer each request to a subject, shared with the others of the queue."""
        places = asyncio.Semaphore(at_once)

        async def answered(message: Msg) -> None:
            try:
                reply = await answer(message)
                if message.reply:
                    await self._client.publish(message.reply, reply)
            except NatsError as error:
                log.warning("answer.unsent", subject=subject, error=type(error).__name__)
            finally:
                places.release()

        async def asked(message: Msg) -> None:
            await places.acquire()
            self.spawn(answered(message))

        await self.listen(subject, asked, queue=queue)

    async def pull(
        self, stream: str, durable: str, take: Callable[[Delivery], Awaitable[None]], *, at_once: int
    ) -> None:
        """Hand over what a durable consumer has, so many at once, until closed."""
        pull = Pull(self, self._client, f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}", take, at_once)
        self._pulls.append(pull)
        await pull.start()

    def spawn(self, work: Awaitable[None]) -> None:
        """In the background, until it is done or we close."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answered(self, message: Msg) -> None:
        answer = self._asked.get(message.subject.rpartition(".")[2])
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _disconnected(self) -> None:
        for tell in self.cut:
            tell()

    async def _reconnected(self) -> None:
        for tell in self.cut:
            tell()
        for pull in self._pulls:
            pull.forgotten()


class Pull:
    """One durable consumer's messages: no more are asked for than can be begun, because those that wait grow old."""

    def __init__(
        self, link: Link, client: Client, subject: str, take: Callable[[Delivery], Awaitable[None]], at_once: int
    ) -> None:
        self._link, self._client, self._subject, self._take, self._at_once = link, client, subject, take, at_once
        self.inbox = client.new_inbox()
        self._places = asyncio.Semaphore(at_once)  # the server may send what we no longer hoped for
        self._number = self._due = self._running = 0
        self._turned = asyncio.Event()
        self._gone = self._stopped = False
        self._heard: Subscription | None = None

    async def start(self) -> None:
        """Begin to ask."""
        self._heard = await self._client.subscribe(f"{self.inbox}.*", cb=self.arrived)
        self._link.spawn(self._ask_forever())

    async def stop(self) -> None:
        """Ask for nothing more; the server forgets a request that nobody listens to."""
        self._stopped = True
        self._turned.set()
        if self._heard is not None:
            with suppress(NatsError):
                await self._heard.unsubscribe()

    def forgotten(self) -> None:
        """The server has lost our request."""
        self._due = 0
        self._turned.set()

    async def _ask_forever(self) -> None:
        """A request whenever the last is over and half the places are free."""
        loop = asyncio.get_running_loop()
        while not self._stopped:
            self._turned.clear()
            if self._due == 0 and self._running <= self._at_once // 2:
                await self._ask()
            patience = loop.call_later(EXPIRES_S + SILENCE_S, self.forgotten)
            await self._turned.wait()
            patience.cancel()
            if self._gone:
                self._gone = False
                await asyncio.sleep(GONE_PAUSE_S)

    async def _ask(self) -> None:
        self._number += 1
        self._due = self._at_once - self._running
        request = b'{"batch":%d,"expires":%d}' % (self._due, int(EXPIRES_S * 1e9))
        try:
            await self._client.publish(self._subject, request, reply=f"{self.inbox}.{self._number}")
        except NatsError as error:
            log.warning("pull.unsent", subject=self._subject, error=type(error).__name__)

    async def arrived(self, message: Msg) -> None:
        """A message, or the server's word that the request brings no more."""
        status = message.headers.get(_STATUS) if message.headers else None
        if status is None:
            self._due = max(0, self._due - 1)
            self._running += 1
            self._link.spawn(self._handed_over(Delivery(message)))
        elif status in _OVER and message.subject == f"{self.inbox}.{self._number}":
            self._due, self._gone = 0, status in ("409", "503")
        if self._due == 0:
            self._turned.set()

    async def _handed_over(self, delivery: Delivery) -> None:
        try:
            async with self._places:
                await self._take(delivery)
        except NatsError as error:  # not acknowledged: it comes again
            log.warning("event.unanswered", subject=delivery.subject, error=type(error).__name__)
        finally:
            self._running -= 1
            if self._due == 0:
                self._turned.set()


async def _noted(error: Exception) -> None:
    log.warning("bus.error", error=type(error).__name__, detail=str(error))


def _too_late(answer: "asyncio.Future[Msg]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
