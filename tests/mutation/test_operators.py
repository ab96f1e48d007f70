"""The mutation run itself: it makes the mistakes that it says it makes."""

from __future__ import annotations

from tests.mutation.operators import GUARD_ORDER, mutants

GATE = '''
def ask(a, b):
    """Two questions."""
    if a > 1:
        return "first"
    if not b:
        return "second"
    return None
'''


def outcomes(source: str) -> tuple[object, ...]:
    """Return what a gate answers in the four situations that its questions tell apart."""
    names: dict[str, object] = {}
    exec(source, names)  # noqa: S102 - the source is ours
    ask = names["ask"]
    assert callable(ask)
    return tuple(ask(a, b) for a in (0, 1, 2, 3) for b in (False, True))


def test_each_mutant_of_a_small_gate_answers_differently_somewhere() -> None:
    """None is the gate itself, and none is made twice."""
    made = list(mutants(GATE))
    assert len({mutant.source for mutant in made}) == len(made)
    assert all(outcomes(mutant.source) != outcomes(GATE) for mutant in made)


def test_the_order_of_two_questions_is_one_of_the_mistakes() -> None:
    """Each question left out, and both in the other order."""
    order = [str(mutant) for mutant in mutants(GATE) if mutant.operator == GUARD_ORDER]
    assert len(order) == 3
    assert sum("after the next question" in text for text in order) == 1


def test_a_test_that_never_lets_both_questions_fail_misses_their_order() -> None:
    """The control: with one failing question at a time the swapped gate looks like the gate."""
    swapped = next(m.source for m in mutants(GATE) if "after the next" in m.after)
    alone = [1, 3, 5, 7]
    assert [outcomes(swapped)[i] for i in alone] == [outcomes(GATE)[i] for i in alone]
    assert outcomes(swapped)[4] != outcomes(GATE)[4]
