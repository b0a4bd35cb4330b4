"""Record the cases anew with the CLIs that the tests run (`./dev test` installs them; CLI_VERSIONS=oldest for the oldest
supported), and print what differs from the newest recording there is. Nothing is written without ``--write``.

    python -m tests.record --cli claude --case partial
    python -m tests.record --write
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tests.record.capture import capture, version_of
from tests.record.cases import CASES
from tests.record.difference import differences

RECORDINGS = Path(__file__).parents[1] / "recordings"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.record", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cli", choices=CASES, action="append", help="only this CLI; may be repeated")
    parser.add_argument("--case", action="append", help="only this case; may be repeated")
    parser.add_argument("--write", action="store_true", help="write tests/recordings/<cli>/<version>/")
    chosen = parser.parse_args()
    for cli in chosen.cli or CASES:
        version = version_of(cli)
        known: set[str] = set()
        for case in CASES[cli]:
            if not chosen.case or case in chosen.case:
                known.update(record(cli, case, version, known, write=chosen.write))
    return 0


def record(cli: str, case: str, version: str, known: set[str], *, write: bool) -> list[str]:
    """The differences; those that are ``known`` from another case are not printed again."""
    before = newest(cli, case)
    captured = capture(cli, case, version)
    print(f"{cli}/{case}: {before.name if before else 'not recorded yet'} -> {version}, exit code {captured.meta['exit']}")
    found = differences((before / f"{case}.stdout.jsonl").read_text(), captured.stdout) if before else []
    for line in found:
        if line not in known:
            print(f"    {line}")
    sys.stdout.flush()
    if write:
        captured.write(RECORDINGS / cli / version, case)
    return found


def newest(cli: str, case: str) -> Path | None:
    """The folder of the newest version that has the case."""
    found = (path.parent for path in RECORDINGS.glob(f"{cli}/*/{case}.stdout.jsonl"))
    return max(found, key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.name)], default=None)


if __name__ == "__main__":
    sys.exit(main())
