"""The systemd unit and the launchd job, by what can be told without booting either system."""

from __future__ import annotations

import plistlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from app.cli.command import build_parser
from app.config.load import load_settings
from app.config.schema import ServerSettings
from app.server.worker import GRACE_MARGIN_S
from tests.parts.programs import require_program
from tests.parts.server import ROOT

DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "systemd" / "clinvk.service"
PLIST = DEPLOY / "launchd" / "com.clinvk.server.plist"
EXPOSURE_LIMIT = 3.5
"""Of `systemd-analyze security` (10 is a service with no protection). What keeps it from less is named in the unit, with the reason."""

# launchd.plist(5), the keys that we use.
LAUNCHD_KEYS: dict[str, type] = {
    "Label": str, "ProgramArguments": list, "WorkingDirectory": str, "EnvironmentVariables": dict, "RunAtLoad": bool, "KeepAlive": dict,
    "ThrottleInterval": int, "ExitTimeOut": int, "ProcessType": str, "Umask": int, "SoftResourceLimits": dict,
    "HardResourceLimits": dict, "StandardOutPath": str, "StandardErrorPath": str,
}  # fmt: skip


def stop_takes_s() -> float:
    return ServerSettings().shutdown_grace_secs + GRACE_MARGIN_S


def unit_lines(name: str) -> list[str]:
    """The values of a directive, in their order."""
    return re.findall(rf"(?m)^{name}=(.*)$", UNIT.read_text())


def unit_for_this_machine(folder: Path) -> Path:
    """The unit with a program that exists in the place of ours."""
    text = UNIT.read_text()
    assert text.count("/usr/local/bin/clinvk ") == 1
    path = folder / "clinvk.service"
    path.write_text(text.replace("/usr/local/bin/clinvk ", "/bin/true "))
    return path


def test_systemd_accepts_the_unit_without_a_warning(tmp_path: Path) -> None:
    program = require_program("systemd-analyze", "systemd")
    done = subprocess.run([program, "verify", str(unit_for_this_machine(tmp_path))], capture_output=True, text=True)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "clinvk" in line]  # other units have warnings of their own
    assert (done.returncode, ours) == (0, [])


def test_unit_is_well_protected(tmp_path: Path) -> None:
    program = require_program("systemd-analyze", "systemd")
    command = [program, "security", "--offline=true", "--no-pager", str(unit_for_this_machine(tmp_path))]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert level, said
    assert float(level[1]) <= EXPOSURE_LIMIT, said


def test_unit_serves_as_the_documents_show_it() -> None:
    (command,) = unit_lines("ExecStart")
    assert command == "/usr/local/bin/clinvk serve --port 8080"
    assert build_parser().parse_args(command.split()[1:]).port == "8080"


def test_systemd_waits_longer_than_the_server_takes_to_stop() -> None:
    assert [float(value) for value in unit_lines("TimeoutStopSec")] > [stop_takes_s()]


def test_folders_of_the_unit_are_what_the_other_files_make(tmp_path: Path) -> None:
    home = f"/var/lib/{unit_lines('StateDirectory')[0]}"
    (user,) = unit_lines("User")
    assert re.search(rf'(?m)^u {user} - ".*" {home} /usr/sbin/nologin$', (DEPLOY / "systemd" / "clinvk.sysusers").read_text())
    (workdir,) = unit_lines("WorkingDirectory")
    assert f"d {workdir} 0750 {user} {user} -" in (DEPLOY / "systemd" / "clinvk.tmpfiles").read_text()
    assert workdir in unit_lines("ReadWritePaths")
    settings = load_settings(str(DEPLOY / "systemd" / "config.yaml"), {"HOME": str(tmp_path)})
    assert settings.server.allowed_workdir_prefixes == [workdir]
    assert not any(workdir.startswith(prefix) for prefix in settings.server.blocked_workdir_prefixes)


@pytest.mark.parametrize("kind", ["sysusers", "tmpfiles"])
def test_systemd_makes_the_user_and_its_folder(kind: str, tmp_path: Path) -> None:
    program = require_program(f"systemd-{kind}", "systemd")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("clinvk:x:990:990::/var/lib/clinvk:/usr/sbin/nologin\n" if kind == "tmpfiles" else "")
    (tmp_path / "etc" / "group").write_text("clinvk:x:990:\n" if kind == "tmpfiles" else "")
    options = ["--create"] if kind == "tmpfiles" else []
    done = subprocess.run(
        [program, f"--root={tmp_path}", *options, str(DEPLOY / "systemd" / f"clinvk.{kind}")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip() or kind == "sysusers", done.stderr
    if kind == "sysusers":
        assert re.search(
            r"(?m)^clinvk:x:\d+:\d+:clinvk server:/var/lib/clinvk:/usr/sbin/nologin$", (tmp_path / "etc" / "passwd").read_text()
        )
    else:
        assert (tmp_path / "srv" / "clinvk").is_dir()


def test_environment_file_names_variables_that_there_are(tmp_path: Path) -> None:
    """Uncommented, all its lines are understood. systemd takes a line as it is, quotes and all."""
    lines = (DEPLOY / "systemd" / "clinvk.env").read_text().splitlines()
    told = dict(line.lstrip("#").split("=", 1) for line in lines if re.match(r"#?[A-Z_]+=", line))
    assert told["CLINVK_CONFIG"] == "/etc/clinvk/config.yaml"
    settings = load_settings(None, {**told, "HOME": str(tmp_path), "CLINVK_CONFIG": str(DEPLOY / "systemd" / "config.yaml")})
    assert settings.server.metrics_enabled


@pytest.fixture(scope="module")
def plist() -> dict[str, Any]:
    with PLIST.open("rb") as file:
        loaded: dict[str, Any] = plistlib.load(file)
    return loaded


def test_plist_holds_what_launchd_knows(plist: dict[str, Any]) -> None:
    assert {name: type(value) for name, value in plist.items()} == LAUNCHD_KEYS
    assert plist["Label"] == PLIST.name.removesuffix(".plist")
    assert set(plist["KeepAlive"]) <= {"SuccessfulExit", "Crashed", "PathState", "OtherJobEnabled"}
    assert plist["ProcessType"] in {"Background", "Standard", "Adaptive", "Interactive"}
    assert all(isinstance(value, str) for value in plist["EnvironmentVariables"].values())
    assert plist["ExitTimeOut"] > stop_takes_s()
    assert plist["Umask"] == 0o077


def test_plist_serves_as_the_documents_show_it(plist: dict[str, Any], tmp_path: Path) -> None:
    program, *arguments = plist["ProgramArguments"]
    assert (program, arguments) == ("/usr/local/bin/clinvk", ["serve", "--port", "8080"])
    environ = {**plist["EnvironmentVariables"], "HOME": str(tmp_path), "CLINVK_SERVER__LOG_FILE": str(tmp_path / "clinvk.log")}
    assert load_settings(None, environ).server.log_file
    # launchd expands no ~ and no variable.
    paths = [plist[key] for key in ("WorkingDirectory", "StandardOutPath", "StandardErrorPath")]
    assert all(path.startswith("/Users/YOU") for path in paths)


def test_newsyslog_rotates_the_log_that_the_plist_names(plist: dict[str, Any]) -> None:
    """newsyslog.conf(5): logfilename owner:group mode count size when flags. N: no process is told."""
    text = (DEPLOY / "launchd" / "clinvk.newsyslog.conf").read_text()
    (line,) = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    name, _, mode, count, size, when, flags = line
    assert name == plist["EnvironmentVariables"]["CLINVK_SERVER__LOG_FILE"]
    assert (mode, when, flags) == ("600", "*", "N")
    assert int(count) > 0
    assert int(size) > 0
