"""Two ways to score a peer: as the worker does it, and plainly. Both answer with the same losses."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import torch
from _oracle_cases import Case, a_payload
from _oracle_codec import BINDING, LIMITS
from _oracle_tools import Stage
from l402_oracle.measure import clipped
from l402_oracle.resident import resident
from l402_oracle.turns import MEASURED_AT_ONCE, Turn
from sparseloco import wire
from sparseloco.device import DeviceUpdate, unpack_on
from sparseloco.model import ByteGPT, sequence_losses
from sparseloco.sparse import Update, expand
from sparseloco.spec import ModelSpec
from torch import Tensor


class Ours:
    """What the worker does: unpack the next payload aside, apply in place, forward passes, write back."""

    def __init__(self, stage: Stage, theta: Tensor, case: Case, spec: ModelSpec) -> None:
        self._stage, self._case, self._spec = stage, case, spec
        self._resident = resident(theta, case.shape, stage.device)
        self._ready: Update | DeviceUpdate | None = None
        self._turn = Turn()
        self._aside = torch.cuda.Stream() if stage.is_cuda else None  # type: ignore[no-untyped-call]  # torch's
        at_once = MEASURED_AT_ONCE["cuda" if stage.is_cuda else "cpu"]
        # made once, as a worker's are: starting a thread that has not used a device yet takes milliseconds
        self._unpacking, self._measuring, self._in_hand = map(ThreadPoolExecutor, (1, at_once, at_once + 1))

    def parameters_hash(self) -> str:
        """Of the bytes that are computed with."""
        return hashlib.sha256(self._resident.in_use.view(torch.uint8).numpy().tobytes()).hexdigest()

    def pure(self, windows: list[Tensor]) -> list[float]:
        """The forward passes of as many peers, and nothing else: all queued before the first is waited for."""
        answers = [self._resident.asked(windows) for _ in range(self._case.peers)]
        return [loss for answer in answers for loss in answer()]

    def score(self, payloads: list[bytes], windows: list[Tensor]) -> list[float]:
        """Every peer from its bytes to its losses; payloads are taken in turn."""

        def one(number: int) -> list[float]:
            update = self._unpacking.submit(self.unpacked, payloads[number % len(payloads)]).result()
            return self._measuring.submit(self._measured, update, windows).result()

        return [loss for losses in self._in_hand.map(one, range(self._case.peers)) for loss in losses]

    def score_ready(self, windows: list[Tensor]) -> list[float]:
        """As many peers, of an update that was unpacked long ago: applying and undoing alone."""
        ready = self._ready or self.unpacked(a_payload(self._spec, 0))
        self._ready = ready
        answers = []
        for _ in range(self._case.peers):
            with self._resident.applied(ready):
                answers.append(self._resident.asked(windows))
        return [loss for answer in answers for loss in answer()]

    def _measured(self, update: Update | DeviceUpdate, windows: list[Tensor]) -> list[float]:
        with self._turn:
            with self._resident.applied(update):
                answer = self._resident.asked(windows)
            with self._turn.given_up():
                return answer()

    def unpacked(self, payload: bytes) -> Update | DeviceUpdate:
        """Checked, and clipped to the round's medians."""
        medians = [1e-2] * len(self._spec.tensors)
        if not self._stage.is_cuda:
            return clipped(expand(wire.unpack(payload, self._spec, BINDING, LIMITS).sparse, self._spec), medians)
        with torch.cuda.stream(self._aside):
            return clipped(unpack_on(self._stage.device, payload, self._spec, BINDING, LIMITS), medians).handed_over()

    def apply_and_undo(self, payload: bytes) -> None:
        """Without a forward pass between."""
        self._ready = self._ready or self.unpacked(payload)
        with self._resident.applied(self._ready):
            return


class Naive:
    """A plain validator: a dense update, a saved copy of the whole model, three forward passes, nothing shared."""

    def __init__(self, stage: Stage, theta: Tensor, case: Case) -> None:
        kind = torch.bfloat16 if stage.is_cuda else torch.float32
        self._device, self._spec = stage.device, case.shape.spec()
        self._model = ByteGPT(theta.to(kind, copy=True), case.shape).requires_grad_(requires_grad=False)
        self._flat = self._model.flat.data

    def score(self, payload: bytes, windows: list[Tensor]) -> tuple[list[float], list[float], list[float]]:
        """Losses before and after on the hidden tokens, and after on as many of the peer's own."""
        before = self.forward(windows)
        saved = self._applied(payload)
        after, own = self.forward(windows), self.forward(windows)
        self._flat.copy_(saved)
        return before, after, own

    def dense_apply_and_restore(self, payload: bytes) -> None:
        """What surrounds its forward passes, unpacking included."""
        self._flat.copy_(self._applied(payload))

    def forward(self, windows: list[Tensor]) -> list[float]:
        """One pass over the tokens, batch after batch."""
        with torch.no_grad():
            return [loss for batch in windows for loss in sequence_losses(self._model, batch).tolist()]

    def _applied(self, payload: bytes) -> Tensor:
        update = expand(wire.unpack(payload, self._spec, BINDING, LIMITS).sparse, self._spec)
        dense = torch.zeros(self._spec.numel, device=self._device)
        dense[torch.from_numpy(update.indices).to(self._device)] = torch.from_numpy(update.values).to(self._device)
        saved = self._flat.clone()
        self._flat.sub_(dense)
        return saved
