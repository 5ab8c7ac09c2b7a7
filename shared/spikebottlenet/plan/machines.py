"""The two machines of a plan, by their profiles, and what real processes add on them."""

from statistics import mean
from typing import NamedTuple

from spikebottlenet.errors import ConfigError
from spikebottlenet.plan.profile import CloudSide, EdgeSide, HeadCost, Profile


class Profiles(NamedTuple):
    """The machines that a plan is for."""

    edge: Profile  # whose edge side counts
    cloud: Profile  # whose cloud side counts

    def sides(self) -> tuple[EdgeSide, CloudSide]:
        """Both.

        Raises:
            ConfigError: one was not measured.
        """
        if self.edge.edge is None:
            raise ConfigError(
                "the edge's profile has no edge side: `spikebottlenet profile --part edge`"
            )
        if self.cloud.cloud is None:
            raise ConfigError(
                "no profile of the cloud: give --cloud-profile, made there by "
                "`spikebottlenet profile --part cloud`, or measure both parts here"
            )
        return self.edge.edge, self.cloud.cloud

    def added(self) -> "Added":
        """What processes add on these machines; zero where no profile has it."""
        own = [_added(each) for each in {id(p): p for p in self}.values() if each.loopback]
        if not own:
            return Added(0.0, 0.0, 0.0, measured=False)
        split, edge, uncut = (mean(each[part] for each in own) for part in range(len(own[0]) - 1))
        return Added(split, edge, uncut, measured=True)


class Added(NamedTuple):
    """Milliseconds that real processes take beyond the bare parts."""

    split: float  # edge-node, link and cloud-node
    edge: float  # edge-node alone
    uncut: float  # a plain gRPC server
    measured: bool


def _added(profile: Profile) -> Added:
    edge, cloud, loopback = profile.edge, profile.cloud, profile.loopback
    if edge is None or cloud is None or loopback is None:
        raise ConfigError("a profile with loopback figures has both sides: make it again")
    own = profile.architecture.after_stage
    head = edge.preprocess.median + head_at(edge, own).time.median + edge.encode.median
    tail = cloud.decode.median + tail_ms(cloud, own)
    return Added(
        # Parts that took longer alone than in their process met a busier machine: nothing is added.
        split=max(0.0, loopback.split.median - head - tail),
        edge=max(0.0, loopback.edge_exit.median - head - edge.edge_exit.median),
        uncut=max(0.0, loopback.uncut.median - cloud.uncut.median),
        measured=True,
    )


def head_at(edge: EdgeSide, stage: int) -> HeadCost:
    """The head up to one cut."""
    return next(head for head in edge.heads if head.after_stage == stage)


def tail_ms(cloud: CloudSide, stage: int) -> float:
    """Decoder and tail behind one cut, one image."""
    return next(tail.time.median for tail in cloud.tails if tail.after_stage == stage)
