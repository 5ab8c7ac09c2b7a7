"""Deployment files, by a tool for each kind; what no tool sees is compared with the code."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from cloud_node.metrics import CloudMetrics, CloudTotals
from cloud_node.settings import CloudSettings
from edge_node.settings import EdgeSettings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
CONTAINERS = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
KUSTOMIZATIONS = [DEPLOY / "kubernetes" / name for name in ("base", "overlays/mutual-tls")]
MOST_EXPOSED = 1.5  # of 10, by systemd-analyze's own weights; 1.4 as measured with systemd 252
PORTS = {
    "edge": (EdgeSettings().listen, EdgeSettings().web_listen),
    "cloud": (CloudSettings().listen, CloudSettings().web_listen),
}


def ports(name: str) -> set[int]:
    return {int(address.rpartition(":")[2]) for address in PORTS[name]}


def documents(text: str) -> Iterator[dict]:
    return (found for found in yaml.safe_load_all(text) if found)


# Container files


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.stem)
def test_the_linter_finds_nothing_in_a_container_file(path: Path) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, str(path)], capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.stem)
def test_a_container_file_installs_one_half_and_runs_it_as_nobody(path: Path) -> None:
    half = path.stem.partition("-")[0]
    stages = re.split(r"(?m)^FROM ", path.read_text())
    assert len(stages) == 3  # arguments, build, result
    assert f"install --no-cache-dir -c constraints.txt '.[{half}]'" in stages[1]
    result = stages[2]
    assert re.search(r"(?m)^USER (\d+):\d+$", result)[1] != "0"
    assert f'ENTRYPOINT ["{half}-node"' in result
    asked_port = PORTS[half][0].rpartition(":")[2]
    exposed = re.search(r"(?m)^EXPOSE (.*)$", result)[1].split()
    assert set(map(int, exposed)) == ports(half)
    asked = json.loads(re.search(r"CMD (\[.*\])", result)[1])
    assert asked == ["spikebottlenet", "health", f"localhost:{asked_port}"]


def test_the_build_context_has_what_the_container_files_copy() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert "*" in lines
    for path in CONTAINERS:
        for sources in re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", path.read_text()):
            for source in sources.split():
                assert (ROOT / source).exists(), source
                assert kept & {source, str(Path(source).parent)}, source


# Compose


def composed() -> dict:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_the_compose_file_is_one() -> None:
    spec = PyCompose.from_json(json.dumps(composed()))
    spec.validate()
    assert set(spec.service_names()) == {"cloud", "edge", "prometheus", "grafana"}
    with pytest.raises(ValueError, match="mem_limits"):  # the tool looks
        PyCompose.from_json(json.dumps({"services": {"x": {"image": "y", "mem_limits": "1g"}}}))


def test_what_the_compose_file_mounts_is_there() -> None:
    for service in composed()["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if not source.startswith("."):
                assert source in composed()["volumes"]
            else:
                assert (DEPLOY / source).exists(), source
        if "build" in service:
            assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]) in CONTAINERS


def test_the_compose_file_publishes_to_this_machine_alone_and_hardens_all() -> None:
    for name, service in composed()["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
    published = {int(port.split(":")[2]) for port in composed()["services"]["edge"]["ports"]}
    assert published == ports("edge")


# Kubernetes


def resources(folder: Path) -> list[dict]:
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    paths = [folder / name for name in listed if name.endswith(".yaml")]
    return [found for path in paths for found in documents(path.read_text())]


def validate(found: dict) -> None:
    kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)


def test_every_resource_is_one_by_the_clusters_own_schema() -> None:
    base = resources(KUSTOMIZATIONS[0])
    for found in base:
        validate(found)
    kinds = {found["kind"] for found in base}
    assert {"Deployment", "DaemonSet", "Service", "HorizontalPodAutoscaler"} <= kinds
    with pytest.raises(kubernetes_validate.ValidationError):  # the tool looks
        validate(base[0] | {"specs": {}})


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_a_kustomization_names_its_files_and_no_others(folder: Path) -> None:
    found = yaml.safe_load((folder / "kustomization.yaml").read_text())
    named = [*found["resources"], *(patch["path"] for patch in found.get("patches", ()))]
    named += [name for one in found["configMapGenerator"] for name in one["files"]]
    assert all((folder / name).exists() for name in named)
    here = {path.name for path in folder.iterdir()} - {"kustomization.yaml"}
    assert here == {name for name in named if not name.startswith("..")}


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_what_kustomize_makes_of_it_is_valid_too(folder: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl here: the files were checked, what kustomize makes of them was not")
    made = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    built = list(documents(made.stdout))
    for found in built:
        validate(found)
    named = {(found["kind"], found["metadata"]["name"]) for found in built}
    for found in built:
        for volume in pod_of(found).get("volumes", ()):
            if "configMap" in volume:  # the hash of its contents is in the name
                assert ("ConfigMap", volume["configMap"]["name"]) in named


def pod_of(found: dict) -> dict:
    return found.get("spec", {}).get("template", {}).get("spec", {})


def test_pods_run_their_half_hardened_and_are_probed_by_grpc_health() -> None:
    base = resources(KUSTOMIZATIONS[0])
    pods = {found["metadata"]["name"]: pod_of(found) for found in base if pod_of(found)}
    drain_s = EdgeSettings().drain_s
    for name in PORTS:
        pod, (container,) = pods[name], pods[name]["containers"]
        assert container["image"] == f"spikebottlenet-{name}"
        assert {port["containerPort"] for port in container["ports"]} == ports(name)
        grpc_port = int(PORTS[name][0].rpartition(":")[2])
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["grpc"]["port"] == grpc_port
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["terminationGracePeriodSeconds"] > drain_s


def test_edges_reach_every_cloud_pod_by_one_name() -> None:
    base = resources(KUSTOMIZATIONS[0])
    services = {f["metadata"]["name"]: f["spec"] for f in base if f["kind"] == "Service"}
    settings = yaml.safe_load((KUSTOMIZATIONS[0] / "edge.yaml").read_text())
    host, _, port = settings["cloud"].rpartition(":")
    assert services[host]["clusterIP"] == "None"
    assert int(port) in {one["port"] for one in services[host]["ports"]}
    (cloud,) = (found for found in base if found["kind"] == "Deployment")
    labels = cloud["spec"]["template"]["metadata"]["labels"]
    assert services[host]["selector"].items() <= labels.items()


def test_clouds_are_scaled_by_a_metric_that_the_adapter_makes() -> None:
    (scaler,) = (
        found
        for found in resources(KUSTOMIZATIONS[0])
        if found["kind"] == "HorizontalPodAutoscaler"
    )
    wanted = scaler["spec"]["metrics"][0]["pods"]["metric"]["name"]
    adapter = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    series = rule["seriesQuery"].partition("{")[0]
    name = rule["name"]
    made = re.sub(name["matches"], name["as"].replace("${1}", r"\1"), series)
    assert made == wanted


# systemd


@pytest.mark.parametrize("name", ["edge-node", "cloud-node"])
def test_a_unit_is_hardened(name: str) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd here")
    unit = DEPLOY / "systemd" / f"{name}.service"
    threshold = f"--threshold={round(10 * MOST_EXPOSED)}"
    done = subprocess.run(
        [analyze, "security", "--offline=true", threshold, "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1:] + done.stderr.splitlines()


# Grafana


def test_prometheus_scrapes_the_services_of_the_compose_file_where_they_listen() -> None:
    found = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    targets = [
        target
        for job in found["scrape_configs"]
        for static in job["static_configs"]
        for target in static["targets"]
    ]
    listening = {
        name: yaml.safe_load((DEPLOY / "compose" / f"{name}.yaml").read_text())["web_listen"]
        for name in PORTS
    }
    wanted = {f"{name}:{web.rpartition(':')[2]}" for name, web in listening.items()}
    assert set(targets) == wanted


def test_clouds_are_scaled_by_a_metric_that_they_expose() -> None:
    adapter = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus-adapter.yaml").read_text())
    series = adapter["rules"]["custom"][0]["seriesQuery"].partition("{")[0]
    families = CloudMetrics(CloudTotals()).families
    assert series.removesuffix("_count") in {family.name for family in families}


def test_grafana_is_given_its_source_and_the_dashboards() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())
    (prometheus,) = source["datasources"]
    assert prometheus["url"] == "http://prometheus:9090"
    shown = yaml.safe_load((provisioning / "dashboards" / "files.yaml").read_text())
    folder = shown["providers"][0]["options"]["path"]
    assert f"./grafana:{folder}:ro" in composed()["services"]["grafana"]["volumes"]
