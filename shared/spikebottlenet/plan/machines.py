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
        return Added(
            split=mean(each.split for each in own),
            edge=mean(each.edge for each in own),
            uncut=mean(each.uncut for each in own),
            measured=True,
            busy=any(each.busy for each in own),
        )


class Added(NamedTuple):
    """Milliseconds that real processes take beyond the bare parts."""

    split: float  # edge-node, link and cloud-node
    edge: float  # edge-node alone
    uncut: float  # a plain gRPC server
    measured: bool
    busy: bool = False  # parts alone took longer than in their processes


def _added(profile: Profile) -> Added:
    edge, cloud, loopback = profile.edge, profile.cloud, profile.loopback
    if edge is None or cloud is None or loopback is None:
        raise ConfigError("a profile with loopback figures has both sides: make it again")
    own = profile.architecture.after_stage
    head = edge.preprocess.median + head_at(edge, own).time.median + edge.encode.median
    tail = cloud.decode.median + tail_ms(cloud, own)
    split = loopback.split.median - head - tail
    alone = loopback.edge_exit.median - head - edge.edge_exit.median
    uncut = loopback.uncut.median - cloud.uncut.median
    # Parts that took longer alone than in their process met a busier machine: nothing is added.
    return Added(
        split=max(0.0, split),
        edge=max(0.0, alone),
        uncut=max(0.0, uncut),
        measured=True,
        busy=min(split, alone, uncut) < 0,
    )


def head_at(edge: EdgeSide, stage: int) -> HeadCost:
    """The head up to one cut.

    Raises:
        ConfigError: the profile does not have it.
    """
    for head in edge.heads:
        if head.after_stage == stage:
            return head
    raise _incomplete("head", stage)


def tail_ms(cloud: CloudSide, stage: int) -> float:
    """Decoder and tail behind one cut, one image.

    Raises:
        ConfigError: the profile does not have it.
    """
    for tail in cloud.tails:
        if tail.after_stage == stage:
            return tail.time.median
    raise _incomplete("tail", stage)


def _incomplete(half: str, stage: int) -> ConfigError:
    return ConfigError(
        f"a profile has no {half} for the cut after stage {stage}: make it again with "
        "`spikebottlenet profile`"
    )
