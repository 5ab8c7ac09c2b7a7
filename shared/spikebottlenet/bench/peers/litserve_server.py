"""The un-cut network behind LitServe: ``python -m ... --port N --batch N --threads N``.

One worker and one API server. The image file is the whole body of the request, which costs fewer
bytes than the multipart form or base64 of its examples.
"""

import argparse
from typing import Annotated, Any

import litserve
from fastapi import Body

from spikebottlenet.bench.peers.uncut import Pixels, Uncut, load_uncut

_BATCH_TIMEOUT_S = 0.005  # waited for a batch to fill; without it LitServe makes batches of one


class UncutAPI(litserve.LitAPI):  # type: ignore[misc]  # it has no types
    """LitServe's four steps."""

    def __init__(self, bundle: str, *, batch: int, threads: int) -> None:
        timeout_s = _BATCH_TIMEOUT_S if batch > 1 else 0.0
        super().__init__(max_batch_size=batch, batch_timeout=timeout_s)
        self._bundle, self._batch, self._threads = bundle, batch, threads
        self._uncut: Uncut | None = None

    def setup(self, device: Any) -> None:
        """Load in the worker process."""
        self._uncut = load_uncut(self._bundle, threads=self._threads)

    def decode_request(self, request: Annotated[bytes, Body()]) -> Pixels:
        """Image file to pixels."""
        return self._loaded.decode(request)

    def batch(self, inputs: list[Pixels]) -> list[Pixels]:
        """Leave the images apart; they are stacked with the rest of the work."""
        return inputs

    def unbatch(self, output: list[dict[str, float]]) -> list[dict[str, float]]:
        """One answer an image."""
        return output

    def predict(self, x: Any) -> Any:
        """One image without batching, a list with it."""
        if self._batch > 1:
            return self._loaded.classify(list(x))
        return self._loaded.classify([x])[0]

    def encode_response(self, output: dict[str, float]) -> dict[str, float]:
        """Classes and probabilities, as JSON."""
        return output

    @property
    def _loaded(self) -> Uncut:
        if self._uncut is None:
            raise RuntimeError("setup has not run")
        return self._uncut


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--bundle", default="default")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()
    api = UncutAPI(options.bundle, batch=options.batch, threads=options.threads)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(
        host="127.0.0.1",
        port=options.port,
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
