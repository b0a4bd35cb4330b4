"""The compose file and the Kubernetes manifests: valid by their own schemas, and true of the server that they start."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.cli.command import build_parser
from app.config.load import load_settings
from app.config.problems import SettingsError
from app.config.schema import ServerSettings, Settings
from app.security.api_keys import load_keys
from app.server.worker import GRACE_MARGIN_S
from tests.deploy.manifests import COMPOSE, DOCKER, KUBERNETES, compose, kubernetes_objects, seconds
from tests.parts.programs import do_without
from tests.parts.server import ROOT, Server

BIN = Path(sys.executable).parent
GIVEN = {"CLINVK_API_KEYS": "laptop=a-key-0123456789", "POSTGRES_PASSWORD": "secret"}


def check(*command: str) -> str:
    program = BIN / command[0]
    if not program.exists():
        do_without(f"{command[0]} is not installed: pip install -e '.[test]'")
    done = subprocess.run([str(program), *command[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def start_of(command: list[str]) -> dict[str, str]:
    """The command line's own settings."""
    args = build_parser().parse_args(command)
    return {f"server.{name}": value for name in ("host", "port") if (value := getattr(args, name))}


def test_dockerfile_has_no_fault_that_hadolint_knows() -> None:
    check("hadolint", str(DOCKER / "Dockerfile"))


def test_compose_file_is_valid() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE))


@pytest.mark.parametrize("path", sorted(path.name for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml"))
def test_manifest_is_valid(path: str) -> None:
    assert "passed" in check("kubernetes-validate", "--strict", str(KUBERNETES / path))


def test_kustomization_holds_every_manifest_but_the_secret() -> None:
    resources = set(yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"])
    assert resources == {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "secret.yaml"}
    if kubectl := shutil.which("kubectl"):
        done = subprocess.run([kubectl, "kustomize", str(KUBERNETES)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("kind: Deployment") == 1


@pytest.mark.parametrize("name", GIVEN)
def test_compose_does_not_start_without_key_and_password(name: str) -> None:
    with pytest.raises(KeyError, match=name):
        compose({key: value for key, value in GIVEN.items() if key != name})


@pytest.fixture
def composed(tmp_path: Path) -> Settings:
    """The settings of the compose file's server."""
    service = compose(GIVEN)["services"]["clinvk"]
    environ = {name: str(value or "") for name, value in service["environment"].items()}
    return load_settings(None, {**environ, "HOME": str(tmp_path)}, start_of(service["command"]))


def test_compose_names_services_and_addresses_that_are_there(composed: Settings) -> None:
    services = compose(GIVEN)["services"]
    assert composed.server.rate_limit_storage == "redis://redis:6379"
    assert composed.session.database_url == "postgresql://clinvk:secret@postgres/clinvk"
    assert services["postgres"]["environment"] == {"POSTGRES_USER": "clinvk", "POSTGRES_PASSWORD": "secret"}
    assert services["clinvk"]["ports"] == [f"127.0.0.1:8080:{composed.server.port}"]
    assert composed.server.trusted_proxies == [services["nginx"]["networks"]["inside"]["ipv4_address"]]
    assert composed.server.allowed_workdir_prefixes == ["/workspace"]
    assert any(volume.endswith(":/workspace") for volume in services["clinvk"]["volumes"])


def test_compose_waits_longer_than_the_server_takes_to_stop(composed: Settings) -> None:
    grace = compose(GIVEN)["services"]["clinvk"]["stop_grace_period"]
    assert seconds(grace) > composed.server.shutdown_grace_secs + GRACE_MARGIN_S


def test_compose_file_and_dockerfile_are_where_it_says() -> None:
    build = compose(GIVEN)["services"]["clinvk"]["build"]
    context = (DOCKER / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).is_file()


def test_nginx_of_compose_finds_what_it_replaces() -> None:
    """Each pattern of its `sed` is in our site."""
    (shell, option, script) = compose(GIVEN)["services"]["nginx"]["command"]
    assert (shell, option) == ("sh", "-c")
    script = script.partition("/etc/clinvk.conf")[0] + str(ROOT / "deploy" / "nginx.conf")
    site = subprocess.run([shell, option, script], env={"NAME": "ai.example.org", "PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert site.returncode == 0, site.stderr
    assert site.stdout.count("server clinvk:8080;") == 1
    assert site.stdout.count("server_name ai.example.org;") == 2
    assert "/etc/ssl/clinvk/fullchain.pem" in site.stdout
    assert "gateway.example.com" not in site.stdout.partition("upstream")[2]


@pytest.fixture
def pod(tmp_path: Path) -> dict[str, Any]:
    template: dict[str, Any] = kubernetes_objects()["Deployment/clinvk"]["spec"]["template"]["spec"]
    return template


@pytest.fixture
def in_cluster(pod: dict[str, Any], tmp_path: Path) -> Settings:
    """The settings of the pod's server."""
    file = tmp_path / "config.yaml"
    file.write_text(kubernetes_objects()["ConfigMap/clinvk"]["data"]["config.yaml"])
    (container,) = pod["containers"]
    environ = {one["name"]: one["value"] for one in container["env"]}
    folder = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}[str(Path(environ["CLINVK_CONFIG"]).parent)]
    assert [one["configMap"] for one in pod["volumes"] if one["name"] == folder] == [{"name": "clinvk"}]
    return load_settings(None, {"CLINVK_CONFIG": str(file), "HOME": str(tmp_path)}, start_of(container["args"]))


def test_ports_of_the_manifests_are_the_servers(pod: dict[str, Any], in_cluster: Settings) -> None:
    (container,) = pod["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [in_cluster.server.port]
    (port,) = kubernetes_objects()["Service/clinvk"]["spec"]["ports"]
    assert port["targetPort"] == container["ports"][0]["name"]


def test_pod_waits_longer_than_the_server_takes_to_stop(pod: dict[str, Any], in_cluster: Settings) -> None:
    (container,) = pod["containers"]
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + in_cluster.server.shutdown_grace_secs + GRACE_MARGIN_S


def test_pod_is_as_restricted_as_the_strictest_policy_asks(pod: dict[str, Any]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, "restricted"."""
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert {"memory"} <= set(container["resources"]["limits"])


def test_network_policy_lets_in_callers_alone_and_keeps_agents_from_the_cluster(pod: dict[str, Any]) -> None:
    objects = kubernetes_objects()
    policy = objects["NetworkPolicy/clinvk"]["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= objects["Deployment/clinvk"]["spec"]["template"]["metadata"]["labels"].items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    (entrance,) = policy["ingress"]
    assert [port["port"] for port in entrance["ports"]] == [pod["containers"][0]["ports"][0]["name"]]
    (internet,) = [[to["ipBlock"] for to in rule["to"]] for rule in policy["egress"] if "ipBlock" in rule["to"][0]]
    shut = [ip_network(block) for to in internet for block in to["except"]]
    for address in ("10.1.2.3", "172.20.0.1", "192.168.1.1", "169.254.169.254", "fd00:ec2::254", "fe80::1", "::1"):
        assert any(ip_address(address) in network for network in shut), address


def test_secret_as_it_stands_is_refused(tmp_path: Path) -> None:
    """Nobody's key is the one of our example."""
    environ = kubernetes_objects()["Secret/clinvk"]["stringData"]
    with pytest.raises(SettingsError, match="64 hexadecimal digits"):
        load_keys(Settings(server=ServerSettings()), environ)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Server]]:
    """A server with the pod's configuration, and a name that it answers to."""
    config = yaml.safe_load(kubernetes_objects()["ConfigMap/clinvk"]["data"]["config.yaml"])
    config["server"] |= {"allowed_hosts": ["gateway.example.com"], "api_keys": ["laptop=a-key-0123456789"]}
    one = Server(tmp_path_factory.mktemp("pod"), config)
    yield lambda: one
    one.stop()


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probe_is_answered_without_a_key(probe: str, pod: dict[str, Any], started: Callable[[], Server]) -> None:
    asked = pod["containers"][0][probe]["httpGet"]
    headers = {one["name"]: one["value"] for one in asked["httpHeaders"]}
    assert started().client.get(asked["path"], headers=headers).status == 200
