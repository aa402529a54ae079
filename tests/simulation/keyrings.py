"""The coordinator's key files of a history: they survive a death, and are rotated in its middle. It knows no service."""

from collections.abc import Callable

import msgspec
from l402_oracle.keys import AttestorKeys
from l402core.l402.keys import RootKeys
from l402core.rings import SigningRing, UnsealingRing
from l402core.sealing import UnsealingKey
from l402core.secret import Secret
from l402core.signing import SigningKey
from l402core.succession import HandOver, Role, Succession, Successions

from tests.simulation.chance import key_of


class Keyrings:
    """Every ring, oldest key first, and the public file of hand-overs."""

    def __init__(self) -> None:
        self.settler, self.attestor = [SigningKey(key_of("settler"))], [SigningKey(key_of("attestor"))]
        self.sealing, self.reading = [UnsealingKey(key_of("settler sealing"))], [UnsealingKey(key_of("worker"))]
        self.answers = [UnsealingKey(key_of("answers"))]
        self.seeds, self.preimages = [Secret(key_of("seeds"))], {"k1": Secret(key_of("preimages"))}
        self.roots = RootKeys(keys={b"root": Secret(key_of("root"))}, active=b"root")
        self.said = Succession()

    def rotate(self) -> None:
        """Every key at once, as an operator's commands do it one after the other."""
        number = len(self.settler) + 1

        def key(name: str) -> bytes:
            return key_of(f"{name} {number}")

        for role, ring in (("settler", self.settler), ("attestor", self.attestor)):
            ring.append(SigningKey(key(role)))
            self._hand_over(role, ring[-2].public, ring[-1].public, voucher=ring[-2])  # type: ignore[arg-type]  # both are roles
        self.reading.append(UnsealingKey(key("worker")))
        self._hand_over("reading", self.reading[-2].public, self.reading[-1].public, voucher=self.attestor[-1])
        self.sealing.append(UnsealingKey(key("settler sealing")))
        self.answers.append(UnsealingKey(key("answers")))
        self.seeds.append(Secret(key("seeds")))
        self.preimages[f"k{number}"] = Secret(key("preimages"))
        self.roots = self.roots.rotate(lambda count: key("root")[-count:])

    def lose_seed(self) -> None:
        """The seed key is gone with its former ones, and another takes its place: no open round can be assessed."""
        self.seeds = [Secret(key_of("seeds after the loss"))]

    def _hand_over(self, role: Role, former: str, following: str, *, voucher: SigningKey) -> None:
        made = HandOver(role=role, former=former, following=following, at_ms=0)
        said = (*self.said.said, voucher.sign(HandOver.tag, made))
        self.said = msgspec.structs.replace(self.said, said=said)

    def successions(self) -> Successions:
        """The file of hand-overs as a service reads it: as it is now."""
        made = Successions(None)
        made.now = made.again = lambda: self.said
        return made

    def signing(self) -> SigningRing:
        """The settler's."""
        return SigningRing(lambda: self.settler)

    def unsealing(self) -> UnsealingRing:
        """The settler's."""
        return UnsealingRing(lambda: self.sealing)

    def read_with(self) -> UnsealingRing:
        """The workers'."""
        return UnsealingRing(lambda: self.reading)

    def answers_to(self) -> str:
        """What workers seal to the attestor's."""
        return self.answers[-1].public

    def oracle(self) -> Callable[[], AttestorKeys]:
        """The attestor's."""
        return lambda: AttestorKeys(
            self.attestor[-1], self.seeds[-1], self.preimages, self.answers[-1],
            former_signing=self.attestor[:-1], former_seeds=self.seeds[:-1], former_answers=self.answers[:-1],
        )  # fmt: skip
