"""BottleNet++: a learned encoder and decoder of one convolution each, 8-bit symbols at the cut.

    symbols = round(255 * sigmoid(BN(W_e * features))) / 255
    features' = ReLU(BN(W_d * symbols))

3x3 convolutions; where the side shrinks, 2x2 of stride 2 and its transpose. Rounding passes the
gradient on. Trained as its paper says: from a trained un-cut network, encoder and decoder first
with the network frozen, then all of it, on cross-entropy. Left out: its channel noise and the
noise level that its encoder is told. Ours: optimizers, learning rates and number of epochs, those
of the cut network's own training, in each of the two steps.

Source: Shao and Zhang, arXiv 1910.14315, and the authors' code.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from spikebottlenet.accounting.operations import ann_head_macs
from spikebottlenet.codec.frame import OVERHEAD_BYTES
from spikebottlenet.errors import ConfigError
from spikebottlenet.lab.baselines.features import zstd_bytes
from spikebottlenet.lab.baselines.ground import Ground
from spikebottlenet.lab.baselines.tally import Answers, Rival, count, rival_point
from spikebottlenet.lab.baselines.training import train_rival
from spikebottlenet.lab.bundle_point import head_estimates
from spikebottlenet.lab.results import EnergyEstimate, Method, Point
from spikebottlenet.model.uncut import UncutNetwork

SYMBOL_BITS = 8
_TOP = 2**SYMBOL_BITS - 1
_SMALL_SIDE = 2  # side of the kernel where the feature map shrinks


class Symbols(NamedTuple):
    """How many symbols cross the cut."""

    channels: int
    shrink: bool  # half the side each way

    @property
    def name(self) -> str:
        """As points call it."""
        return f"{self.channels} channels" + (", half side" if self.shrink else "")

    @property
    def log(self) -> str:
        """As checkpoints and logs are called."""
        return f"bottlenetpp-{self.channels}{'h' if self.shrink else ''}"


def parse_symbols(text: str) -> Symbols:
    """``16``: 16 channels; ``16h``: 16 channels at half the side.

    Raises:
        ConfigError: not such a text.
    """
    number = text.strip().removesuffix("h")
    if not number.isascii() or not number.isdigit() or int(number) < 1:
        raise ConfigError(f"found channels {text.strip()!r}, wanted a number such as 16, or 16h")
    return Symbols(int(number), text.strip().endswith("h"))


class BottleNetPP(nn.Module):
    """The un-cut network with an encoder and a decoder at its cut."""

    def __init__(self, uncut: UncutNetwork, *, cut: int, features: int, symbols: Symbols) -> None:
        super().__init__()
        self.uncut = uncut
        self.cut = cut
        self.frozen = False
        inner = symbols.channels
        if symbols.shrink:
            self.encoder: nn.Module = nn.Conv2d(
                features, inner, _SMALL_SIDE, stride=_SMALL_SIDE, bias=False
            )
            self.decoder: nn.Module = nn.ConvTranspose2d(
                inner, features, _SMALL_SIDE, stride=_SMALL_SIDE, bias=False
            )
        else:
            self.encoder = nn.Conv2d(features, inner, 3, padding=1, bias=False)
            self.decoder = nn.Conv2d(inner, features, 3, padding=1, bias=False)
        self.encoder_norm = nn.BatchNorm2d(inner)
        self.decoder_norm = nn.BatchNorm2d(features)

    def train(self, mode: bool = True) -> "BottleNetPP":
        """The frozen network keeps the statistics of its norms."""
        super().train(mode)
        if self.frozen:
            self.uncut.eval()
        return self

    def encode(self, features: torch.Tensor) -> torch.Tensor:
        """Symbols [B, C, H, W], whole numbers of 1 / 255."""
        if self.encoder.kernel_size == (_SMALL_SIDE, _SMALL_SIDE):
            odd = features.shape[-1] % _SMALL_SIDE
            features = functional.pad(features, (0, odd, 0, odd))
        real = torch.sigmoid(self.encoder_norm(self.encoder(features)))
        symbols: torch.Tensor = real + (torch.round(real * _TOP) / _TOP - real).detach()
        return symbols

    def decode(self, symbols: torch.Tensor, side: int) -> torch.Tensor:
        """Features [B, F, side, side]."""
        features = self.decoder_norm(self.decoder(symbols))[..., :side, :side]
        received: torch.Tensor = functional.relu(features)
        return received

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map normalised images [B, 3, H, W] to logits [B, classes]."""
        features = self.uncut.features(images, self.cut)
        received = self.decode(self.encode(features), features.shape[-1])
        return self.uncut.classify(received, self.cut)


def train_bottlenetpp(ground: Ground, symbols: Symbols) -> BottleNetPP:
    """Train in two steps, each kept and taken up again; returns it in evaluation mode."""
    torch.manual_seed(ground.config.seed)
    network = BottleNetPP(
        copy.deepcopy(ground.uncut),
        cut=ground.cut,
        features=ground.architecture.cut_channels,
        symbols=symbols,
    )
    network.frozen = True
    train_rival(ground, network, f"{symbols.log}-frozen")
    network.frozen = False
    network.uncut.requires_grad_(True)
    train_rival(ground, network, symbols.log)
    return network.eval().requires_grad_(False)


def bottlenetpp_rival(ground: Ground, network: BottleNetPP, *, zstd: bool) -> Rival:
    """Head, encoder, symbols as bytes, decoder, tail."""

    def answer(images: torch.Tensor) -> Answers:
        features = network.uncut.features(ground.pixels.normalise(images), network.cut)
        symbols = network.encode(features)
        rows = torch.round(symbols * _TOP).to(torch.uint8).flatten(1).numpy()
        sizes = zstd_bytes(rows) if zstd else [rows.shape[1] + OVERHEAD_BYTES] * len(rows)
        received = network.decode(symbols, features.shape[-1])
        return Answers(network.uncut.classify(received, network.cut), sizes)

    return answer


def encoder_macs(ground: Ground, symbols: Symbols) -> int:
    """Multiply-accumulates of the encoder, padding left out as everywhere."""
    side = ground.architecture.cut_side
    if symbols.shrink:
        taps = (side // _SMALL_SIDE * _SMALL_SIDE + side % _SMALL_SIDE) ** 2
    else:
        taps = (3 * side - 2) ** 2
    return taps * ground.architecture.cut_channels * symbols.channels


def symbol_bits(ground: Ground, symbols: Symbols) -> int:
    """Bits of an image's symbols."""
    side = ground.architecture.cut_side
    out = -(-side // _SMALL_SIDE) if symbols.shrink else side
    return symbols.channels * out**2 * SYMBOL_BITS


def both_codings(
    ground: Ground,
    network: BottleNetPP,
    symbols: Symbols,
    method: Method,
    energy: EnergyEstimate,
    *,
    log: str,
    command: str,
    chosen_on: str = "",
) -> Iterator[Point]:
    """Its points: symbols as they are, and through Zstandard."""
    for zstd in (False, True):
        setting = symbols.name + (" + zstd" if zstd else "")
        rival = bottlenetpp_rival(ground, network, zstd=zstd)
        yield rival_point(
            ground,
            method,
            setting,
            count(rival, ground.test, title=f"{method.value} {setting}"),
            bits=symbol_bits(ground, symbols),
            energy=energy,
            log=log,
            command=command,
            chosen_on=chosen_on,
        )


def bottlenetpp_points(
    ground: Ground, trained: Sequence[tuple[Symbols, BottleNetPP]], *, command: str
) -> Iterator[Point]:
    """Two points for each trained network."""
    for symbols, network in trained:
        macs = ann_head_macs(ground.architecture) + encoder_macs(ground, symbols)
        log = f"{symbols.log}.jsonl"
        energy = head_estimates(ground.architecture, macs, 0)
        yield from both_codings(
            ground, network, symbols, Method.BOTTLENETPP, energy, log=log, command=command
        )
