"""README's table of the shipped model: every figure made again from what its command prints."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spikebottlenet.cli.__main__ import app
from spikebottlenet.codec.frame import OVERHEAD_BYTES, dense_bytes
from spikebottlenet.model.architecture import Architecture

ROOT = Path(__file__).parent.parent
SHOW = "`spikebottlenet model show`"


def table() -> dict[str, tuple[str, str]]:
    """What the table says, and from where, by the row's name."""
    text = (ROOT / "README.md").read_text().partition("| | | from |\n|---|---|---|\n")[2]
    rows = [line.strip("|").split("|") for line in text.partition("\n\n")[0].splitlines()]
    return {name.strip(): (says.strip(), source.strip()) for name, says, source in rows}


@pytest.fixture(scope="module")
def expected() -> dict[str, str]:
    """The table made again from the command that it names."""
    command = SHOW.strip("`").split()[1:]
    shown = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    manifest = json.loads(shown.stdout)
    measured = manifest["measured"]
    architecture = Architecture.model_validate(manifest["architecture"])
    bits = architecture.spike_shape.bits
    spike_bits = 8 * (measured["payload_bytes_mean"] - OVERHEAD_BYTES)
    more = measured["uncut_top1"] - measured["top1"]
    ann, edge = measured["ann_head_uj"], measured["edge_compute_uj"]
    return {
        "top-1, cut network": f"{measured['top1']:.2f} %",
        "the same, 8-bit tail": f"{measured['int8_tail_top1']:.2f} %",
        "top-1, un-cut network": f"{measured['uncut_top1']:.2f} % ({more:.2f} points more)",
        "top-5, cut network": f"{measured['top5']:.2f} %",
        "top-1, edge exit alone": f"{measured['edge_exit_top1']:.2f} %",
        "spike bits an image": f"{bits:,}: {architecture.bit_compression:.0f}x fewer than float32 "
        "features at the cut",
        "frame bytes an image": f"{measured['payload_bytes_mean']:.0f} mean, "
        f"{measured['payload_bytes_p99']:.0f} 99th percentile "
        f"({dense_bytes(bits) + OVERHEAD_BYTES} is one bit a site)",
        "of them spikes": f"{spike_bits / measured['context_bits_mean']:.3f} x the context model's "
        f"entropy, {spike_bits / measured['prior_bits_mean']:.2f} x the per-site one",
        "firing rate at the cut": f"{100 * measured['firing_rate']:.1f} %",
        "estimated head energy": f"{edge:.1f} uJ; the same layers as an ordinary network "
        f"{ann:,.0f} uJ ({ann / edge:.1f}x)",
    }


def test_every_figure_comes_from_the_command_beside_it(expected: dict[str, str]) -> None:
    said = table()
    by_show = {name: says for name, (says, source) in said.items() if source == SHOW}
    assert by_show == expected
    assert len(said) == len(expected) + 1


def test_the_one_row_that_a_test_holds_is_held_by_it() -> None:
    says, source = table()["wire bytes an image, 1,000 on one stream"]
    bound = re.findall(r"frame \+ (\d+)", says)
    path = source.strip("`").split()[1]
    assert re.findall(r"wire\.up <= .* \+ (\d+) \* 1000", (ROOT / path).read_text()) == bound


def test_the_logs_lie_in_the_repository() -> None:
    folder = ROOT / "shared" / "spikebottlenet" / "bundles" / "default"
    for name in ("training-uncut.jsonl", "training-cut.jsonl"):
        lines = [json.loads(line) for line in (folder / name).read_text().splitlines()]
        assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
