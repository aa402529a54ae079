"""What every message is: its name, its writer, the key in its subject. It knows no message."""

from typing import ClassVar

import msgspec

FACTS = "FACTS"
WORK = "WORK"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What every message on a stream carries. The traceparent rides in the headers and in the outbox row."""

    name: ClassVar[str]
    stream: ClassVar[str] = FACTS
    writer: ClassVar[str]

    id: str
    """Unique per occurrence, for people; the identity for machines is the subject and revision."""
    occurred_at_ms: int
    revision: int = 0

    def key(self) -> str:
        """The last part of the subject."""
        raise NotImplementedError

    @property
    def subject(self) -> str:
        """Where it is published."""
        return f"{self.name}.{self.key()}"

    @property
    def message_id(self) -> str:
        """The bus's deduplication id."""
        return f"{self.subject}:{self.revision}"


class RoundEvent(Event, frozen=True, kw_only=True):
    """About a whole round."""

    round: int

    def key(self) -> str:
        return str(self.round)


class SubmissionEvent(Event, frozen=True, kw_only=True):
    """About one submission, named by its commitment."""

    round: int
    commitment: str

    def key(self) -> str:
        return self.commitment


class SponsorshipEvent(Event, frozen=True, kw_only=True):
    """About a whole sponsorship."""

    sponsorship: str

    def key(self) -> str:
        return self.sponsorship


class TrancheEvent(SponsorshipEvent, frozen=True, kw_only=True):
    """About one tranche of a sponsorship."""

    tranche: int

    def key(self) -> str:
        return f"{self.sponsorship}.{self.tranche}"


class RungEvent(SubmissionEvent, frozen=True, kw_only=True):
    """About one rung of one submission's ladder."""

    index: int

    def key(self) -> str:
        return f"{self.commitment}.{self.index}"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is answered at once, or refused with an error of the tree."""

    name: ClassVar[str]
    answered_by: ClassVar[str]
