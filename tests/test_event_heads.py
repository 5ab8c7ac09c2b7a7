"""Heads that see an event camera's frames: one a timestep, the same spikes in every engine."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from spikebottlenet.accounting.energy_head import activity_at, ordinary_head, spiking_head
from spikebottlenet.accounting.energy_profile import ENERGY_PROFILES
from spikebottlenet.accounting.operations import ann_head_macs, stem_macs
from spikebottlenet.bundle import EventFrames, Preprocess
from spikebottlenet.lab.onnx_head import onnx_head
from spikebottlenet.lab.requantise import on_integers
from spikebottlenet.model.architecture import Architecture, head_layers
from spikebottlenet.model.exact import ExactHead, PixelScale, fold_head
from spikebottlenet.model.head import SpikingHead
from spikebottlenet.model.integer_head import IntegerHead
from spikebottlenet.model.layers import Input
from spikebottlenet.model.neuron import LIFParams
from spikebottlenet.model.uncut import uncut_network
from spikebottlenet.runtime.onnx_head import OnnxHead
from tests.integer_reference import spikes_in_integers
from tests.plain_head import plain_layers

SCALE = PixelScale((0.0, 0.0), (3 / 255, 3 / 255))
OPTIONS = [
    {"timesteps": 1},
    {"timesteps": 3},
    {"timesteps": 3, "residual": "membrane", "after_stage": 2},
    {"timesteps": 2, "stem": "imagenet", "residual": "sew_iand", "side": 32},
    {"timesteps": 4, "backbone": "mobilenet_v1", "after_stage": 3, "threshold": 0.1},
]


def architecture(**options: object) -> Architecture:
    plain = {"width": 8, "classes": 4, "side": 16, "after_stage": 1, "channels": 4}
    return Architecture.model_validate(
        plain | {"threshold": 0.4, "leak": 0.5, "input": Input.EVENTS} | options
    )


def trained_like(wanted: Architecture) -> SpikingHead:
    torch.manual_seed(5)
    head = SpikingHead(wanted, LIFParams(wanted.threshold, wanted.leak), fused=False).train()
    with torch.no_grad():
        for _ in range(10):
            head(SCALE.normalise(torch.from_numpy(counts(wanted, 8))))
    return head.eval()


def counts(wanted: Architecture, recordings: int) -> np.ndarray:
    shape = (recordings, wanted.side, wanted.side, wanted.samples)
    return np.random.default_rng(2).poisson(0.8, shape).astype(np.uint8)


def exact(wanted: Architecture) -> ExactHead:
    return ExactHead(wanted, fold_head(trained_like(wanted), wanted, SCALE), SCALE.mean_colour)


@pytest.mark.parametrize("options", OPTIONS)
def test_every_engine_gives_the_spikes_of_frame_after_frame(
    tmp_path: Path, options: dict[str, object]
) -> None:
    wanted = architecture(**options)
    head, pixels = exact(wanted), counts(wanted, 5)
    as_integers = on_integers(head, 8)
    with torch.inference_mode():
        references = (
            [layer.numpy() for layer in plain_layers(head, torch.from_numpy(pixels))],
            spikes_in_integers(as_integers, pixels),
        )
        for each, layers in zip((head, as_integers), references, strict=True):
            of_torch = each.run(torch.from_numpy(pixels))[0].numpy()
            (tmp_path / "head.onnx").write_bytes(onnx_head(each).SerializeToString())
            engine = OnnxHead(tmp_path / "head.onnx", wanted, threads=2)
            engine.warm_up()
            assert 0.001 < of_torch.mean() < 0.999
            assert (of_torch == layers[-1]).all()
            assert (engine.run(pixels).spikes == layers[-1]).all()
            assert (stepped(each, pixels) == layers[-1]).all()


def stepped(head: ExactHead | IntegerHead, pixels: np.ndarray) -> np.ndarray:
    """Of the graph of one timestep, which is given that timestep's frame alone."""
    model = onnx_head(head, step=True).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    resting = 128 if isinstance(head, IntegerHead) else 0
    state = {
        given.name: np.full(
            (len(pixels), *given.shape[1:]),
            resting,
            np.uint8 if isinstance(head, IntegerHead) else np.float32,
        )
        for given in session.get_inputs()[1:]
    }
    names, spikes = [output.name for output in session.get_outputs()], []
    for frame in np.split(pixels, head.architecture.timesteps, axis=3):
        found = dict(zip(names, session.run(None, {"pixels": frame, **state}), strict=True))
        state = {name: found[f"next_{name}"] for name in state}
        spikes.append(found["spikes"])
    return np.concatenate(spikes)


def test_a_timestep_knows_no_later_frame() -> None:
    wanted = architecture(timesteps=3)
    head, pixels = exact(wanted), counts(wanted, 5)
    other = pixels.copy()
    other[..., 4:] = 7
    with torch.inference_mode():
        first, changed = (head.run(torch.from_numpy(each))[0].numpy() for each in (pixels, other))
    assert (first[:2] == changed[:2]).all()
    assert (first[2] != changed[2]).any()


def test_folding_keeps_the_trained_head_up_to_rounding() -> None:
    """Spikes at random would differ at a fifth of the sites."""
    wanted = architecture(timesteps=3)
    trained, pixels = trained_like(wanted), torch.from_numpy(counts(wanted, 20))
    head = ExactHead(wanted, fold_head(trained, wanted, SCALE), SCALE.mean_colour)
    with torch.inference_mode():
        different = head.run(pixels)[0] != trained(SCALE.normalise(pixels)).spikes
    assert different.float().mean() < 0.03


def test_a_head_starts_from_the_mean_of_the_uncut_networks_frames() -> None:
    wanted = architecture(timesteps=3)
    uncut = uncut_network(wanted).eval()
    head = SpikingHead(wanted, LIFParams(), fused=False)
    head.load_uncut(uncut.state_dict())
    of_all = uncut.conv1.weight.detach()
    assert of_all.shape[1] == 6
    mean = (of_all[:, :2] + of_all[:, 2:4] + of_all[:, 4:]) / 3
    assert torch.allclose(head.convolutions["conv1"].weight, mean)
    loaded = head.convolutions["layer1/0/conv1"].weight
    assert torch.equal(loaded, uncut.state_dict()["layer1.0.conv1.weight"])


def test_every_frame_costs_the_first_convolution() -> None:
    """Beside an image of as many channels as a frame has, by the same kernel."""
    one, three = architecture(timesteps=1), architecture(timesteps=3)
    taps = ((3 * 16 - 2) ** 2) * 2 * 8  # of a 3 x 3 kernel on 16 x 16 sites, padding left out
    assert stem_macs(one) == taps
    assert stem_macs(three) == 3 * taps
    assert ann_head_macs(three) - ann_head_macs(one) == 2 * taps
    for profile in ENERGY_PROFILES.values():
        silent = [
            spiking_head(each, activity_at(each, [0.0] * len(head_layers(each))), profile)
            for each in (one, three)
        ]
        assert silent[1].macs == pytest.approx(3 * silent[0].macs)
        dense = [ordinary_head(each, profile) for each in (one, three)]
        assert dense[1].macs > dense[0].macs


def test_a_bundle_wants_as_many_frames_as_timesteps() -> None:
    wanted = architecture(timesteps=3)
    events = EventFrames(width=34, height=34, timesteps=3)
    frames = Preprocess(side=16, mean_colour=(0, 0, 0), events=events)
    assert frames.shape == (16, 16, wanted.samples)
    assert "events" not in Preprocess(side=16, mean_colour=(1, 2, 3)).model_dump()
    assert "input" not in Architecture(classes=4).model_dump()
