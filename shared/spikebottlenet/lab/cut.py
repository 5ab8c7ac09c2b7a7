"""Training of the cut network, from the un-cut one's weights and under its eye.

    loss = d * KL(teacher || student at temperature) + (1 - d) * cross-entropy
         + features_weight * relative error of the decoder's features
         + lambda_bits * kilobits + lambda_energy * microjoules

where the first two are means over the numbers of timesteps that a step decodes: all of them with
``every_prefix``, else one, drawn. The lambdas grow from 0 over ``ramp``. Terms: ``lab.losses``.
"""

from pathlib import Path

import torch
from torch.nn import functional

from spikebottlenet.accounting.energy import ACCUMULATE_PJ, PJ_PER_UJ
from spikebottlenet.accounting.operations import dense_accumulates
from spikebottlenet.lab.accuracy import top1
from spikebottlenet.lab.config import LossSettings, TrainingConfig
from spikebottlenet.lab.data import ImageSplit
from spikebottlenet.lab.loop import Batch, Run, train
from spikebottlenet.lab.losses import (
    batch_top1,
    bits_per_image,
    distillation_loss,
    ramp_factor,
    task_loss,
)
from spikebottlenet.lab.precision import autocast
from spikebottlenet.lab.workers import ALONE, Workers, workers
from spikebottlenet.model.architecture import Architecture
from spikebottlenet.model.exact import PixelScale
from spikebottlenet.model.split import SplitNetwork
from spikebottlenet.model.uncut import UncutNetwork


def cut_accuracy(
    network: SplitNetwork,
    split: ImageSplit,
    pixels: PixelScale,
    timesteps: int,
    among: Workers = ALONE,
) -> float:
    """Top-1 accuracy in percent with the first ``timesteps`` timesteps; each process must ask."""
    device = next(network.parameters()).device
    return top1(
        lambda images: network(images, timesteps).logits, split, pixels, among=among, device=device
    )


def train_cut(
    config: TrainingConfig,
    architecture: Architecture,
    uncut: UncutNetwork,
    train_split: ImageSplit,
    held_out: ImageSplit,
    pixels: PixelScale,
    folder: Path,
    *,
    tensorboard: bool = False,
) -> SplitNetwork:
    """Train the cut network by ``config.cut``; returns it in evaluation mode."""
    torch.manual_seed(config.seed)
    loss_settings, timesteps = config.loss, architecture.timesteps
    network = SplitNetwork(
        architecture,
        config.neuron.lif_params(),
        fused=config.neuron.fused,
        weight_bits=config.head_bits if config.quantization_aware else None,
    )
    network.load_uncut(uncut.state_dict())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its types
    among = workers()
    uncut.eval().requires_grad_(False).to(among.device)
    full_uj = torch.from_numpy(dense_accumulates(architecture) * ACCUMULATE_PJ / PJ_PER_UJ)
    full_uj = full_uj.float().to(among.device)

    def batch_loss(batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        received = _received(loss_settings, timesteps)
        with autocast(config.precision, batch.images.device):
            with torch.no_grad():
                features = uncut.features(batch.images, architecture.after_stage)
                teacher = uncut.classify(features, architecture.after_stage).float()
            output = network(batch.images, received)
            shorter = [
                network.tail(output.spikes[:t]).float()
                for t in range(1, received if loss_settings.every_prefix else 1)
            ]
        logits = output.logits.float()
        task = torch.stack(
            [
                task_loss(
                    each,
                    batch.targets,
                    teacher,
                    share=loss_settings.distillation,
                    temperature=loss_settings.temperature,
                    label_smoothing=config.cut.label_smoothing,
                )
                for each in (*shorter, logits)
            ]
        ).mean()
        # Of all processes, as the error's mean is.
        scale = among.mean(features.float().square().mean())
        hint = functional.mse_loss(output.features.float(), features.float()) / scale
        bits = bits_per_image(output, network.prior_logits, architecture.spike_shape.bits)
        energy_uj = (output.rates * full_uj).sum()
        ramp = ramp_factor(batch.progress, loss_settings.ramp)
        loss = (
            task
            + loss_settings.features_weight * hint
            + ramp * loss_settings.lambda_bits * bits / 1000.0
            + ramp * loss_settings.lambda_energy * energy_uj
        )
        parts = {
            "train_top1": batch_top1(logits, batch.labels),
            "hint": hint,
            "bits": bits,
            "accumulate_uj": energy_uj,
            "bottleneck_rate": output.rates[-1],
        }
        if shorter and loss_settings.self_distillation:
            own = torch.stack(
                [
                    distillation_loss(each, logits.detach(), loss_settings.temperature)
                    for each in shorter
                ]
            ).mean()
            loss = loss + loss_settings.self_distillation * own
            parts["self_distillation"] = own
        return loss, parts

    def evaluate() -> dict[str, float]:
        return {
            f"held_out_top1_t{t}": cut_accuracy(network, held_out, pixels, t, among)
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
            tensorboard=tensorboard,
            precision=config.precision,
        )
    )
    return network.eval()


def _received(settings: LossSettings, timesteps: int) -> int:
    """Timesteps that this step's tail sees at the most; the same draw in every process."""
    if settings.every_prefix:
        return timesteps
    shorter = float(torch.rand(())) < settings.prefix_probability
    return int(torch.randint(1, timesteps + 1, ())) if shorter else timesteps
