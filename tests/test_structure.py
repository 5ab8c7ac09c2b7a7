"""Import rules, stubs that are current, extras that suffice."""

import ast
import filecmp
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [ROOT / "edge", ROOT / "cloud", ROOT / "shared"]
STUBS = "spikebottlenet.rpc.v1"
WEB = ("starlette", "uvicorn", "prometheus_client", "opentelemetry")

# (package, what it never imports)
RULES = [
    ("edge_node", ("cloud_node", "spikebottlenet.lab", "spikebottlenet.model.tail", "torch")),
    ("edge_node", ("spikebottlenet.runtime.torch_tail", "spikebottlenet.cli")),
    ("cloud_node", ("edge_node", "spikebottlenet.lab", "spikebottlenet.model.head")),
    ("cloud_node", ("spikebottlenet.runtime.onnx_head", "spikebottlenet.cli", "onnxruntime")),
    ("spikebottlenet.lab", ("edge_node", "cloud_node", "spikebottlenet.rpc", "grpc")),
    ("spikebottlenet.rpc", ("torch", "spikebottlenet.model", "spikebottlenet.lab")),
    ("spikebottlenet.codec", ("torch", "grpc", "spikebottlenet.rpc", "spikebottlenet.lab")),
    ("spikebottlenet.codec", ("spikebottlenet.model.head", "spikebottlenet.model.tail")),
    ("spikebottlenet.model", ("spikebottlenet.lab", "spikebottlenet.rpc", "spikebottlenet.codec")),
    ("spikebottlenet.accounting", ("torch", "grpc", "spikebottlenet.rpc", "spikebottlenet.lab")),
    ("spikebottlenet.bundle", ("torch", "grpc", "PIL", "onnxruntime")),
    ("spikebottlenet.cli", ("edge_node", "cloud_node")),
    ("spikebottlenet.bench", ("edge_node", "cloud_node")),
    ("spikebottlenet.bench.load", ("torch", "spikebottlenet.lab")),
    ("spikebottlenet.plan", ("edge_node", "cloud_node", "spikebottlenet.cli")),
    ("spikebottlenet.bench", ("spikebottlenet.plan",)),
    ("spikebottlenet.lab", ("spikebottlenet.bench", "spikebottlenet.plan")),
    ("spikebottlenet.rpc", ("spikebottlenet.bench",)),
    ("spikebottlenet.web", ("torch", "spikebottlenet.cli", "spikebottlenet.lab")),
    ("edge_node", ("spikebottlenet.bench", "spikebottlenet.plan")),
    ("cloud_node", ("spikebottlenet.bench", "spikebottlenet.plan")),
]


def modules() -> dict[str, Path]:
    """Every module of ours by its import name."""
    found = {}
    for source in SOURCES:
        for path in source.rglob("*.py"):
            parts = path.relative_to(source).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> set[str]:
    """Everything that a module imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize(("package", "never"), RULES)
def test_imports_point_one_way(package: str, never: tuple[str, ...]) -> None:
    ours = {name: path for name, path in modules().items() if inside(name, package)}
    assert ours
    for name, path in ours.items():
        bad = {found for found in imports(path) for rule in never if inside(found, rule)}
        assert not bad, f"{name} imports {sorted(bad)}"


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("edge_node.__main__", ("torch", "cloud_node", "spikebottlenet.lab", "onnx", "datasets")),
        ("cloud_node.__main__", ("edge_node", "onnxruntime", "PIL", "spikebottlenet.lab")),
        ("edge_node.__main__", WEB),  # for the first visitor of a page
        ("cloud_node.__main__", WEB),
        ("spikebottlenet.cli.__main__", ("torch", "onnxruntime", "PIL", "datasets")),
        ("spikebottlenet.bench.load.worker", ("torch", "onnxruntime", "matplotlib")),
    ],
)
def test_a_process_loads_only_its_own_half(module: str, never: tuple[str, ...]) -> None:
    code = f"import {module}, sys; print('\\n'.join(sys.modules))"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert module in loaded
    assert not [name for name in loaded for rule in never if inside(name, rule)]


def test_stubs_are_those_of_the_contract(tmp_path: Path) -> None:
    contracts = sorted((ROOT / "proto").rglob("*.proto"))
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto"), *outputs]
    subprocess.run([*command, *map(str, contracts)], check=True)
    made = sorted(tmp_path.rglob("*_pb2*.py*"))
    assert len(made) == 3 * len(contracts)
    for path in made:
        committed = ROOT / "shared" / path.relative_to(tmp_path)
        assert filecmp.cmp(path, committed, shallow=False), f"run `make stubs`: {committed}"


@pytest.mark.parametrize("command", ["edge_node", "cloud_node", "spikebottlenet.cli"])
def test_help_says_what_to_do_first(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", command, "--help"], capture_output=True, text=True, check=True
    )
    words = " ".join(done.stdout.split())
    first = {
        "edge_node": ["spikebottlenet send photo.jpg", "--cloud", "--config", "deadline"],
        "cloud_node": ["cloud-node --listen 0.0.0.0:50061", "--bundle", "--config"],
        "spikebottlenet.cli": ["spikebottlenet demo", "send", "train", "evaluate", "model"],
    }[command]
    assert [wanted for wanted in first if wanted not in words] == []
