"""docs/wire.md against bytes of a real connection: its tables are what the reader here goes by."""

import asyncio
import re
import struct
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from spikebottlenet.bundle import HEAD_ONNX, Bundle
from spikebottlenet.codec.frame import Scheme, bind_frame
from spikebottlenet.rpc.channel import make_channel
from spikebottlenet.rpc.checks import frame_context, with_check
from spikebottlenet.rpc.v1 import coinference_pb2
from spikebottlenet.rpc.v1.coinference_pb2 import Prediction, StreamRequest, StreamResponse
from spikebottlenet.rpc.v1.coinference_pb2_grpc import CoInferenceStub
from spikebottlenet.runtime.onnx_head import OnnxHead

PAGE = Path(__file__).parent.parent / "docs" / "wire.md"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, SETTINGS = 0, 4
STREAM_ID = bytes(range(16))
ANSWER_WITHIN_S = 30


def table(column: str) -> list[dict[str, str]]:
    """The page's one table that has this column."""
    blocks = [block for block in PAGE.read_text(encoding="utf-8").split("\n\n") if block[0] == "|"]
    tables = [
        [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()]
        for block in blocks
    ]
    (found,) = (rows for rows in tables if column in rows[0])
    heading, _, *rows = found
    return [dict(zip(heading, row, strict=True)) for row in rows]


def cut(data: bytes, column: str, **sizes: int) -> dict[str, bytes]:
    """Bytes taken apart by a table of places and sizes, which may name n or m."""

    def number(text: str) -> int:
        found = re.fullmatch(r"(?:(\d+)|([nm])(?: - (\d+))?)", text)
        assert found, text
        return int(found[1]) if found[1] else sizes[found[2]] - int(found[3] or 0)

    parts, reached = {}, 0
    for row in table(column):
        at, size = number(row["at"]), number(row["bytes"])
        assert at == reached, row  # no byte is left out
        parts[row[column]] = data[at : at + size]
        reached = at + size
    assert reached == len(data)
    return parts


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint as the page describes it, and where it ends."""
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(message: bytes, column: str) -> dict[str, int | bytes]:
    """A message read by a table of tags."""
    rows = {int(row["tag"], 16): row for row in table(column)}
    found: dict[str, int | bytes] = {}
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        row = rows[tag]
        if row["value"].startswith("varint"):
            found[row[column]], at = varint(message, at)
            continue
        size = 4
        if row["value"].startswith("length"):
            size, at = varint(message, at)
        found[row[column]] = message[at : at + size]
        at += size
    return found


async def sent_data_frame(request: StreamRequest) -> bytes:
    """The DATA frame that a channel of ours writes for a message, off a socket."""
    seen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(struct.pack(">BHBBI", 0, 0, SETTINGS, 0, 0))
        try:
            assert await reader.readexactly(len(PREFACE)) == PREFACE
            while not seen.done():
                head = await reader.readexactly(9)
                body = await reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] == DATA:
                    seen.set_result(head + body)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with (
            make_channel(f"127.0.0.1:{port}", max_message_bytes=1 << 20) as channel,
            asyncio.timeout(ANSWER_WITHIN_S),
        ):
            call = CoInferenceStub(channel).Stream()
            await call.write(request)
            whole = await seen
            call.cancel()
    return whole


async def test_a_frame_on_the_wire_reads_as_the_page_says(
    bundle: Bundle, crops: np.ndarray
) -> None:
    sequence, codec = 300, bundle.codec()
    head = OnnxHead(bundle.path(HEAD_ONNX), bundle.manifest.architecture, threads=1)
    spikes = head.run(crops[:1]).spikes[:, 0]
    context = frame_context(STREAM_ID, sequence, more=True, previous=299)
    frame = bind_frame(codec.encode_spikes(spikes), context)
    request = StreamRequest(sequence=sequence, frame=frame, more=True, deadline_ms=1900)
    whole = await sent_data_frame(request)

    outer = cut(whole, "http2 field", m=len(whole) - 14)
    assert int.from_bytes(outer["length of what follows byte 8"], "big") == len(whole) - 9
    assert (outer["type"], outer["flags"], outer["compressed"]) == (b"\0", b"\0", b"\0")
    message = outer["message"]
    assert int.from_bytes(outer["message length"], "big") == len(message)

    read = fields(message, "request field")
    assert read == {"sequence": sequence, "frame": frame, "more": 1, "deadline_ms": 1900}

    parts = cut(frame, "frame field", n=len(frame))
    first = parts["version and scheme"][0]
    schemes = {int(row["scheme"]): row["name"] for row in table("scheme")}
    assert (first >> 4, schemes[first & 15]) == (1, "context")
    assert (parts["first timestep"], parts["number of timesteps"]) == (b"\0", bytes([len(spikes)]))
    bound = STREAM_ID + struct.pack("<Q", sequence) + b"\1" + struct.pack("<Q", 299)
    assert len(bound) == 33
    computed = google_crc32c.value(frame[:-4] + bound)
    assert int.from_bytes(parts["check"], "little") == computed
    assert (codec.decode_spikes(frame, context=bound).spikes == spikes).all()


def test_every_scheme_is_on_the_page_and_no_other() -> None:
    found = {int(row["scheme"]): row["name"] for row in table("scheme")}
    assert found == {scheme.value: scheme.name.lower() for scheme in Scheme}


def test_a_dense_payload_has_a_bit_a_site_in_the_order_that_the_page_says(bundle: Bundle) -> None:
    t, c, h, w = bundle.manifest.architecture.spike_shape
    spikes = np.zeros((t, c, h, w), dtype=np.uint8)
    spikes[1, 2, 3, 4] = 1
    frame = bundle.codec().encode_spikes(spikes, scheme="dense")
    payload = cut(frame, "frame field", n=len(frame))["payload"]
    site = ((1 * c + 2) * h + 3) * w + 4
    assert len(payload) == t * c * h * w // 8
    assert [index for index, byte in enumerate(payload) if byte] == [site // 8]
    assert payload[site // 8] == 128 >> site % 8


def test_an_answer_reads_as_the_page_says() -> None:
    prediction = Prediction(
        sequence=300,
        classes=[7, 200],
        chances=[12_288, 100],
        timesteps=2,
        enough=True,
        queue_us=150,
        tail_us=12_000,
        cloud_compute_uj=1.5,
    )
    bare = prediction.SerializeToString()
    answer = StreamResponse(prediction=with_check(prediction, STREAM_ID)).SerializeToString()
    inner = fields(answer, "response field")["prediction"]
    read = fields(inner, "prediction field")
    assert (read["sequence"], read["timesteps"], read["enough"]) == (300, 2, 1)
    assert (read["queue_us"], read["tail_us"]) == (150, 12_000)
    assert read["classes"] == b"\x07\xc8\x01"
    assert read["chances"] == b"\x80\x60\x64"
    assert struct.unpack("<f", read["cloud_compute_uj"]) == (1.5,)
    assert struct.unpack("<I", read["check"]) == (google_crc32c.value(STREAM_ID + bare),)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("request field", "StreamRequest"),
        ("response field", "StreamResponse"),
        ("prediction field", "Prediction"),
    ],
)
def test_no_field_of_the_contract_is_left_out(column: str, message: str) -> None:
    contract = getattr(coinference_pb2, message).DESCRIPTOR.fields
    listed = {row[column]: int(row["tag"], 16) >> 3 for row in table(column)}
    assert listed == {field.name: field.number for field in contract}
