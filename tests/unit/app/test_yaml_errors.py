"""What is said of a file that is not YAML, by the configuration and by the commands that read one."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.client.connect import Usage
from app.cli.client.several import read_file

MISTAKES = {
    "steps:\n\t- prompt: x": "2:1: is not valid YAML: a tab is not allowed here; indent with spaces",
    "steps:\n  - prompt: a: b": "2:14: is not valid YAML: a colon is not allowed here; put a text that contains ': ' in quotes, or correct",
    'steps:\n  - prompt: "abc': "2:17: is not valid YAML: a quote is not closed",
    "steps:\n  - prompt: a\n - prompt: b": "3:2: is not valid YAML: this does not continue the lines above; correct the indentation",
    "steps: [a, b": "1:13: is not valid YAML: a comma or the closing ] is missing",
    "steps:\n  - prompt: {{previous}}": "2:14: is not valid YAML: a text that begins with { needs quotes",
    "steps:\n  - prompt: @x": "2:13: is not valid YAML: a text that begins with @ needs quotes",
    "steps:\n  - prompt: *x": "2:13: is not valid YAML: a text that begins with * needs quotes",
    "steps: a\nfoo\nb: c": "3:1: is not valid YAML: a line before this one has no colon after its key",
    'steps: "\\q"': "1:10: is not valid YAML: a backslash is not allowed here; use single quotes, or write it twice",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_syntax_error_has_its_place_and_one_plain_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "chain.yaml"
    file.write_text(text)
    with pytest.raises(Usage) as raised:
        read_file(str(file), "steps")
    assert str(raised.value).startswith(f"{file}:{MISTAKES[text]}")
    assert "\n" not in str(raised.value)


def test_of_a_json_file_it_is_the_json_error(tmp_path: Path) -> None:
    file = tmp_path / "chain.json"
    file.write_text('{"steps": [{"prompt": "x"},]}')
    with pytest.raises(Usage, match=r"chain\.json:1:2[78]: is not valid JSON: "):
        read_file(str(file), "steps")
