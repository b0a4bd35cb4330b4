"""The list of models, page by page; probes and odd spellings of paths."""

from __future__ import annotations

import anthropic
import pytest

from tests.clients.anthropic.conftest import House


def test_list_is_paged_to_its_end(client: anthropic.Anthropic) -> None:
    whole = [model.id for model in client.models.list(limit=1000)]
    assert whole[:2] == ["demo", "demo/demo-1"]
    assert [model.id for model in client.models.list(limit=2)] == whole
    assert len(client.models.list(limit=2).data) == 2
    assert [model.id for model in client.models.list(after_id=whole[3], limit=3)] == whole[4:]
    assert client.models.list(before_id=whole[5], limit=2).data[0].id == whole[3]


def test_only_what_is_available_is_listed_unless_all_is_wanted(client: anthropic.Anthropic) -> None:
    listed = [model.to_dict() for model in client.models.list(limit=1000)]
    assert all(model["available"] for model in listed)
    every = {model.id: model.to_dict()["available"] for model in client.models.list(limit=1000, extra_query={"all": "true"})}
    assert every["demo"] is True
    assert every["codex"] is False


def test_every_model_of_the_list_can_be_looked_up(client: anthropic.Anthropic) -> None:
    for model in client.models.list(limit=1000):
        assert client.models.retrieve(model.id).id == model.id


def test_name_that_a_backend_claims_can_be_looked_up(client: anthropic.Anthropic) -> None:
    model = client.models.retrieve("claude-sonnet-4-5")
    assert (model.id, model.type, model.lifecycle) == ("claude-sonnet-4-5", "model", "active")
    assert model.display_name


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x"])
def test_page_size_has_its_limits(house: House, query: str) -> None:
    answer = house.server.client.get(f"/anthropic/v1/models?{query}")
    assert (answer.status, answer.json["error"]["type"]) == (400, "invalid_request_error")
    assert "limit" in answer.json["error"]["message"]


def test_unknown_query_parameters_are_ignored(house: House) -> None:
    assert house.server.client.get("/anthropic/v1/models?beta=true&client_version=1").status == 200


@pytest.mark.parametrize("base", ["/anthropic", "/anthropic/v1"])
def test_probes_and_trailing_slashes_are_no_surprise(house: House, base: str) -> None:
    client = house.server.client
    for path in (base, f"{base}/", f"{base}/v1/messages", f"{base}/v1/models", f"{base}/v1/models/", f"{base}/v1/models/demo"):
        assert client.ask("HEAD", path).status == 200, path
    for path in (f"{base}/v1/models/", f"{base}/v1/models/demo/", f"{base}/v1/models/demo/demo-1"):
        assert client.get(path).status == 200, path
    body = {"model": "demo", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]}
    assert client.post(f"{base}/v1/messages/", body).status == 200
    assert client.post(f"{base}//v1/messages", body).status == 200
    assert client.get(f"{base}/v1/messages").status == 405


@pytest.mark.parametrize("base", ["/anthropic", "/anthropic/v1"])
def test_claude_code_s_reports_are_accepted_and_dropped(house: House, base: str) -> None:
    answer = house.server.client.post(f"{base}/api/event_logging/batch", {"events": [{"a": 1}]})
    assert (answer.status, answer.json) == (200, {})


def test_document_describes_the_routes_once(house: House) -> None:
    paths = house.server.client.get("/openapi.json").json["paths"]
    assert {path for path in paths if path.startswith("/anthropic")} == {
        "/anthropic/v1/messages",
        "/anthropic/v1/messages/count_tokens",
        "/anthropic/v1/models",
        "/anthropic/v1/models/{model}",
    }
