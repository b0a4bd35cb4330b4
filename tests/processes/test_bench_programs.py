"""The C programs that the measurements compare with."""

from __future__ import annotations

import subprocess

import pytest

from bench.events import compile_c, copied, lines
from tests.parts.programs import require_program


@pytest.fixture
def cc(tmp_path):
    require_program("cc", "gcc libc6-dev")
    return lambda name: compile_c(name, tmp_path)


def test_pour_writes_the_file_and_reads_no_further_arguments(cc, tmp_path):
    (tmp_path / "lines").write_bytes(lines(50))
    assert subprocess.run([cc("pour"), tmp_path / "lines", "-p", "--verbose"], capture_output=True, check=True).stdout == lines(50)


@pytest.mark.parametrize("mode", [(), ("each",)])
def test_the_copy_in_c_frames_every_line(cc, tmp_path, mode):
    (tmp_path / "lines").write_bytes(lines(2000))
    pour = [str(cc("pour")), str(tmp_path / "lines")]
    events_s, cpu_s = copied(cc("copy"), pour, 2, *mode)
    assert events_s > 0
    assert cpu_s > 0
    out = subprocess.run([cc("copy"), *mode], input=lines(2000), capture_output=True, check=True).stdout
    assert out.count(b"data: {") == len(lines(2000).splitlines())
