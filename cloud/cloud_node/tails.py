"""What answers an image: the tails of this process, or those of others."""

from collections.abc import Sequence
from typing import Protocol

from cloud_node.batching import Sender
from cloud_node.job import Job
from spikebottlenet.runtime.tail_engine import TailEngine


class Tails(Protocol):
    """Tails behind a queue."""

    expired: int  # dropped before they were computed

    @property
    def waiting(self) -> int:
        """Images that wait for a tail."""

    def ask(self, tail: TailEngine, jobs: Sequence[Job], *, sender: Sender, alone: bool) -> None:
        """Have each image answered by a model's tail; ``alone``: no other is under way."""
