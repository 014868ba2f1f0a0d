"""The fast path's side of a connection: requests with a known head, and their answers in one piece.

A head is known by its bytes: another request with the same bytes was read as HTTP and answered with 200, so that these
need not be read again. `service.http.fast_path` runs the request.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.http.context import KEY, RequestContext
from service.http.fast_path import Pending
from service.process import head
from service.process.cycle import whole_answer
from service.process.wire import Reader, Wire

MOST_KNOWN = 1024
"""Heads that are remembered, of at most `LONGEST_KNOWN` bytes each."""
LONGEST_KNOWN = 1024


class FastConnection(HttpToolsProtocol):
    """A connection that may have one request on the fast path. Its class reads all others in `_read`."""

    _reader: Reader

    def __init__(self, *arguments: Any, wire: Wire, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._wire = wire
        self._pending: Pending | None = None
        """The request on the fast path."""
        self._came = b""
        """The bytes of that request, or of one whose head may be remembered."""
        self._resumed: RequestContext | None = None
        """The context of a request that has left the fast path and is read again."""
        self._answered = 0.0
        """Loop time of the last answer from the fast path."""

    def _read(self, data: bytes) -> None:
        raise NotImplementedError  # `Protocol`, the only subclass, reads

    def _begin_fast(self, data: bytes) -> bool:
        """Begin a request on the fast path, if its head is known and all of its body is there. `data` are the first
        bytes of a request, and no other is being answered."""
        self._came = data
        lines, _, content = data.partition(head.END)
        known = self._wire.heads.get(lines)
        if known is None or len(content) != known.length:
            return False
        begun = known.path.begin(known, content, self)
        if not isinstance(begun, Pending):
            self._resumed = begun
            return False
        if not self._answered:  # the timer of a connection without a request
            self._unset_keepalive_if_required()
        self._pending = begun
        self._wire.begun += 1
        return True

    def answer(self, request_id: str, body: bytes, media_type: str, lines: bytes) -> None:
        """Send the answer to the request on the fast path."""
        self._pending = None
        state = self.server_state
        self.transport.write(whole_answer(state.default_headers, request_id, body, media_type, lines))
        state.total_requests += 1
        # To look, when the timer ends, if there was an answer meanwhile costs less than a timer for each answer.
        self._answered = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idle(self.timeout_keep_alive)

    def resume(self) -> None:
        """Read the request on the fast path again: it has an error, or an answer that takes the ordinary path."""
        assert self._pending is not None
        self._resumed, self._pending = self._pending.context, None
        self._read(self._came)

    def _leave_fast_path(self) -> None:
        """Read the request on the fast path again, from its beginning, if there is one."""
        if self._pending is not None:
            self._pending.withdraw()
            self.resume()

    def _abandon_fast_path(self) -> None:
        """The client has hung up."""
        if self._pending is not None:
            self._pending.abandon()
            self._pending = None

    def _remember(self, cycle: RequestResponseCycle) -> None:
        """Remember the head of an answered request, if the like may take the fast path."""
        scope: Any = cycle.scope
        lines, end, content = self._came.partition(head.END)
        self._came = b""
        path, context, heads = getattr(self.app, "fast", None), scope.get(KEY), self._wire.heads
        if path is None or context is None or not cycle.keep_alive or not end or len(lines) > LONGEST_KNOWN:
            return
        known = path.known(scope.get("route"), scope.get("path_params", {}), context)
        if known is not None and len(content) == known.length:
            if len(heads) >= MOST_KNOWN:
                heads.clear()
            heads[lines] = known

    def _watch_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection, unless it has a request on the fast path or had one just now."""
        self.timeout_keep_alive_task = None
        left = self._answered + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._watch_idle(left)
        elif self._pending is not None:
            self._watch_idle(self.timeout_keep_alive)
        else:
            self._reader.close()
