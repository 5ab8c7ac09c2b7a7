"""What answers an image: the tails of this process, or those of others."""

import asyncio
from typing import Protocol

from cloud_node.batching import Sender
from cloud_node.waiting import Image, TailAnswer
from spikebottlenet.runtime.tail_engine import TailEngine


class Tails(Protocol):
    """Tails behind a queue."""

    expired: int  # dropped before they were computed

    @property
    def waiting(self) -> int:
        """Images that wait for a tail."""

    def ask(
        self,
        tail: TailEngine,
        image: Image,
        *,
        deadline_s: float | None,
        sender: Sender,
        alone: bool,
    ) -> "asyncio.Future[TailAnswer]":
        """The best classes of an image by a model's tail; ``alone``: no other is under way.

        Cancelled, it need not be computed any more.

        Raises:
            SpikeBottleNetError: why there are none, where that is known at once; else the future
                has it.
        """
