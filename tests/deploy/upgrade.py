"""What an upgrade from one rendering of the chart to another would change, and what a cluster would refuse of it.

Pure: it compares objects, and knows no helm and no cluster.
"""

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
FIXED: dict[str, tuple[tuple[str, ...], ...]] = {
    "Deployment": (("spec", "selector"),),
    "StatefulSet": (
        ("spec", "selector"),
        ("spec", "serviceName"),
        ("spec", "volumeClaimTemplates"),
        ("spec", "podManagementPolicy"),
    ),
    "PersistentVolumeClaim": (
        ("spec", "accessModes"),
        ("spec", "storageClassName"),
        ("spec", "volumeName"),
    ),
}
"""What the API server refuses to change in an object that is there."""
KEEPS = {"StatefulSet", "PersistentVolumeClaim"}
"""Data hangs on their names."""


def named(objects: list[Object]) -> dict[tuple[str, str], Object]:
    """Objects by kind and name."""
    return {(found["kind"], found["metadata"]["name"]): found for found in objects}


def refused(before: list[Object], after: list[Object]) -> list[str]:
    """Why a cluster that runs `before` would not become `after`, or would lose data on the way; nothing for a good upgrade."""
    old, new = named(before), named(after)
    found = []
    for (kind, name), was in old.items():
        now = new.get((kind, name))
        if now is None:
            found += [f"{kind} {name} is gone, and its data with it"] * (kind in KEEPS)
            continue
        for path in FIXED.get(kind, ()):
            if _at(was, path) != _at(now, path):
                found.append(f"{kind} {name}: {'.'.join(path)} cannot be changed")
    return found


def differences(before: list[Object], after: list[Object]) -> Iterator[str]:
    """A line for each object that comes, goes or changes, and for each place in it."""
    old, new = named(before), named(after)
    for kind, name in sorted(old.keys() | new.keys()):
        was, now = old.get((kind, name)), new.get((kind, name))
        if was is None:
            yield f"+ {kind} {name}"
        elif now is None:
            yield f"- {kind} {name}"
        else:
            yield from (f"~ {kind} {name}: {place}" for place in _changed(was, now, ""))


def _changed(was: Any, now: Any, place: str) -> Iterator[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        for key in sorted(was.keys() | now.keys()):
            yield from _changed(was.get(key), now.get(key), f"{place}.{key}" if place else str(key))
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for number, (one, other) in enumerate(zip(was, now, strict=True)):
            yield from _changed(one, other, f"{place}[{number}]")
    elif was != now:
        yield f"{place}: {was!r} -> {now!r}"[:200]


def _at(found: Object, path: tuple[str, ...]) -> Any:
    value: Any = found
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
