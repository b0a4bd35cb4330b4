"""Measures this server against the CLIs behind it: `python -m bench [name ...] [--quick]`.

The names: first_token added overhead events runs fairness idle startup loop rights. Without a name all of them, in some eight minutes, or two with ``--quick``. Each prints its table, and `RESULTS.md` and `results.svg`
are rewritten from the last measurement of each (`results.json`). `python -m bench.store` is separate and takes an hour.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from bench.picture import draw
from bench.section import Section

HERE = Path(__file__).parent
MEASUREMENTS = ("first_token", "added", "overhead", "events", "runs", "fairness", "idle", "startup", "loop", "rights")
BEGIN, END = "<!-- from here on written by `python -m bench` -->", "<!-- up to here -->"


def keep(name: str, section: Section) -> dict[str, Section]:
    """Every measurement's latest outcome, in their order."""
    path = HERE / "results.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[name] = section.to_dict()
    path.write_text(json.dumps({name: kept[name] for name in MEASUREMENTS if name in kept}, indent=1, ensure_ascii=False) + "\n")
    return {name: Section.from_dict(kept[name]) for name in MEASUREMENTS if name in kept}


def write(sections: dict[str, Section]) -> None:
    path = HERE / "RESULTS.md"
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text("\n".join([before + BEGIN, "", *(section.markdown() for section in sections.values()), END + after]))
    shown = [section for name, section in sections.items() if name in ("first_token", "overhead")]
    (HERE / "results.svg").write_text(draw(shown))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"what to measure: {', '.join(MEASUREMENTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASUREMENTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    for name in options.names or MEASUREMENTS:
        section: Section = importlib.import_module(f"bench.{name}").measure(quick=options.quick)
        print(section.markdown(), flush=True)
        if not options.dry:
            write(keep(name, section))


if __name__ == "__main__":
    main()
