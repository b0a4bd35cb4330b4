"""The start of a process: what is made is exempt from the collector, and gevent's plugins are still found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.parts.server import ROOT

PROGRAM = """\
import gc, socket, time
from importlib import metadata

from app.startup import making_what_stays, patch_blocking_calls

looked = []
look = metadata.entry_points
metadata.entry_points = lambda **wanted: looked.append(wanted) or look(**wanted)
ours = metadata.entry_points
with making_what_stays():
    assert not gc.isenabled()
    patch_blocking_calls()
assert gc.isenabled() and gc.get_freeze_count() > 10_000
assert metadata.entry_points is ours
print("patched", socket.socket.__module__, len(looked))
"""


def test_the_metadata_of_packages_is_read_once_and_plugins_are_called(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("def patched(event):\n    print('plugin', type(event).__name__)\n")
    metadata = tmp_path / "plugin-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[gevent.plugins.monkey.did_patch_all]\nit = plugin:patched\n")
    env = {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["plugin GeventDidPatchAllEvent", "patched gevent._socket3 1"], done.stdout + done.stderr
