"""A systemd of its own for our unit: first process of new namespaces, with a root whose /etc, /run, /tmp and /var are its own.

systemd is given nothing to do but our unit: of this machine's units none is there (one of them empties /tmp), the targets that
ours names do nothing, and it can reach neither this machine's network nor its processes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Self

import pytest

from tests.deploy.dockerfile import Built, as_root
from tests.parts.processes import children, eventually
from tests.parts.programs import require_program
from tests.parts.server import ROOT

UNITS = ROOT / "deploy" / "systemd"
USER_ID = 990
START_S = 90.0
TARGETS = ("sysinit", "basic", "shutdown", "umount", "final", "exit", "network-online", "multi-user")
SLICES = ("-", "system")


def cgroup_root() -> Path:
    """Where this machine has its control groups of version 2. Skips where this process may make none."""
    for path in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (path / "cgroup.procs").exists():
            own = Path("/proc/self/cgroup").read_text().partition("0::")[2].split("\n")[0]
            return path / own.lstrip("/")
    pytest.skip("this machine has no control groups of version 2: systemd cannot be started")


class Systemd:
    """systemd with our unit and ``built``'s /opt. ``config`` is /etc/clinvk/config.yaml. Leaving the ``with`` block ends all of it."""

    def __init__(self, folder: Path, built: Built, config: str) -> None:
        program = shutil.which("systemd", path="/usr/lib/systemd:/lib/systemd") or require_program("systemd")
        self._console = folder / "console"
        self._console.touch()
        self.root = self._make_root(folder / "root", built, config)
        self._group = cgroup_root() / f"clinvk-test-{uuid.uuid4().hex[:8]}"
        if subprocess.run([*as_root(), "mkdir", str(self._group)], capture_output=True).returncode:
            pytest.skip("no control group may be made here: systemd cannot be started")
        mounts = [
            "--bind", str(self.root), "/", "--ro-bind", "/usr", "/usr", "--tmpfs", "/usr/lib/systemd/system", "--tmpfs", "/usr/local",
            "--ro-bind", str(self._make_units(folder / "units")), "/usr/lib/systemd/system",
            "--perms", "0755", "--dir", "/usr/local/bin", "--symlink", "/opt/clinvk/bin/clinvk", "/usr/local/bin/clinvk",
            "--ro-bind", f"{built.root}/opt", "/opt", "--ro-bind", "/sys", "/sys", "--bind", str(self._group), "/sys/fs/cgroup",
            "--proc", "/proc", "--dev", "/dev", "--bind", str(self._console), "/dev/console", "--tmpfs", "/run", "--tmpfs", "/tmp",
        ]  # fmt: skip
        apart = [f"--unshare-{name}" for name in ("pid", "net", "ipc", "uts", "cgroup")]
        env = ["--clearenv", "--setenv", "container", "bwrap", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]
        options = ["--system", "--unit=clinvk.service", "--log-target=console", "--show-status=0"]
        bwrap = [require_program("bwrap", "bubblewrap"), *mounts, *apart, *env, "--as-pid-1", "--die-with-parent", "--", program, *options]
        enter = ["sh", "-c", f'echo $$ > {self._group}/cgroup.procs && exec "$@"', "sh"]
        with (folder / "bwrap.log").open("wb") as log:
            self._process = subprocess.Popen([*as_root(), *enter, *bwrap], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            assert eventually(self._is_up, START_S), self.systemctl("status", "clinvk") + self.log() + (folder / "bwrap.log").read_text()
        except BaseException:
            self.__exit__()
            raise

    def _make_root(self, root: Path, built: Built, config: str) -> Path:
        for name in (
            "dev",
            "etc/systemd/system",
            "etc/clinvk",
            "opt",
            "proc",
            "root",
            "home",
            "run",
            "srv/clinvk",
            "sys",
            "tmp",
            "usr",
            "var",
        ):
            (root / name).mkdir(parents=True)
        for link in built.root.iterdir():
            if link.is_symlink():
                (root / link.name).symlink_to(os.readlink(link))
        for name in ("ld.so.cache", "nsswitch.conf", "ssl", "alternatives"):
            source = built.root / "etc" / name
            (shutil.copytree if source.is_dir() else shutil.copy)(
                source, root / "etc" / name, **({"symlinks": True} if source.is_dir() else {})
            )
        (root / "etc" / "machine-id").write_text(uuid.uuid4().hex + "\n")
        (root / "etc" / "passwd").write_text(
            f"root:x:0:0:root:/root:/bin/sh\nclinvk:x:{USER_ID}:{USER_ID}::/var/lib/clinvk:/usr/sbin/nologin\n"
        )
        (root / "etc" / "group").write_text(f"root:x:0:\nclinvk:x:{USER_ID}:\n")
        (root / "etc" / "clinvk" / "config.yaml").write_text(config)
        shutil.copy(UNITS / "clinvk.env", root / "etc" / "clinvk")
        shutil.copy(UNITS / "clinvk.service", root / "etc" / "systemd" / "system")
        drop_in = root / "etc" / "systemd" / "system" / "clinvk.service.d" / "log.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("[Service]\nStandardError=append:/var/server.log\n")  # there is no journal
        root.parent.chmod(0o755)
        subprocess.run([*as_root(), "chown", f"{USER_ID}:{USER_ID}", str(root / "srv" / "clinvk")], check=True)
        return root

    def _make_units(self, folder: Path) -> Path:
        folder.mkdir()
        for name in (*(f"{target}.target" for target in TARGETS), *(f"{one}.slice" for one in SLICES)):
            (folder / name).write_text("[Unit]\nDefaultDependencies=no\n")
        return folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*as_root(), "kill", "-KILL", str(self._process.pid)], capture_output=True)
        self._process.wait(10)
        remove = [*as_root(), "find", str(self._group), "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]
        assert eventually(lambda: subprocess.run(remove, capture_output=True).returncode == 0 and not self._group.exists())

    def log(self) -> str:
        """What systemd has to say, and then the server."""
        server = self.root / "var" / "server.log"
        return "".join(path.read_text(errors="replace") for path in (self._console, server) if path.exists())

    def systemctl(self, *words: str) -> str:
        done = self.run("systemctl", "--no-pager", *words)
        return (done.stdout + done.stderr).strip()

    def show(self, name: str) -> str:
        return self.systemctl("show", "clinvk", "--value", f"--property={name}")

    def run(self, *argv: str, inside: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a program as root beside systemd; ``inside``: as the unit's process is, its user and its view of the files."""
        (first,) = children(self._process.pid) or [self._process.pid]
        spaces = ["--target", str(first), "--all", "--root", "--wd=/"]
        user = [f"--reuid={USER_ID}", f"--regid={USER_ID}", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        if inside:
            argv = ("nsenter", "--target", self.show("MainPID"), "--mount", "setpriv", *user, *argv)
        command = [*as_root(), require_program("nsenter", "util-linux"), *spaces, "--", *argv]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, self.log()
        return bool(children(self._process.pid)) and self.show("ActiveState") == "active"
