"""A response's id carries the CLI's session, and nothing that was not put in."""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints.openai.responses.ids import MESSAGE, RANDOM_BYTES, RESPONSE, Session, new_id, new_node, run_of, session_of
from services.access.scope import EVERYONE, Scope

SECRET = bytes(range(32))
ADA = Scope("ada")
SESSION = "5f0c9c1e-0000-4000-8000-00000000000a"


def test_session_comes_back() -> None:
    node = new_node()
    assert session_of(SECRET, ADA, new_id(SECRET, RESPONSE, "claude", SESSION, node, owner="ada"), RESPONSE) == Session(
        "claude", SESSION, node.hex()
    )


def test_a_response_and_its_items_have_ids_of_their_own_and_are_one_node() -> None:
    node = new_node()
    made = [new_id(SECRET, MESSAGE, "claude", SESSION, node, owner="ada") for _ in range(100)]
    assert len({*made}) == 100
    assert {session_of(SECRET, ADA, id, MESSAGE) for id in made} == {
        session_of(SECRET, ADA, new_id(SECRET, RESPONSE, "claude", SESSION, node, owner="ada"), RESPONSE)
    }


def test_ids_are_unique() -> None:
    assert len({new_id(SECRET, RESPONSE, "claude", SESSION, owner="ada") for _ in range(1000)}) == 1000


@pytest.mark.parametrize("session", [None, "", "latest", "3", "--help-me-with-this", "a/b c d e f g h i j k"])
def test_what_is_no_session_s_id_is_not_carried(session: str | None) -> None:
    made = new_id(SECRET, RESPONSE, "claude", session, owner="ada")
    assert made.startswith(RESPONSE)
    assert session_of(SECRET, ADA, made, RESPONSE) is None


@given(st.integers(0, 200), st.sampled_from("abcXYZ019-_=. "))
def test_an_id_with_one_other_character_is_none(place: int, other: str) -> None:
    made = new_id(SECRET, RESPONSE, "claude", SESSION, owner="ada")
    place %= len(made)
    changed = made[:place] + other + made[place + 1 :]
    assert changed == made or session_of(SECRET, ADA, changed, RESPONSE) is None


@given(st.one_of(st.text(max_size=500), st.binary(max_size=300).map(lambda raw: RESPONSE + raw.hex())))
def test_whatever_else_comes_is_none(text: str) -> None:
    assert session_of(SECRET, ADA, text, RESPONSE) is None


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_cut_id_is_none(cut: int) -> None:
    assert session_of(SECRET, ADA, new_id(SECRET, RESPONSE, "claude", SESSION, owner="ada")[:-cut], RESPONSE) is None


def test_an_item_s_id_is_no_response_s() -> None:
    made = new_id(SECRET, MESSAGE, "claude", SESSION, owner="ada")
    assert session_of(SECRET, ADA, made, MESSAGE) is not None
    assert session_of(SECRET, ADA, made, RESPONSE) is None


def test_an_id_that_is_signed_with_another_secret_or_not_at_all_is_none() -> None:
    assert session_of(bytes(32), ADA, new_id(SECRET, RESPONSE, "claude", SESSION, owner="ada"), RESPONSE) is None
    noise, data = b"n" * 12, f"claude/{SESSION}".encode()
    checksum = sha256(b"\x02" + noise + data).digest()[:4]  # what anyone could compute, before ids were signed
    unsigned = RESPONSE + base64.urlsafe_b64encode(b"\x02" + noise + checksum + data).decode().rstrip("=")
    assert session_of(SECRET, ADA, unsigned, RESPONSE) is None


def test_an_id_of_another_owner_is_none_and_those_who_see_everything_see_it() -> None:
    node = new_node()
    made = new_id(SECRET, MESSAGE, "claude", SESSION, node, owner="ada")
    assert (session_of(SECRET, Scope("bob"), made, MESSAGE), run_of(SECRET, Scope("bob"), made, MESSAGE)) == (None, None)
    assert session_of(SECRET, EVERYONE, made, MESSAGE) == session_of(SECRET, ADA, made, MESSAGE) == Session("claude", SESSION, node.hex())


def test_an_id_does_not_tell_whose_it_is() -> None:
    made = new_id(SECRET, RESPONSE, "claude", SESSION, owner="ada")
    raw = base64.urlsafe_b64decode(made.removeprefix(RESPONSE) + "=" * (-len(made.removeprefix(RESPONSE)) % 4))
    assert SESSION.encode() in raw
    assert b"ada" not in raw


def test_an_id_from_before_ownership_is_for_those_who_see_everything() -> None:
    noise, data = bytes(range(RANDOM_BYTES)), f"claude/{SESSION}".encode()
    signature = hmac.digest(SECRET, b"response-id\x03" + noise + data, "sha256")[:16]
    made = RESPONSE + base64.urlsafe_b64encode(b"\x03" + noise + signature + data).decode().rstrip("=")
    assert session_of(SECRET, EVERYONE, made, RESPONSE) == Session("claude", SESSION, noise[:9].hex())
    assert session_of(SECRET, ADA, made, RESPONSE) is None
