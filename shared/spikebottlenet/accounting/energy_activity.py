"""Where a head's firing rates come from: images, a manifest, or an assumption."""

from typing import NamedTuple

from spikebottlenet.accounting.energy import ACCUMULATE_PJ, MAC_PJ, PJ_PER_UJ
from spikebottlenet.accounting.energy_head import Activity, activity_at
from spikebottlenet.accounting.operations import fixed_accumulates
from spikebottlenet.bundle import Manifest
from spikebottlenet.errors import ConfigError
from spikebottlenet.model.architecture import Architecture, head_layers


class SeenActivity(NamedTuple):
    """Activity of a mean image, and in words where it is from."""

    activity: Activity
    source: str
    images: int = 0  # that ran for it

    def rates(self, architecture: Architecture) -> dict[str, float]:
        """Spikes a site a timestep, by neuron layer."""
        layers = zip(head_layers(architecture), self.activity.maps, strict=True)
        return {
            layer.name: float(fired.mean()) / (layer.channels * architecture.timesteps)
            for layer, fired in layers
        }


def assumed(architecture: Architecture, rate: float) -> SeenActivity:
    """The same firing rate in every layer."""
    activity = activity_at(architecture, [rate] * len(head_layers(architecture)))
    return SeenActivity(activity, f"assumed, {rate:g} in every layer")


def from_manifest(manifest: Manifest) -> SeenActivity:
    """The mean rate that the manifest's measured energy amounts to, in every layer.

        rate = ((edge_compute_uj - stem_macs * 4.6 pJ) / 0.9 pJ - fixed) / dense accumulates

    Accumulates are then those that were measured; how they lie in the layers is not in a manifest.

    Raises:
        ConfigError: nothing was measured.
    """
    if manifest.measured is None:
        raise ConfigError(
            f"the manifest of {manifest.name} has no measurement: give --data, or assume a --rate"
        )
    counts = manifest.operations
    picojoules = manifest.measured.edge_compute_uj * PJ_PER_UJ - counts.stem_macs * MAC_PJ
    dense = sum(layer.dense_accumulates for layer in counts.head_layers)
    fixed = fixed_accumulates(manifest.architecture)
    rate = max(0.0, (picojoules / ACCUMULATE_PJ - fixed) / dense)
    layers = head_layers(manifest.architecture)
    source = (
        f"the manifest's mean over {manifest.measured.images} images, "
        f"{rate:.3f} taken in every layer"
    )
    return SeenActivity(activity_at(manifest.architecture, [rate] * len(layers)), source)
