"""Streams, events and graphs: queues of work, which run at once, or lazily in a random legal order.

Work is a function that takes nothing. With lazy queues it waits until somebody synchronises; then
streams take turns at random as far as events and the null stream allow it, until the stream in
question is empty. A stream that captures keeps its work for the graph instead.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable

from helixml.testing.cuemu.cupy_stand_in.record import Record

__all__ = ["CUDARuntimeError", "Event", "Graph", "Queues", "Stream"]

Work = Callable[[], None]


class CUDARuntimeError(RuntimeError):
    """An error of the CUDA runtime; its name begins the message."""


class Event:
    """A point in a stream: `record` it there, let other streams wait for it."""

    _queues: Queues

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        self._times = not disable_timing
        self._done = True
        self._time = 0.0

    @property
    def done(self) -> bool:
        """Whether the stream has come past it."""
        return self._done

    def record(self, stream: Stream | None = None) -> None:
        """Put the event at the end of what the stream has to do."""
        self._done = False
        self._queues.submit(self._pass, stream)

    def _pass(self) -> None:
        self._done = True
        self._time = time.perf_counter()

    def synchronize(self) -> None:
        """Let the host wait until the event is passed."""
        self._queues.synchronize("event.synchronize", lambda: self._done)


class Graph:
    """Work that a stream has captured; `launch` does it."""

    _queues: Queues

    def __init__(self, work: list[Work]) -> None:
        self._work = work

    def launch(self, stream: Stream | None = None) -> None:
        """Do the work in the stream, or the current one."""
        for work in self._work:
            self._queues.submit(work, stream)

    def upload(self, stream: Stream | None = None) -> None:
        """Prepare a launch: nothing here."""


class Stream:
    """A queue of work; a context in which it is the current one."""

    _queues: Queues
    null: Stream

    def __init__(
        self,
        null: bool = False,
        non_blocking: bool = False,
        ptds: bool = False,
        priority: int | None = None,
    ) -> None:
        self._null = null or ptds
        self._blocking = not non_blocking
        self._work: deque[tuple[int, Work | Event]] = deque()
        self._captured: list[Work] | None = None
        self._outer: list[Stream] = []
        self.ptr = 0 if self._null else id(self)
        self.priority = priority or 0
        self._queues.streams.append(self)

    def __enter__(self) -> Stream:
        self._outer.append(self._queues.current)
        return self.use()

    def __exit__(self, *exception: object) -> None:
        self._queues.current = self._outer.pop()

    def use(self) -> Stream:
        """Make it the current stream."""
        self._queues.current = self
        return self

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return not self._work

    def synchronize(self) -> None:
        """Let the host wait until the stream has done its work."""
        self._queues.synchronize("stream.synchronize", lambda: not self._work)

    def record(self, event: Event | None = None) -> Event:
        """Record an event in the stream."""
        event = self._queues.new_event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Let later work wait for the event."""
        if self._captured is None and not event.done:
            self._queues.put(self, event)

    def launch_host_func(self, callback: Callable[[object], object], arg: object) -> None:
        """Call a function of the host when the stream comes there."""
        self._queues.submit(lambda: (callback(arg), None)[1], self)

    def begin_capture(self, mode: int | None = None) -> None:
        """Keep what is given to the stream from now on for a graph.

        Raises
        ------
        CUDARuntimeError : it is the null stream, or captures already.
        """
        if self._null:
            raise CUDARuntimeError(
                "cudaErrorStreamCaptureUnsupported: the null stream cannot capture"
            )
        if self._captured is not None:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream captures already")
        self._captured = []

    def end_capture(self) -> Graph:
        """Return the graph of what was captured."""
        if self._captured is None:
            raise CUDARuntimeError("cudaErrorIllegalState: the stream does not capture")
        work, self._captured = self._captured, None
        return self._queues.new_graph(work)

    def is_capturing(self) -> bool:
        """Tell whether it captures."""
        return self._captured is not None


class Queues:
    """All streams of a stand-in."""

    def __init__(self, record: Record, *, lazy: bool, seed: int) -> None:
        self.lazy = lazy
        self.record = record
        self.streams: list[Stream] = []
        self._random = random.Random(seed)
        self._of_thread = threading.local()
        self._number = itertools.count()
        self.Stream = type("Stream", (Stream,), {"_queues": self})
        self.Event = type("Event", (Event,), {"_queues": self})
        self.Graph = type("Graph", (Graph,), {"_queues": self})
        self.null: Stream = self.Stream(null=True)
        setattr(self.Stream, "null", self.null)  # noqa: B010 - mypy knows no more than a type

    @property
    def current(self) -> Stream:
        """The stream that gets work of this thread for which none is named."""
        stream: Stream = getattr(self._of_thread, "stream", self.null)
        return stream

    @current.setter
    def current(self, stream: Stream) -> None:
        self._of_thread.stream = stream

    def new_event(self) -> Event:
        """Return an event of this stand-in."""
        event: Event = self.Event()
        return event

    def new_graph(self, work: list[Work]) -> Graph:
        """Return a graph of this stand-in."""
        graph: Graph = self.Graph(work)
        return graph

    @property
    def deferred(self) -> bool:
        """Whether work that is submitted now is done later."""
        return self.lazy or self.current.is_capturing()

    def submit(self, work: Work, stream: Stream | None = None) -> None:
        """Do the work in the stream, or the current one."""
        stream = self.current if stream is None else stream
        if stream._captured is not None:
            stream._captured.append(work)
        elif self.lazy:
            self.put(stream, work)
        else:
            work()

    def put(self, stream: Stream, work: Work | Event) -> None:
        """Queue work, or a wait for an event."""
        stream._work.append((next(self._number), work))

    def synchronize(self, cause: str, until: Callable[[], bool] | None = None) -> None:
        """Count a wait of the host, and run streams until a condition holds; None: all are empty.

        Raises
        ------
        CUDARuntimeError : the current stream captures, or the condition can never hold.
        """
        if self.current.is_capturing():
            raise CUDARuntimeError(
                f"cudaErrorStreamCaptureUnsupported: {cause} during the capture of a graph"
            )
        self.record.synchronizations[cause] += 1
        while not (until() if until else not any(stream._work for stream in self.streams)):
            ready = [stream for stream in self.streams if self._is_ready(stream)]
            if not ready:
                raise CUDARuntimeError(
                    f"cudaErrorIllegalState: {cause} waits for nothing that comes"
                )
            _, work = self._random.choice(ready)._work.popleft()
            if not isinstance(work, Event):
                work()

    def wait_for_current(self, cause: str) -> None:
        """Wait for the current stream, as a copy to the host does."""
        stream = self.current
        self.synchronize(cause, lambda: not stream._work)

    def _is_ready(self, stream: Stream) -> bool:
        if not stream._work:
            return False
        number, work = stream._work[0]
        if isinstance(work, Event) and not work.done:
            return False
        # the null stream waits for what blocking streams got before, and they for it
        for other in self.streams:
            related = other._null if stream._blocking and not stream._null else other._blocking
            if not stream._blocking or other is stream or not related or not other._work:
                continue
            if other._work[0][0] < number:
                return False
        return True
