"""What another caller could measure: the database is asked the same for what is another's as for what does not exist."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parts.ownership.attempts import ATTEMPTS
from tests.parts.ownership.seeded import Seeded, seeded
from tests.parts.ownership.things import twins_of
from tests.parts.ownership.trials import browsed, make, told


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seeded]:
    with seeded(tmp_path_factory.mktemp("home")) as place:
        yield place


def test_the_same_statements_are_made_for_what_is_anothers_and_for_nothing(place: Seeded) -> None:
    bob, twins = place.caller("bob"), twins_of(place.things)
    asked = 0
    for attempt in ATTEMPTS:
        made = []
        for values in (place.things, twins):
            place.statements.clear()
            make(attempt, bob, values)
            made.append([*place.statements])
        assert made[0] == made[1], attempt
        asked += any("FROM" in statement for statement in made[0])
    assert asked > len(ATTEMPTS) / 2


def test_no_attempt_tells_that_a_thing_exists(place: Seeded) -> None:
    bob = place.caller("bob")
    assert told(bob, place.things) == []
    assert browsed(bob, place.things) == []
