"""Makes the attempts, and judges the answers."""

from __future__ import annotations

from collections.abc import Iterable

from tests.parts.client import Answer, Client
from tests.parts.ownership.attempts import ATTEMPTS, BROWSED, Attempt
from tests.parts.ownership.things import WORD, Things, comparable, filled, twins_of


def make(attempt: Attempt, client: Client, things: Things) -> Answer:
    return client.ask(attempt.method, filled(attempt.path, things), filled(attempt.body, things), filled(dict(attempt.headers), things))


def told(client: Client, things: Things, attempts: Iterable[Attempt] = ATTEMPTS) -> list[str]:
    """The attempts whose answers tell ``client``, who has nothing, that a thing exists."""
    twins = twins_of(things)
    telling = []
    for attempt in attempts:
        found, missing = make(attempt, client, things), make(attempt, client, twins)
        answers = comparable(found, things), comparable(missing, twins)
        if answers[0] != answers[1] or WORD in found.body.decode():
            telling.append(f"{attempt}\n  {answers[0]}\n  {answers[1]}")
    return telling


def browsed(client: Client, things: Things) -> list[str]:
    """The lists that have an entry for ``client``, who has nothing."""
    found = {path: client.get(filled(path, things)) for path in BROWSED}
    return [path for path, answer in found.items() if answer.status != 200 or answer.json.get("sessions") or answer.json.get("runs")]


def blind(owner: Client, things: Things, attempts: Iterable[Attempt] = ATTEMPTS) -> list[str]:
    """The attempts that prove nothing: their answer to the owner is that of an unknown thing. The destructive ones are left out."""
    twins = twins_of(things)
    return [
        str(attempt)
        for attempt in attempts
        if not attempt.destroys
        and attempt.is_refused != (comparable(make(attempt, owner, things), things) == comparable(make(attempt, owner, twins), twins))
    ]
