"""The shape of what crosses the cut."""

from typing import NamedTuple


class SpikeShape(NamedTuple):
    """Sizes of the bottleneck spike tensor of one image, [T, C, H, W]."""

    timesteps: int
    channels: int
    height: int
    width: int

    @property
    def sites(self) -> int:
        """Spike sites of one timestep, which is also its bits before entropy coding."""
        return self.channels * self.height * self.width

    @property
    def bits(self) -> int:
        """Spike bits of all timesteps."""
        return self.timesteps * self.sites
