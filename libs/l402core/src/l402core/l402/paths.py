"""Paths of a `path` caveat: one exact path, or a prefix and all below it. It refuses a path in disguise."""

import re

MAX_PATH_CHARS = 512

_SEGMENT = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9._~!$&'()+,;=:@-]+"
_CLEAN = re.compile(rf"/|(?:/{_SEGMENT})+/?", re.ASCII)


def is_clean(path: str) -> bool:
    """Absolute, plain ASCII, no empty or dot segment, no percent-encoding, no query, no wildcard."""
    return len(path) <= MAX_PATH_CHARS and _CLEAN.fullmatch(path) is not None


def read_pattern(value: str) -> str:
    """Check a pattern: a clean path, or one that ends in `/*`. Raises ValueError."""
    bare = value.removesuffix("*") if value.endswith("/*") else value
    if not is_clean(bare):
        raise ValueError("a clean absolute path, or one that ends in /*")
    return value


def covers(pattern: str, path: str) -> bool:
    """Whether a clean `path` is the pattern's, or is or lies below what comes before `/*`."""
    if not pattern.endswith("/*"):
        return path == pattern
    return path == pattern[:-2] or (path.startswith(pattern[:-1]) and len(path) > len(pattern) - 1)


def narrows(earlier: str, later: str) -> bool:
    """Whether every path of `later` is one of `earlier`."""
    # A later prefix "/a/b/*" is itself a string strictly below "/a/"; an exact path covers only itself.
    return later == earlier or covers(earlier, later)
