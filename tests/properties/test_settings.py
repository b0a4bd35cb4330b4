"""Any file and any variables are settings, or a list of what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.config.load import SettingsError, load_settings
from app.config.validation import leaf_keys
from tests.properties.strategies import json_values, texts, tried

KEYS = [".".join(key) for key in leaf_keys()]
values = (
    json_values
    | st.sampled_from(["1", "-1", "0", "1e999", "yes", "127.0.0.1", "10.0.0.0/8", "*", "https://a.example", "redis://x", "~/a", "/etc"])
    | st.sampled_from([10**400, float("inf"), float("-inf"), float("nan")])
)


def load(text: bytes, folder: Path, environ: dict[str, str] | None = None) -> None:
    """Raises only what the loader is meant to raise."""
    file = folder / "config.yaml"
    file.write_bytes(text)
    found = tried(SettingsError, lambda: load_settings(str(file), environ={"HOME": str(folder), **(environ or {})}))
    if isinstance(found, SettingsError):
        assert found.problems
        assert all(problem.message for problem in found.problems)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


def nested(pairs: dict[str, Any]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for key, value in pairs.items():
        *parents, last = key.split(".")
        group = root
        for name in parents:
            group = group.setdefault(name, {})
        group[last] = value
    return root


@settings(max_examples=200, deadline=None)
@given(pairs=st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=4))
def test_any_value_of_any_key(folder: Path, pairs: dict[str, Any]) -> None:
    load(yaml.safe_dump(nested(pairs)).encode(), folder)


backend_keys = st.sampled_from(
    ["model", "command", "env", "custom", "models", "aliases", "claims", "allowed_extra", "driver", "enabled", "x"]
)


@settings(max_examples=100, deadline=None)
@given(
    backends=st.dictionaries(st.sampled_from(["claude", "codex", "mine", ""]) | texts, st.dictionaries(backend_keys, values, max_size=3))
)
def test_any_backends(folder: Path, backends: dict[str, Any]) -> None:
    load(yaml.safe_dump({"backends": backends}, allow_unicode=True).encode("utf-8", "replace"), folder)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60) | texts.map(lambda text: text.encode()) | st.text("{}[]&*!|>-:?,# \n'\"%@`a1~", max_size=30).map(str.encode))
@example(b"[" * 3_000)
@example(b"server: {port: " + b"9" * 5_000 + b"}")
@example(b"session: &a {default_tags: [*a]}")
@example(b"server: !!python/object:os.system {}")
@example(b"server: {port: 0x1F, request_timeout_secs: .inf}")
@example(b"session: {retention_days: 2001-01-01, default_tags: !!binary aGk=}")
@example(b"\xff\xfe")
def test_any_bytes(folder: Path, text: bytes) -> None:
    load(text, folder)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([f"CLINVK_{key.replace('.', '__').upper()}" for key in KEYS]), texts, min_size=1, max_size=3))
@example({"CLINVK_SERVER__PORT": "9" * 5_000})
@example({"CLINVK_SERVER__PORT": "9" * 400, "CLINVK_SERVER__READ_TIMEOUT_SECS": "9" * 400})
def test_any_variables(folder: Path, environ: dict[str, str]) -> None:
    load(b"", folder, environ)
