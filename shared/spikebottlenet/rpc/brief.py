"""Brief answers: what every answer of a stream would repeat is said once, in Accepted, and the time
in the tail once for those of a batch that were in it together.

A batch of them has one check, its own: where that is wrong none of them is taken, and the edge asks
again for all.
"""

from collections.abc import Iterable

from spikebottlenet.rpc.v1.coinference_pb2 import Prediction, StreamResponse


def leave_out(response: StreamResponse, usual: Prediction) -> None:
    """Leave out the check, and what is as usual."""
    if response.HasField("prediction"):
        prediction = response.prediction
        prediction.check = 0
        if (
            prediction.timesteps == usual.timesteps
            and prediction.cloud_compute_uj == usual.cloud_compute_uj
        ):
            prediction.timesteps = 0
            prediction.cloud_compute_uj = 0
    elif response.HasField("failure"):
        response.failure.check = 0


def leave_out_repeated(answers: Iterable[StreamResponse]) -> None:
    """Leave out times in the tail that are those of the answer before."""
    before = 0
    for answer in answers:
        if answer.HasField("prediction"):
            tail_us = answer.prediction.tail_us
            if tail_us == before:
                answer.prediction.tail_us = 0
            before = tail_us


def fill_in_repeated(answers: Iterable[StreamResponse]) -> None:
    """Put them back."""
    before = 0
    for answer in answers:
        if answer.HasField("prediction"):
            before = answer.prediction.tail_us = answer.prediction.tail_us or before


def fill_in(prediction: Prediction, usual: Prediction) -> None:
    """Put back what was left out."""
    if not prediction.timesteps:
        prediction.timesteps = usual.timesteps
        prediction.cloud_compute_uj = usual.cloud_compute_uj
