"""Probabilities on the wire: two bytes at most, off by less than anybody shows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikebottlenet.rpc.chances import CERTAIN, from_chances, to_chances
from spikebottlenet.rpc.v1.coinference_pb2 import Prediction


@given(st.lists(st.floats(0, 1, width=32), max_size=5))
def test_probabilities_come_back(probabilities: list[float]) -> None:
    message = Prediction(chances=to_chances(probabilities).tolist()).SerializeToString()
    assert len(message) <= 2 + 2 * len(probabilities)
    back = from_chances(Prediction.FromString(message).chances)
    assert back == pytest.approx(probabilities, abs=0.5 / CERTAIN + 1e-9)


def test_certain_and_impossible_are_exact() -> None:
    assert from_chances(to_chances([0.0, 1.0]).tolist()) == (0.0, 1.0)
