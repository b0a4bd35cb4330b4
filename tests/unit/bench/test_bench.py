"""The lines that are measured, and how the results are kept, written and drawn."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from bench import __main__ as command
from bench.clocks import percentile, rounds
from bench.events import lines
from bench.picture import draw
from bench.section import Group, Section
from services.clis.claude.decoder import ClaudeDecoder
from services.decoding.decoder import Exit
from services.events import Finished, Text

SECTION = Section(
    title="Runs & <more>",
    note="A note.",
    columns=("way", "ms"),
    rows=[("direct", "1.0"), ("served", "2.0")],
    groups=[Group(title="one caller", bars=[("direct", 4.0, "4 runs/s"), ("served", 2.0, "2 runs/s, ×0.50")])],
)


def test_the_lines_that_are_measured_are_an_answer_of_claude_code():
    decoder = ClaudeDecoder()
    batch = decoder.feed(lines(3)) + decoder.finish(Exit(0))
    assert [event.text for event in batch if isinstance(event, Text)] == [" tok0", " tok1", " tok2"]
    assert isinstance(batch[-1], Finished)


def test_an_outcome_is_the_same_after_it_was_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "HERE", tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"events": SECTION.to_dict()}))
    kept = command.keep("overhead", SECTION)
    assert list(kept) == ["overhead", "events"]
    assert {section.markdown() for section in kept.values()} == {SECTION.markdown()}
    assert draw(list(kept.values())) == draw([SECTION, SECTION])


def test_the_results_are_written_between_their_marks_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "HERE", tmp_path)
    path = tmp_path / "RESULTS.md"
    path.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n")
    for _ in range(2):
        command.write({"overhead": SECTION})
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{command.END}\nafter\n")
    assert "old" not in text
    assert text.count("| served | 2.0 |") == 1


def test_the_picture_is_well_formed_and_to_scale():
    root = ElementTree.fromstring(draw([SECTION]))
    bars = {bar.get("class"): float(bar.get("width", "0")) for bar in root.iter("{http://www.w3.org/2000/svg}rect")}
    assert bars["direct"] == 2 * bars["served"]
    assert "Runs & <more>" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]


def test_percentiles_and_rounds():
    assert percentile([5, 1, 3], 0.5) == 3
    assert percentile(range(101), 0.99) == 99
    assert list(rounds(5, within_s=0)) == [0, 1, 2]
    assert list(rounds(5, within_s=60)) == [0, 1, 2, 3, 4]
