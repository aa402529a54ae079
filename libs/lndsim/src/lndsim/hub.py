"""Who listens to what: changes of the network, as messages, in bounded queues. It never blocks the network."""

import asyncio
from collections import deque
from typing import Any, Final, Self

from l402core.lnd.stubs import chainrpc

from lndsim.invoice import Invoice, InvoiceState
from lndsim.messages import invoice_message, payment_message
from lndsim.network import Network
from lndsim.node import Node
from lndsim.payment import Payment
from lndsim.refusal import Code, Refusal

Topic = tuple[str | bytes, ...]
BLOCKS: Final[Topic] = ("blocks",)
MAX_BACKLOG: Final = 100_000
"""Messages a listener may lag behind before its stream is cut."""


def invoice_topic(pubkey: str, payment_hash: bytes) -> Topic:
    """Every state of one invoice."""
    return ("invoice", pubkey, payment_hash)


def invoices_topic(pubkey: str) -> Topic:
    """New and settled invoices; never accepted or canceled ones."""
    return ("invoices", pubkey)


def payment_topic(pubkey: str, payment_hash: bytes) -> Topic:
    """Every state of one payment."""
    return ("payment", pubkey, payment_hash)


def payments_topic(pubkey: str) -> Topic:
    """Every state of every payment."""
    return ("payments", pubkey)


class Feed:
    """What one listener has still to read. One is made per stream, for one reader: a queue of asyncio's costs more."""

    __slots__ = ("_cut", "_news", "_unread")

    def __init__(self) -> None:
        self._unread: deque[Any] = deque()
        self._news: asyncio.Future[None] | None = None
        self._cut = False

    def push(self, message: Any) -> None:
        """Add a message, or cut a listener that lags too far behind."""
        if len(self._unread) >= MAX_BACKLOG:
            self._cut = True
        if self._cut:
            return
        self._unread.append(message)
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        while not self._unread:
            if self._cut:
                raise Refusal("the listener is too slow", Code.RESOURCE_EXHAUSTED)
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return self._unread.popleft()


class Hub:
    """A `Watcher` of the network that tells listeners by topic; what nobody listens to costs a look-up."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._feeds: dict[Topic, list[Feed]] = {}
        network.watch(self)

    def listen(self, topic: Topic) -> "_Listening":
        """A feed of everything on `topic` from now on, while its `with` lasts."""
        return _Listening(self._feeds, topic)

    def invoice_changed(self, node: Node, invoice: Invoice) -> None:
        topics = [invoice_topic(node.pubkey, invoice.payment_hash)]
        if invoice.state in {InvoiceState.OPEN, InvoiceState.SETTLED}:
            topics.append(invoices_topic(node.pubkey))
        feeds = self._listeners(topics)
        if feeds:
            self._tell(feeds, invoice_message(invoice))

    def payment_changed(self, node: Node, payment: Payment) -> None:
        topics = [payment_topic(node.pubkey, payment.terms.payment_hash), payments_topic(node.pubkey)]
        feeds = self._listeners(topics)
        if feeds:
            self._tell(feeds, payment_message(payment))

    def block_mined(self, height: int) -> None:
        feeds = self._listeners([BLOCKS])
        if feeds:
            self._tell(feeds, block_message(self._network, height))

    def _listeners(self, topics: list[Topic]) -> list[Feed]:
        return [feed for topic in topics for feed in self._feeds.get(topic, ())]

    @staticmethod
    def _tell(feeds: list[Feed], message: Any) -> None:
        for feed in feeds:
            feed.push(message)


class _Listening:
    def __init__(self, feeds: dict[Topic, list[Feed]], topic: Topic) -> None:
        self._feeds = feeds
        self._topic = topic
        self._feed = Feed()

    def __enter__(self) -> Feed:
        self._feeds.setdefault(self._topic, []).append(self._feed)
        return self._feed

    def __exit__(self, *_: object) -> None:
        feeds = self._feeds[self._topic]
        feeds.remove(self._feed)
        if not feeds:
            del self._feeds[self._topic]


def block_message(network: Network, height: int) -> Any:
    """`chainrpc.BlockEpoch`."""
    return chainrpc.BlockEpoch(hash=network.block_hash(height), height=height)
