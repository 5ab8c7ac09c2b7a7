from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetModelRequest(_message.Message):
    __slots__ = ("files", "fingerprint")
    FILES_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedScalarFieldContainer[str]
    fingerprint: bytes
    def __init__(self, files: _Optional[_Iterable[str]] = ..., fingerprint: _Optional[bytes] = ...) -> None: ...

class ModelPart(_message.Message):
    __slots__ = ("manifest_json", "chunk")
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    manifest_json: str
    chunk: FileChunk
    def __init__(self, manifest_json: _Optional[str] = ..., chunk: _Optional[_Union[FileChunk, _Mapping]] = ...) -> None: ...

class FileChunk(_message.Message):
    __slots__ = ("name", "offset", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    offset: int
    data: bytes
    def __init__(self, name: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class InferRequest(_message.Message):
    __slots__ = ("fingerprint", "frames", "traceparent")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    frames: _containers.RepeatedScalarFieldContainer[bytes]
    traceparent: str
    def __init__(self, fingerprint: _Optional[bytes] = ..., frames: _Optional[_Iterable[bytes]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("open", "sequence", "frame", "more", "deadline_ms", "batch", "traceparent")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    open: Open
    sequence: int
    frame: bytes
    more: bool
    deadline_ms: int
    batch: RequestBatch
    traceparent: str
    def __init__(self, open: _Optional[_Union[Open, _Mapping]] = ..., sequence: _Optional[int] = ..., frame: _Optional[bytes] = ..., more: bool = ..., deadline_ms: _Optional[int] = ..., batch: _Optional[_Union[RequestBatch, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class RequestBatch(_message.Message):
    __slots__ = ("requests", "check")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[StreamRequest]
    check: int
    def __init__(self, requests: _Optional[_Iterable[_Union[StreamRequest, _Mapping]]] = ..., check: _Optional[int] = ...) -> None: ...

class Open(_message.Message):
    __slots__ = ("fingerprint", "stream_id", "deadline_ms", "ordered", "checked", "check", "batches", "brief")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    CHECKED_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    BRIEF_FIELD_NUMBER: _ClassVar[int]
    fingerprint: bytes
    stream_id: bytes
    deadline_ms: int
    ordered: bool
    checked: bool
    check: int
    batches: bool
    brief: bool
    def __init__(self, fingerprint: _Optional[bytes] = ..., stream_id: _Optional[bytes] = ..., deadline_ms: _Optional[int] = ..., ordered: bool = ..., checked: bool = ..., check: _Optional[int] = ..., batches: bool = ..., brief: bool = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("accepted", "prediction", "failure", "drain", "batch")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    prediction: Prediction
    failure: Failure
    drain: Drain
    batch: AnswerBatch
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., prediction: _Optional[_Union[Prediction, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., batch: _Optional[_Union[AnswerBatch, _Mapping]] = ...) -> None: ...

class AnswerBatch(_message.Message):
    __slots__ = ("answers", "check")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[StreamResponse]
    check: int
    def __init__(self, answers: _Optional[_Iterable[_Union[StreamResponse, _Mapping]]] = ..., check: _Optional[int] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("max_in_flight", "batch_bytes", "usual")
    MAX_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    USUAL_FIELD_NUMBER: _ClassVar[int]
    max_in_flight: int
    batch_bytes: int
    usual: Prediction
    def __init__(self, max_in_flight: _Optional[int] = ..., batch_bytes: _Optional[int] = ..., usual: _Optional[_Union[Prediction, _Mapping]] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("sequence", "classes", "timesteps", "enough", "queue_us", "tail_us", "cloud_compute_uj", "check", "chances")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    TIMESTEPS_FIELD_NUMBER: _ClassVar[int]
    ENOUGH_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    TAIL_US_FIELD_NUMBER: _ClassVar[int]
    CLOUD_COMPUTE_UJ_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    CHANCES_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    classes: _containers.RepeatedScalarFieldContainer[int]
    timesteps: int
    enough: bool
    queue_us: int
    tail_us: int
    cloud_compute_uj: float
    check: int
    chances: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, sequence: _Optional[int] = ..., classes: _Optional[_Iterable[int]] = ..., timesteps: _Optional[int] = ..., enough: bool = ..., queue_us: _Optional[int] = ..., tail_us: _Optional[int] = ..., cloud_compute_uj: _Optional[float] = ..., check: _Optional[int] = ..., chances: _Optional[_Iterable[int]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("sequence", "code", "message", "retry_after_ms", "check")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    code: int
    message: str
    retry_after_ms: int
    check: int
    def __init__(self, sequence: _Optional[int] = ..., code: _Optional[int] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ..., check: _Optional[int] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
