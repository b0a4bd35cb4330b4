"""Every route is in the table of attempts, or in the list of those that have nothing of a caller's."""

from __future__ import annotations

from pathlib import Path

from app.api.aliases import resolve_alias
from app.config.schema import Settings
from app.factory import create_app
from app.security.api_keys import KeyRing
from tests.parts.ownership.attempts import ATTEMPTS, KEYED, NOTHING_OWNED

THINGS = dict.fromkeys(
    [
        "session",
        "prefix",
        "upper",
        "busy_session",
        "run",
        "busy_run",
        "live_run",
        "response_run",
        "response",
        "turn_response",
        "busy_response",
        "item",
        "turn_item",
    ],
    "x",
)


def test_every_route_is_tried_or_has_nothing_of_a_caller(tmp_path: Path) -> None:
    app = create_app(Settings(home=str(tmp_path)), keys=KeyRing.of("ada=0123456789abcdef"))
    adapter = app.url_map.bind("localhost")
    routes = {f"{method} {rule.rule}" for rule in app.url_map.iter_rules() for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}

    def route(method: str, path: str) -> str:
        rule, _ = adapter.match(resolve_alias(path, {}), method, return_rule=True)
        return f"{method} {rule.rule}"

    paths = {(attempt.method, attempt.path.partition("?")[0].format_map(THINGS)) for attempt in ATTEMPTS if attempt.method != "HEAD"}
    tried = {route(method, path) for method, path in paths | {("POST", path) for path in KEYED}}
    assert not tried & NOTHING_OWNED.keys()
    assert routes == tried | NOTHING_OWNED.keys()
