"""Whatever stands in a header, it is read or refused: never an error of our own, never more trust than it deserves."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.config.schema import ServerSettings
from app.observability.context import to_request_id
from app.observability.logs import JsonFormatter, TextFormatter
from app.security.cors import OriginRules
from app.security.hosts import HostRules, to_host_name
from app.security.proxies import TrustedProxies, to_address, to_limit_key
from services.errors import PermissionDenied
from tests.properties.strategies import unruly_texts

SERVER = ServerSettings()
OURS = ("localhost", "127.0.0.1", "[::1]", "app.localhost")
hosts = st.builds(lambda name, port: name + port, st.sampled_from([*OURS, "evil.example", "127.0.0.1.evil.example"]), st.sampled_from(
    ["", ":80", ":8080", ":99999", ":x", ".", "@evil.example", "/", "\n", "#"]
))  # fmt: skip
latin1 = unruly_texts.map(lambda text: text.encode("utf-8", "surrogatepass").decode("latin-1"))
"""As a WSGI server hands headers on."""
given_hosts = hosts | latin1


@given(given_hosts)
def test_request_id_is_the_callers_where_it_is_sane_and_else_a_new_one(text: str) -> None:
    found = to_request_id(text)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", found)
    assert found == text or found.startswith("req_")
    assert to_request_id(found) == found


@given(given_hosts)
def test_any_host_is_let_in_only_under_a_name_of_this_machine(text: str) -> None:
    try:
        HostRules(SERVER).check(text)
    except PermissionDenied:
        return
    name = to_host_name(text)
    assert not text or name == "::1" or (name and (name.endswith("localhost") or name.startswith("127.")) and "evil" not in name)


@given(given_hosts, given_hosts)
def test_any_origin_is_let_in_only_from_this_machine_or_the_server_itself(origin: str, host: str) -> None:
    rules = OriginRules(SERVER)
    for text in (origin, f"http://{origin}", f"https://{origin}"):
        try:
            rules.check({"HTTP_ORIGIN": text}, host)
        except PermissionDenied:
            continue
        is_ours = re.fullmatch(r"http://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", text, re.IGNORECASE)
        assert is_ours or text.partition("://")[2].lower() == host.lower()


@given(latin1, st.lists(latin1 | st.ip_addresses().map(str), max_size=4).map(", ".join))
def test_any_forwarded_for_gives_an_address_that_the_proxy_saw(peer: str, forwarded: str) -> None:
    environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": forwarded, "HTTP_X_FORWARDED_PROTO": peer}
    TrustedProxies(["10.0.0.0/8"]).apply(environ)
    client = environ["REMOTE_ADDR"]
    assert to_address(client) is not None
    if client != "10.0.0.1":
        assert client in [str(to_address(entry)) for entry in forwarded.split(",")]
    untrusted = {"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": forwarded}
    TrustedProxies(["10.0.0.0/8"]).apply(untrusted)
    assert untrusted["REMOTE_ADDR"] == "192.0.2.1"
    assert isinstance(to_limit_key(peer), str)


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
@given(path=unruly_texts, key=unruly_texts)
def test_nothing_in_a_request_ends_a_line_of_the_log(formatter: logging.Formatter, path: str, key: str) -> None:
    record = logging.LogRecord("clinvk.access", logging.INFO, "", 0, "request", None, None)
    record.fields = {"path": path, "key": key}
    line = formatter.format(record)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    if isinstance(formatter, JsonFormatter):
        assert json.loads(line)["path"] == path


@given(name=latin1, host=given_hosts)
def test_any_allowed_host_is_a_name_and_no_pattern_for_everything(name: str, host: str) -> None:
    if name.strip() in ("", "*") or name.lstrip("*") in ("", "."):
        return
    rules = HostRules(replace(SERVER, allowed_hosts=["gateway.example.com", ".inner.example"]))
    try:
        rules.check(host)
    except PermissionDenied:
        return
    assert "evil" not in (to_host_name(host) or "")
