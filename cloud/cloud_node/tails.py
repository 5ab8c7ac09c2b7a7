"""What answers an image: the tails of this process, or those of others."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from cloud_node.batching import Sender
from cloud_node.waiting import Asked, TailAnswer
from spikebottlenet.runtime.tail_engine import TailEngine


class Tails(Protocol):
    """Tails behind a queue."""

    expired: int  # dropped before they were computed

    @property
    def waiting(self) -> int:
        """Images that wait for a tail."""

    def ask(
        self, tail: TailEngine, asked: Sequence[Asked], *, sender: Sender, alone: bool
    ) -> "list[asyncio.Future[TailAnswer]]":
        """The best classes of each image by a model's tail; ``alone``: no other is under way.

        A future that is cancelled need not be computed any more; one that fails says why with a
        SpikeBottleNetError.
        """
