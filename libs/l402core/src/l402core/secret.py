"""A secret in bytes: it can be compared and revealed, and refuses to be printed, pickled, serialized or hashed."""

import hmac
from typing import Any, NoReturn, Self, final


@final
class Secret:
    """Bytes that leave only through `reveal()`.

    `repr`, `str` and formatting show a placeholder; pickling raises TypeError; JSON, msgspec and `bytes()` find nothing
    to encode. Equality takes constant time, and only another Secret can be equal.
    """

    __slots__ = ("__value",)

    def __init__(self, value: bytes) -> None:
        if not isinstance(value, bytes):
            raise TypeError("a secret is made of bytes")
        self.__value = value

    def reveal(self) -> bytes:
        """The bytes themselves, to be used at once and never stored or logged."""
        return self.__value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self.__value, other.__value)

    __hash__ = None  # type: ignore[assignment]  # a hash of a secret, as a key or in a set, would be one more trace of it

    def __repr__(self) -> str:
        return "Secret(…)"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not serialized")
