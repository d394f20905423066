"""HTTP answers of a node without a network: what is read of them is the transport's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lake.transport import HttpTransport

Answer = tuple[int, Mapping[str, str], bytes]


class PlayedHttp(HttpTransport):
    """Answers with what ``serve`` returns for the URL and the body that was sent."""

    def __init__(self, serve: Callable[[str, bytes], Answer]) -> None:
        super().__init__()
        self.serve = serve

    def _sent(self, url: str, body: bytes, timeout: float) -> Answer:
        del timeout
        return self.serve(url, body)
