"""The end of a worker, without its process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from services.execution.process_workers import IdleWorker
from services.processes.marks import RunFolder


def test_a_session_that_cannot_be_deleted_leaves_no_folder_of_its_worker(tmp_path: Path) -> None:
    def forget() -> None:
        raise PermissionError("read-only")

    unused: Any = MagicMock()
    folder = RunFolder(str(tmp_path / "clinvk-0123456789abcdef"))
    worker = IdleWorker(unused, unused, folder, unused, None, forget)
    with pytest.raises(PermissionError):
        worker.close()
    assert os.listdir(tmp_path) == []
