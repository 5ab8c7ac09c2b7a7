"""Training of the cut network, from the un-cut one's weights and under its eye.

    loss = d * KL(teacher || student at temperature) + (1 - d) * cross-entropy
         + features_weight * relative error of the decoder's features
         + lambda_bits * kilobits + lambda_energy * microjoules

Kilobits: entropy of the bottleneck spikes of one image under a learned prior for each timestep and
channel. Microjoules: mean firing rates times each layer's fan-out, 0.9 pJ an accumulate.
Distillation: Hinton et al., arXiv 1503.02531.
"""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from spikebottlenet.accounting.energy import ACCUMULATE_PJ, PJ_PER_UJ
from spikebottlenet.accounting.operations import dense_accumulates
from spikebottlenet.lab.config import TrainingConfig
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.loop import Run, train
from spikebottlenet.lab.uncut import EVALUATION_BATCH
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.exact import PixelScale
from spikebottlenet.model.split import SplitNetwork, SplitOutput
from spikebottlenet.model.uncut import UncutNetwork


def bits_per_image(output: SplitOutput, prior_logits: torch.Tensor, sites: int) -> torch.Tensor:
    """Entropy of one image's spikes [T, B, C, H, W] under the prior, scaled to ``sites`` sites."""
    spikes = output.spikes.float()
    nats = functional.binary_cross_entropy_with_logits(
        prior_logits[:, None, :, None, None].expand_as(spikes), spikes, reduction="mean"
    )
    return nats / float(np.log(2.0)) * sites


def distillation_loss(
    logits: torch.Tensor, teacher: torch.Tensor, temperature: float
) -> torch.Tensor:
    """KL divergence from the teacher at a temperature, times its square to keep gradients' size."""
    divergence = functional.kl_div(
        functional.log_softmax(logits / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def cut_accuracy(
    network: SplitNetwork, split: ImageSplit, pixels: PixelScale, timesteps: int
) -> float:
    """Top-1 accuracy in percent with the first ``timesteps`` timesteps."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(split), EVALUATION_BATCH):
            batch = slice(start, start + EVALUATION_BATCH)
            images = pixels.normalise(torch.from_numpy(split.images[batch]))
            labels = torch.from_numpy(split.labels[batch])
            right += int((network(images, timesteps).logits.argmax(1) == labels).sum())
    return 100.0 * right / max(len(split), 1)


def train_cut(
    config: TrainingConfig,
    architecture: Architecture,
    uncut: UncutNetwork,
    train_split: ImageSplit,
    held_out: ImageSplit,
    pixels: PixelScale,
    folder: Path,
) -> SplitNetwork:
    """Train the cut network by ``config.cut``; returns it in evaluation mode."""
    torch.manual_seed(config.seed)
    loss_settings, timesteps = config.loss, architecture.timesteps
    network = SplitNetwork(architecture, config.neuron.lif_params(), fused=config.neuron.fused)
    network.load_uncut(uncut.state_dict())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
    uncut.eval().requires_grad_(False)
    full_uj = torch.from_numpy(dense_accumulates(architecture) * ACCUMULATE_PJ / PJ_PER_UJ).float()

    def batch_loss(
        images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, float]]:
        shorter = float(torch.rand(())) < loss_settings.prefix_probability
        received = int(torch.randint(1, timesteps + 1, ())) if shorter else timesteps
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with torch.no_grad():
                features = uncut.features(images, architecture.after_stage)
                teacher = uncut.classify(features, architecture.after_stage).float()
            output = network(images, received)
        logits = output.logits.float()
        task = functional.cross_entropy(logits, labels, label_smoothing=config.cut.label_smoothing)
        taught = distillation_loss(logits, teacher, loss_settings.temperature)
        hint = functional.mse_loss(output.features, features) / features.square().mean()
        bits = bits_per_image(output, network.prior_logits, architecture.spike_shape.bits)
        energy_uj = (output.rates * full_uj).sum()
        share = loss_settings.distillation
        loss = (
            share * taught
            + (1.0 - share) * task
            + loss_settings.features_weight * hint.float()
            + loss_settings.lambda_bits * bits / 1000.0
            + loss_settings.lambda_energy * energy_uj
        )
        return loss, {
            "train_top1": 100.0 * float((logits.argmax(1) == labels).float().mean()),
            "hint": float(hint.detach()),
            "bits": float(bits.detach()),
            "accumulate_uj": float(energy_uj.detach()),
            "bottleneck_rate": float(output.rates[-1].detach()),
        }

    def evaluate() -> dict[str, float]:
        return {
            f"held_out_top1_t{t}": cut_accuracy(network, held_out, pixels, t)
            for t in range(1, timesteps + 1)
        }

    train(
        Run(
            name="cut",
            network=network,
            schedule=config.cut,
            split=train_split,
            pixels=pixels,
            batch_loss=batch_loss,
            evaluate=evaluate,
            folder=folder,
            seed=config.seed,
        )
    )
    return network.eval()
