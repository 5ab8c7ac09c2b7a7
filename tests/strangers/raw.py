"""HTTP/2 by hand, for what no gRPC library would send."""

import socket
import struct
from collections import Counter

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RemoteSettingsChanged, ResponseReceived, StreamReset, TrailersReceived

SERVICE = "/spikebottlenet.rpc.v1.CoInference/"
_PLACES = 5_000  # connections from one loopback address: a port each
_BIND_ADDRESS_NO_PORT = 24  # ip(7): a port is looked for when the other side is known


def connect(port: int, number: int = 0) -> socket.socket:
    """TCP to this machine, from one of many loopback addresses so that ports suffice.

    It ends with a reset, which keeps no port back for a minute.
    """
    line = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        line.settimeout(10)
        line.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.bind((f"127.0.1.{1 + number // _PLACES}", 0))
        line.connect(("127.0.0.1", port))
    except OSError:
        line.close()
        raise
    return line


def prefixed(message: bytes, *, announced: int | None = None) -> bytes:
    """gRPC's five bytes before a message; ``announced`` lies about its length."""
    return struct.pack(">BI", 0, len(message) if announced is None else announced) + message


class RawHttp2:
    """One connection; it reads only when told to."""

    def __init__(self, port: int) -> None:
        self._line = connect(port)
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._http.initiate_connection()
        self._flush()
        while not any(isinstance(event, RemoteSettingsChanged) for event in self._receive()):
            pass
        self.statuses: Counter[str] = Counter()

    def open(self, method: str, token: str | None, data: bytes) -> None:
        """Begin a call, send ``data`` of it, and leave it there."""
        stream = self._http.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "http"), (":path", SERVICE + method)]
        headers += [
            (":authority", "cloud"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        if token is not None:
            headers.append(("authorization", f"Bearer {token}"))
        self._http.send_headers(stream, headers)
        if data:
            self._http.send_data(stream, data)
        self._flush()

    def read_statuses(self, count: int, *, within_s: float) -> None:
        """Read until ``count`` calls have ended, or nothing comes for a while."""
        self._line.settimeout(within_s)
        while self.statuses.total() < count:
            try:
                events = self._receive()
            except TimeoutError:
                return
            except OSError as error:
                self.statuses[type(error).__name__] += 1
                return
            for event in events:
                if isinstance(event, ResponseReceived | TrailersReceived):
                    status = dict(event.headers).get("grpc-status")
                    if status is not None:
                        self.statuses[status] += 1
                elif isinstance(event, StreamReset) and event.error_code:
                    self.statuses[f"reset {int(event.error_code)}"] += 1
            self._flush()

    def close(self) -> None:
        self._line.close()

    def _receive(self):
        data = self._line.recv(65536)
        if not data:
            raise ConnectionResetError
        return self._http.receive_data(data)

    def _flush(self) -> None:
        self._line.sendall(self._http.data_to_send())
