"""What answers an image: the tails of this process, or those of others."""

from typing import Protocol

from cloud_node.batching import Sender
from cloud_node.waiting import Image, TailAnswer
from spikebottlenet.runtime.tail_engine import TailEngine


class Tails(Protocol):
    """Tails behind a queue."""

    expired: int  # dropped before they were computed

    async def classify(
        self,
        tail: TailEngine,
        image: Image,
        *,
        deadline_s: float | None,
        sender: Sender,
        alone: bool,
    ) -> TailAnswer:
        """Class probabilities of an image by a model's tail; ``alone``: no other is under way.

        Raises:
            SpikeBottleNetError: why there are none.
        """
