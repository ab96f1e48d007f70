"""A look at a domain happens beside the plans, for a reason, and one at a time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from servicekit.log import logger
from stage3_service.adapters.looking_again import PAUSE_S, LookingAgain
from stage3_service.domains.acceptance import Acceptance
from stage3_service.domains.definition import Definition, DefinitionUnavailable
from tests.harness.eventually import eventually

USUAL, OTHER = Definition.of({"a": 1}), Definition.of({"a": 2})


@dataclass(slots=True)
class Shows:
    """A domain that shows what it is told to, when it is let to."""

    definition: Definition | None = USUAL
    looks: int = 0
    let: threading.Event = field(default_factory=threading.Event)

    def describe(self) -> Definition:
        """Show it."""
        self.looks += 1
        self.let.wait()
        if self.definition is None:
            raise DefinitionUnavailable("not there")
        return self.definition


@dataclass(slots=True)
class Bench:
    """A domain, what is accepted of it, and who looks at it."""

    shows: Shows = field(default_factory=Shows)
    acceptance: Acceptance = field(default_factory=lambda: Acceptance({"far": USUAL}))
    now_s: float = 0.0
    looking: LookingAgain = field(init=False)

    def __post_init__(self) -> None:
        self.looking = LookingAgain(self.acceptance, lambda: self.now_s, logger("looking"))

    def is_at_rest(self) -> bool:
        """Say whether nobody looks at the moment."""
        return all(thread.name != "look-far" for thread in threading.enumerate())


def test_refused_steps_cost_one_look_and_a_pause() -> None:
    """However many are refused; the last look decides what is withheld."""
    bench = Bench()
    bench.looking.begin({"far": bench.shows})
    bench.acceptance.is_accepted("far", OTHER.digest)
    for _ in range(50):
        bench.looking.on_withheld("far")
    assert bench.acceptance.withholds("far")
    bench.shows.let.set()
    assert eventually(bench.is_at_rest)
    assert not bench.acceptance.withholds("far")

    bench.now_s = PAUSE_S - 0.1
    bench.looking.on_withheld("far")
    assert eventually(bench.is_at_rest)
    assert bench.shows.looks == 1
    bench.now_s = PAUSE_S
    bench.looking.on_withheld("far")
    assert eventually(lambda: bench.shows.looks == 2)


def test_a_connection_made_during_a_look_is_looked_at_too() -> None:
    """The answer may have come from the one before. A pause does not hold it up."""
    bench = Bench()
    bench.looking.begin({"far": bench.shows})
    bench.looking.on_connected("far")
    assert eventually(lambda: bench.shows.looks == 1)
    bench.looking.on_connected("far")
    bench.looking.on_connected("far")
    bench.shows.definition = OTHER
    bench.shows.let.set()
    assert eventually(lambda: bench.shows.looks == 2 and bench.is_at_rest())
    assert bench.acceptance.withholds("far")


def test_a_server_that_keeps_ending_costs_one_look_and_a_pause() -> None:
    """Each look may start it, and its end be the next doubt: without the pause it had no end."""
    bench = Bench()
    bench.looking.begin({"far": bench.shows})
    bench.shows.let.set()
    for _ in range(50):
        bench.looking.on_doubt("far")
        assert eventually(bench.is_at_rest)
    assert bench.shows.looks == 1
    bench.now_s = PAUSE_S
    bench.looking.on_doubt("far")
    assert eventually(lambda: bench.shows.looks == 2)


def test_a_connection_made_before_the_domains_are_open_is_looked_at_then() -> None:
    """A domain connects while others are still being opened."""
    bench = Bench()
    bench.shows.let.set()
    bench.looking.on_connected("far")
    bench.looking.on_connected("gone")
    assert bench.shows.looks == 0
    bench.looking.begin({"far": bench.shows})
    assert eventually(lambda: bench.shows.looks == 1)


def test_a_domain_that_shows_nothing_stays_what_it_was() -> None:
    """Withheld if it was, and looked at again after the pause."""
    bench = Bench()
    bench.looking.begin({"far": bench.shows})
    bench.shows.let.set()
    bench.shows.definition = None
    bench.acceptance.is_accepted("far", OTHER.digest)
    bench.looking.on_withheld("far")
    assert eventually(lambda: bench.shows.looks == 1 and bench.is_at_rest())
    assert bench.acceptance.withholds("far")
    bench.shows.definition, bench.now_s = USUAL, PAUSE_S
    bench.looking.on_withheld("far")
    assert eventually(lambda: not bench.acceptance.withholds("far"))
