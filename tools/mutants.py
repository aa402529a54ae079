"""Mutation testing of what money rests on: the escrow's tables, the ledger's lines, the way from a score to an amount.

Each mutant is one small change of one module; the module's own tests have to notice it. A survivor must stand in
`tools/mutants.txt` with the reason why nothing can notice it, and what stands there must still survive. It forks one
child per mutant from a process that has imported everything already, so that all of them take minutes.

General tools copy one source tree and run one test command in it; here seven distributions are installed in place, and
each module has tests of its own.
"""

import argparse
import ast
import copy
import importlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

TARGETS: dict[str, tuple[str, ...]] = {
    "l402core.escrow.tables": ("tests.unit.core.test_escrow_tables",),
    "l402core.schedule": ("tests.unit.core.test_schedule",),
    "l402_settler.ledger": ("tests.unit.settler.test_ledger",),
    "l402_settler.exposure": ("tests.unit.settler.test_exposure",),
    "l402_oracle.scoring": ("tests.unit.oracle.test_scoring_limits", "tests.unit.oracle.test_scoring"),
    "l402_oracle.attestor.reveal": ("tests.unit.oracle.test_reveal_rule",),
}
EXCUSES = Path(__file__).with_name("mutants.txt")
LEAST_PERCENT = 90
AT_ONCE = 2
CHILD_S = 60
_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.RShift: ast.LShift, ast.LShift: ast.RShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_STATES = {
    "E": ("OPENED", "FAILED"),
    "R": ("SETTLED", "RETURNED"),
    "T": ("SCORED", "DEADLINE"),
    "S": ("FAILED", "SUCCEEDED"),
    "A": ("ASK_OFFER", "ASK_LOCK"),
    "Q": ("LOOK_UP", "GIVE_UP"),
}
"""Names of the tables' enums, each with two members: one is put in the place of another."""


def mutants(source: str) -> Iterator[tuple[str, ast.Module]]:
    """(description, mutated tree) of every change."""
    tree = ast.parse(source)
    for number, node in enumerate(ast.walk(tree)):
        for what, change in _changes(node):
            mutated = copy.deepcopy(tree)
            target = next(one for index, one in enumerate(ast.walk(mutated)) if index == number)
            change(target)
            line = source.splitlines()[getattr(node, "lineno", 1) - 1].strip()
            yield f"{what}: {line}", ast.fix_missing_locations(mutated)


def _changes(node: ast.AST) -> Iterator[tuple[str, "Change"]]:
    if isinstance(node, ast.Compare):
        for index, operator in enumerate(node.ops):
            if type(operator) in _COMPARE:
                new = _COMPARE[type(operator)]
                yield f"{type(operator).__name__}→{new.__name__}", Change("ops", new(), index)
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        new_op = _ARITHMETIC[type(node.op)]
        yield f"{type(node.op).__name__}→{new_op.__name__}", Change("op", new_op())
    elif isinstance(node, ast.BoolOp):
        other: ast.boolop = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield f"{type(node.op).__name__}→{type(other).__name__}", Change("op", other)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not dropped", Change("op", ast.UAdd())
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield f"{node.value}→{node.value + 1}", Change("value", node.value + 1)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CALLS:
        yield f"{node.func.id}→{_CALLS[node.func.id]}", Change("func", ast.Name(_CALLS[node.func.id], ast.Load()))
    elif isinstance(node, ast.keyword) and node.arg in ("debit", "credit"):
        yield f"{node.arg}→other", Change("arg", "kind" if node.arg == "debit" else "id")
    elif isinstance(node, ast.Dict) and len(node.keys) > 3:
        for index in range(len(node.keys)):
            yield f"entry {index} dropped", Change("drop", None, index)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in _STATES:
        first, second = _STATES[node.value.id]
        yield f"{node.attr}→other", Change("attr", second if node.attr == first else first)
    elif isinstance(node, ast.IfExp):
        yield "branches swapped", Change("swap", None)
    elif isinstance(node, ast.If):
        yield "condition true", Change("test", ast.Constant(True))


class Change:
    """One change of one node."""

    def __init__(self, field: str, value: object, index: int | None = None) -> None:
        self._field, self._value, self._index = field, value, index

    def __call__(self, node: ast.AST) -> None:
        """Make it."""
        if self._field == "drop":
            assert isinstance(node, ast.Dict)
            assert self._index is not None
            del node.keys[self._index], node.values[self._index]
        elif self._field == "swap":
            assert isinstance(node, ast.IfExp)
            node.body, node.orelse = node.orelse, node.body
        elif self._index is not None:
            getattr(node, self._field)[self._index] = self._value
        else:
            setattr(node, self._field, self._value)


def survivors(name: str, changed: list[tuple[str, ast.Module]], tests: tuple[str, ...]) -> list[str]:
    """Which of these changes the module's tests do not notice, each in a child of its own."""
    waiting, living = list(changed), list[str]()
    running: dict[int, tuple[str, float]] = {}
    """Child to what it tries, and until when."""
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            what, tree = waiting.pop(0)
            child = os.fork()
            if child == 0:
                os._exit(_in_child(name, tree, tests))
            running[child] = (what, time.monotonic() + CHILD_S)
        for child, (what, until) in list(running.items()):
            done, status = os.waitpid(child, os.WNOHANG)
            if not done and time.monotonic() > until:
                os.kill(child, signal.SIGKILL)  # what runs for ever is noticed, too
                done, status = os.waitpid(child, 0)
            if done:
                del running[child]
                if os.waitstatus_to_exitcode(status) == 0:
                    living.append(what)
        time.sleep(0.01)
    return living


def _in_child(name: str, tree: ast.Module, tests: tuple[str, ...]) -> int:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        module = sys.modules[name]
        exec(compile(tree, str(module.__file__), "exec"), module.__dict__)  # noqa: S102 - that is a mutant's whole point
        parent = sys.modules[name.rpartition(".")[0]]
        for exported in getattr(parent, "__all__", ()):
            if hasattr(module, exported):
                setattr(parent, exported, getattr(module, exported))
        for test in tests:
            _run(importlib.reload(sys.modules[test]))
    except BaseException:  # noqa: BLE001 - whatever a mutant breaks, it is noticed
        return 1
    return 0


def _run(module: ModuleType) -> None:
    """Call every test of a module with every set of its parameters. These tests use nothing else of pytest's."""
    for name, test in vars(module).items():
        if not name.startswith("test_"):
            continue
        marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
        for case in itertools.product(*(_cases(mark) for mark in marks)):
            test(**{key: value for part in case for key, value in part.items()})


def _cases(mark: Any) -> list[dict[str, Any]]:
    names, values = mark.args[:2]
    if isinstance(names, str):
        names = [one.strip() for one in names.split(",")]
    return [dict(zip(names, value if len(names) > 1 else (value,), strict=True)) for value in values]


def main() -> int:
    """0 where enough are killed and every survivor has its reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="modules whose name contains this")
    parser.add_argument("--one-in", type=int, default=1, help="a sample: each so manieth change of each module")
    parser.add_argument("--first", type=int, default=0, help="where the sample begins")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    for test in (test for tests in TARGETS.values() for test in tests):
        importlib.import_module(test)  # once, before the forks
    excused = dict(
        line.split(" | ", 1) for line in EXCUSES.read_text().splitlines() if " | " in line and line[0] != "#"
    )
    found: set[str] = set()
    total = alive = 0
    started = time.monotonic()
    for name, tests in TARGETS.items():
        if options.only not in name:
            continue
        module = importlib.import_module(name)
        source = Path(str(module.__file__)).read_text()
        if not survivors(name, [("nothing", ast.parse(source))], tests):
            print(f"{name}: its tests fail without any change")
            return 1
        mine = list(mutants(source))[options.first % options.one_in :: options.one_in]
        living = survivors(name, mine, tests)
        total, alive = total + len(mine), alive + len(living)
        print(f"{name}: {len(mine) - len(living)} of {len(mine)} killed", flush=True)
        for what in living:
            key = f"{name}: {what}"
            found.add(key)
            print(f"  {'excused' if key in excused else 'SURVIVES'}  {what}")
    stale = {key for key in excused if options.only in key.split(": ")[0]} - found if options.one_in == 1 else set()
    for key in sorted(stale):
        print(f"  KILLED NOW, take it off the list: {key}")
    percent = 100 * (total - alive) / max(total, 1)
    print(
        f"{percent:.1f} % of {total} killed in {time.monotonic() - started:.0f} s; at least {LEAST_PERCENT} % are asked"
    )
    if options.one_in > 1:
        print(f"in short: mutants: {total} changes, one in {options.one_in}; all of them by `make mutants`")
    return 0 if percent >= LEAST_PERCENT and found <= set(excused) and not stale else 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.exit(main())
