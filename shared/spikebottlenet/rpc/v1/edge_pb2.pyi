from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_UNSPECIFIED: _ClassVar[Source]
    SOURCE_CLOUD: _ClassVar[Source]
    SOURCE_EDGE_EXIT: _ClassVar[Source]
SOURCE_UNSPECIFIED: Source
SOURCE_CLOUD: Source
SOURCE_EDGE_EXIT: Source

class ClassifyRequest(_message.Message):
    __slots__ = ("image", "sequence", "deadline_ms", "store", "request_key", "model", "traceparent")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    sequence: int
    deadline_ms: int
    store: bool
    request_key: bytes
    model: str
    traceparent: str
    def __init__(self, image: _Optional[bytes] = ..., sequence: _Optional[int] = ..., deadline_ms: _Optional[int] = ..., store: bool = ..., request_key: _Optional[bytes] = ..., model: _Optional[str] = ..., traceparent: _Optional[str] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("sequence", "record", "failure")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    record: InferenceRecord
    failure: ClassifyFailure
    def __init__(self, sequence: _Optional[int] = ..., record: _Optional[_Union[InferenceRecord, _Mapping]] = ..., failure: _Optional[_Union[ClassifyFailure, _Mapping]] = ...) -> None: ...

class ClassifyFailure(_message.Message):
    __slots__ = ("code", "message", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    retry_after_ms: int
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class ClassScore(_message.Message):
    __slots__ = ("label", "probability")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    label: str
    probability: float
    def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class InferenceRecord(_message.Message):
    __slots__ = ("label", "confidence", "top5", "source", "timesteps", "payload_bytes", "message_bytes", "wire_bytes_up", "wire_bytes_down", "spikes", "firing_rate", "edge_macs", "edge_accumulates", "edge_compute_uj", "edge_radio_uj", "ann_head_uj", "cloud_compute_uj", "latency", "request_id", "model", "fingerprint", "stored")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    TOP5_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TIMESTEPS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WIRE_BYTES_UP_FIELD_NUMBER: _ClassVar[int]
    WIRE_BYTES_DOWN_FIELD_NUMBER: _ClassVar[int]
    SPIKES_FIELD_NUMBER: _ClassVar[int]
    FIRING_RATE_FIELD_NUMBER: _ClassVar[int]
    EDGE_MACS_FIELD_NUMBER: _ClassVar[int]
    EDGE_ACCUMULATES_FIELD_NUMBER: _ClassVar[int]
    EDGE_COMPUTE_UJ_FIELD_NUMBER: _ClassVar[int]
    EDGE_RADIO_UJ_FIELD_NUMBER: _ClassVar[int]
    ANN_HEAD_UJ_FIELD_NUMBER: _ClassVar[int]
    CLOUD_COMPUTE_UJ_FIELD_NUMBER: _ClassVar[int]
    LATENCY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    label: str
    confidence: float
    top5: _containers.RepeatedCompositeFieldContainer[ClassScore]
    source: Source
    timesteps: int
    payload_bytes: int
    message_bytes: int
    wire_bytes_up: int
    wire_bytes_down: int
    spikes: int
    firing_rate: float
    edge_macs: int
    edge_accumulates: int
    edge_compute_uj: float
    edge_radio_uj: float
    ann_head_uj: float
    cloud_compute_uj: float
    latency: Latency
    request_id: str
    model: str
    fingerprint: str
    stored: bool
    def __init__(self, label: _Optional[str] = ..., confidence: _Optional[float] = ..., top5: _Optional[_Iterable[_Union[ClassScore, _Mapping]]] = ..., source: _Optional[_Union[Source, str]] = ..., timesteps: _Optional[int] = ..., payload_bytes: _Optional[int] = ..., message_bytes: _Optional[int] = ..., wire_bytes_up: _Optional[int] = ..., wire_bytes_down: _Optional[int] = ..., spikes: _Optional[int] = ..., firing_rate: _Optional[float] = ..., edge_macs: _Optional[int] = ..., edge_accumulates: _Optional[int] = ..., edge_compute_uj: _Optional[float] = ..., edge_radio_uj: _Optional[float] = ..., ann_head_uj: _Optional[float] = ..., cloud_compute_uj: _Optional[float] = ..., latency: _Optional[_Union[Latency, _Mapping]] = ..., request_id: _Optional[str] = ..., model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., stored: bool = ...) -> None: ...

class Latency(_message.Message):
    __slots__ = ("preprocess_ms", "head_ms", "encode_ms", "network_ms", "queue_ms", "tail_ms", "total_ms")
    PREPROCESS_MS_FIELD_NUMBER: _ClassVar[int]
    HEAD_MS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_MS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    TAIL_MS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MS_FIELD_NUMBER: _ClassVar[int]
    preprocess_ms: float
    head_ms: float
    encode_ms: float
    network_ms: float
    queue_ms: float
    tail_ms: float
    total_ms: float
    def __init__(self, preprocess_ms: _Optional[float] = ..., head_ms: _Optional[float] = ..., encode_ms: _Optional[float] = ..., network_ms: _Optional[float] = ..., queue_ms: _Optional[float] = ..., tail_ms: _Optional[float] = ..., total_ms: _Optional[float] = ...) -> None: ...

class ResultsRequest(_message.Message):
    __slots__ = ("after", "request_ids", "limit", "answered_only")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_ONLY_FIELD_NUMBER: _ClassVar[int]
    after: int
    request_ids: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    answered_only: bool
    def __init__(self, after: _Optional[int] = ..., request_ids: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ..., answered_only: bool = ...) -> None: ...

class StoredResult(_message.Message):
    __slots__ = ("position", "request_id", "request_key", "state", "top5", "timesteps", "model", "fingerprint", "stored_unix_ms", "reason")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[StoredResult.State]
        STATE_WAITING: _ClassVar[StoredResult.State]
        STATE_ANSWERED: _ClassVar[StoredResult.State]
        STATE_DEAD: _ClassVar[StoredResult.State]
        STATE_DROPPED: _ClassVar[StoredResult.State]
    STATE_UNSPECIFIED: StoredResult.State
    STATE_WAITING: StoredResult.State
    STATE_ANSWERED: StoredResult.State
    STATE_DEAD: StoredResult.State
    STATE_DROPPED: StoredResult.State
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_KEY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TOP5_FIELD_NUMBER: _ClassVar[int]
    TIMESTEPS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    STORED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    position: int
    request_id: str
    request_key: bytes
    state: StoredResult.State
    top5: _containers.RepeatedCompositeFieldContainer[ClassScore]
    timesteps: int
    model: str
    fingerprint: str
    stored_unix_ms: int
    reason: str
    def __init__(self, position: _Optional[int] = ..., request_id: _Optional[str] = ..., request_key: _Optional[bytes] = ..., state: _Optional[_Union[StoredResult.State, str]] = ..., top5: _Optional[_Iterable[_Union[ClassScore, _Mapping]]] = ..., timesteps: _Optional[int] = ..., model: _Optional[str] = ..., fingerprint: _Optional[str] = ..., stored_unix_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
