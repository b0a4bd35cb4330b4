"""Clients whose dependencies do not fit beside the others': each is installed into an environment of its own.

That takes a minute or two and needs the package index: `REQUIRE_CLIENTS=1 ./dev test -m long tests/clients`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.clients.connections import filled
from app.clients.programs import PROGRAMS
from tests.clients.openai.conftest import House
from tests.parts.clis import do
from tests.parts.environments import environment_with, run

pytestmark = pytest.mark.long

SAYS = do(["say", '{"name": "Ada", "age": 36}'])

INSTRUCTOR = """
import sys, instructor
from openai import OpenAI
from pydantic import BaseModel
class Person(BaseModel):
    name: str
    age: int
client = {settings}
person = client.chat.completions.create(model="{model}", response_model=Person, max_retries=0, messages=[{"role": "user", "content": sys.argv[1]}])
print(person.name, person.age)
"""

LLAMA_INDEX = """
import sys
from llama_index.llms.openai_like import OpenAILike
model = {settings}
print(model.complete(sys.argv[1]).text)
print("".join(piece.delta for piece in model.stream_complete(sys.argv[1])))
"""


def settings_of(name: str, house: House) -> str:
    (client,) = (client for client in PROGRAMS if client.name == name)
    return filled(client.settings, url=house.server.url, key="any", model="claude")


@pytest.mark.parametrize(
    ("package", "name", "program", "expected"),
    [
        ("instructor>=1.17,<2", "instructor", INSTRUCTOR, "Ada 36\n"),
        ("llama-index-llms-openai-like<1", "LlamaIndex", LLAMA_INDEX, '{"name": "Ada", "age": 36}\n' * 2),
    ],
)
def test_python_client(house: House, tmp_path: Path, package: str, name: str, program: str, expected: str) -> None:
    programs = environment_with(package, tmp_path)
    text = filled(program, settings=settings_of(name, house), model="claude")
    assert run(programs / "python", "-c", text, SAYS, cwd=tmp_path) == expected


def test_llm(house: House, tmp_path: Path) -> None:
    programs = environment_with("llm>=0.30,<1", tmp_path)
    user = tmp_path / "llm"
    user.mkdir()
    (user / "extra-openai-models.yaml").write_text(settings_of("llm (simonw)", house))
    (user / "keys.json").write_text(json.dumps({"clinvk": "any"}))
    assert run(programs / "llm", "-m", "clinvk", SAYS, cwd=tmp_path, LLM_USER_PATH=str(user)) == '{"name": "Ada", "age": 36}\n'
