"""Turns: one thread at a time, another while it waits, and nobody's things thrown away meanwhile."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from l402_oracle.turns import Turn

LONG_S = 20


def test_while_one_waits_another_has_the_turn_and_the_first_has_it_again() -> None:
    """The order of what happens is fixed by the events alone."""
    turn, waits, came, told = Turn(), Event(), Event(), list[str]()

    def first() -> None:
        with turn:
            told.append("first gives it up")
            with turn.given_up():
                waits.set()
                assert came.wait(LONG_S)
            told.append("first has it again")

    def second() -> None:
        assert waits.wait(LONG_S)
        with turn:
            told.append("second has it")
            came.set()
            told.append("second goes on alone")

    with ThreadPoolExecutor(2) as threads:
        for done in (threads.submit(first), threads.submit(second)):
            done.result(LONG_S)
    assert told == ["first gives it up", "second has it", "second goes on alone", "first has it again"]


def test_alone_means_that_whoever_waited_is_through() -> None:
    """Also where that one gives it up twice."""
    turn, waits, told = Turn(), Event(), list[str]()
    answers = Event(), Event()

    def measuring() -> None:
        with turn:
            for number, answer in enumerate(answers):
                with turn.given_up():
                    waits.set()
                    assert answer.wait(LONG_S)
                told.append(f"answer {number}")

    def loading() -> None:
        assert waits.wait(LONG_S)
        with turn:
            answers[0].set()
            answers[1].set()
            turn.alone()
            told.append("alone")

    with ThreadPoolExecutor(2) as threads:
        for done in (threads.submit(measuring), threads.submit(loading)):
            done.result(LONG_S)
    assert told == ["answer 0", "answer 1", "alone"]


def test_the_turn_is_free_again_after_an_exception_while_it_was_given_up() -> None:
    """Or the worker would stand still for ever."""
    turn = Turn()
    with pytest.raises(KeyError), turn, turn.given_up():
        raise KeyError
    with ThreadPoolExecutor(1) as threads:

        def alone() -> bool:
            with turn:
                turn.alone()
                return True

        assert threads.submit(alone).result(LONG_S)
