"""A reply and the record that it was made of."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from edge_node.head_worker import Began, EncodedImage
from edge_node.record import Draft, Sending, cloud_answer, edge_exit_answer
from spikebottlenet.accounting.energy import RADIO_PROFILES, compute_uj
from spikebottlenet.accounting.record import LabelScore, LatencyMs, Source
from spikebottlenet.rpc.records import unpack_record
from spikebottlenet.rpc.v1.coinference_pb2 import Prediction

RADIO = next(iter(RADIO_PROFILES.values()))
BUNDLE: Any = SimpleNamespace(
    model="small@abc",
    fingerprint="abc",
    manifest=SimpleNamespace(
        class_names=["cat", "cup", "dog"], operations=SimpleNamespace(ann_head_macs=5000)
    ),
)


def encoded() -> EncodedImage:
    """An image of which three of eight sites spiked."""
    spikes = np.zeros((2, 1, 1, 2, 2), np.uint8)
    spikes.flat[[0, 3, 5]] = 1
    return EncodedImage(
        frame=bytes(20),
        spikes=spikes,
        pixels=np.zeros((4, 4, 3), np.uint8),
        macs=1000,
        accumulates=300,
        preprocess_ms=0.5,
        head_ms=4.25,
        encode_ms=0.125,
        began=Began(1.0, 2.0, 3.0),
    )


def test_a_record_of_the_cloud_s_answer_has_what_each_side_said() -> None:
    draft = Draft(BUNDLE, RADIO, encoded())
    begun = draft.begin()
    prediction = Prediction(
        classes=[2, 0], chances=[9830, 1], timesteps=2, queue_us=250, tail_us=3000
    )
    answer = cloud_answer(prediction, waited_ms=5.0)
    sending = Sending("stream/7", message_bytes=30, wire_bytes_up=44, wire_bytes_down=50)
    reply = draft.reply(answer, sending, total_ms=11.0)
    assert reply.message is begun
    record = reply.record()
    assert record.label == "dog"
    # As the cloud said it: a message's probabilities have fewer digits.
    assert record.top5 == (LabelScore("dog", 9830 / 16383), LabelScore("cat", 1 / 16383))
    assert record.confidence == 9830 / 16383 != unpack_record(reply.message).confidence
    assert record.source is reply.source is Source.CLOUD
    assert (record.spikes, record.firing_rate) == (3, 3 / 8)
    assert (record.edge_macs, record.edge_accumulates) == (1000, 300)
    assert record.edge_compute_uj == compute_uj(1000, 300)
    assert record.edge_radio_uj == RADIO.send_uj(44)
    assert record.ann_head_uj == compute_uj(5000, 0)
    assert (record.payload_bytes, record.message_bytes) == (20, 30)
    assert (record.wire_bytes_up, record.wire_bytes_down) == (44, 50)
    assert record.latency_ms == LatencyMs(0.5, 4.25, 0.125, 1.75, 0.25, 3.0, 11.0)
    assert (record.request_id, record.model, record.stored) == ("stream/7", "small@abc", False)


def test_a_record_of_the_edge_exit_s_answer_was_not_in_the_cloud() -> None:
    draft = Draft(BUNDLE, RADIO, encoded())
    probabilities = np.array([0.1, 0.7, 0.2], np.float32)
    reply = draft.reply(
        edge_exit_answer(probabilities, encoded()), Sending("stream/8", 0, stored=True), total_ms=6
    )
    record = reply.record()
    assert record.source is Source.EDGE_EXIT
    assert [score.label for score in record.top5] == ["cup", "dog", "cat"]
    assert record.confidence == float(probabilities[1])
    assert record.stored
    assert (record.timesteps, record.wire_bytes_up, record.edge_radio_uj) == (
        2,
        0,
        RADIO.send_uj(0),
    )
    assert record.cloud_compute_uj == record.latency_ms.network == record.latency_ms.tail == 0
