"""The trace file: spans as events in the JSON that Perfetto and Chrome's about:tracing read.

The format is that of Google's "Trace event format" document: complete events ("X") with times in
microseconds, counters ("C") and names of threads ("M").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from helixml.profiler.frames import Frame
from helixml.profiler.results import Span

__all__ = ["write"]


def write(
    path: str | Path,
    roots: Iterable[Span],
    threads: Mapping[int, str],
    start: int,
) -> None:
    """Write the spans, and the memory held; ``start``, in nanoseconds, is time 0."""
    numbers: dict[int, int] = {}
    events: list[dict[str, Any]] = []
    frames: list[Frame] = []
    for root in roots:
        thread = numbers.setdefault(root.frame.thread, len(numbers))
        spans = list(root.walk())
        events += [_event(span, thread, start) for span in spans]
        frames += [span.frame for span in spans]
    for known, number in numbers.items():
        name = threads.get(known, f"thread {number}")
        events.append(_of(number, ph="M", name="thread_name", args={"name": name}))
    events += [
        _of(0, ph="C", name="memory", ts=(frame.end - start) / 1e3, args={"bytes": frame.live})
        for frame in sorted(frames, key=lambda frame: frame.end)
    ]
    text = json.dumps({"traceEvents": events, "displayTimeUnit": "ns"})
    Path(path).write_text(text + "\n", encoding="utf-8")


def _event(span: Span, thread: int, start: int) -> dict[str, Any]:
    frame = span.frame
    name, args = span.module, {}
    if frame.kind != "module":
        name = frame.subject.name + (" backward" if frame.kind == "backward" else "")
        if span.module:
            args["module"] = span.module
        if span.shapes:
            args["shapes"] = str(span.shapes)
        if span.flops is not None:
            args["flops"] = str(span.flops)  # a viewer's numbers end at 2^53
            args["bytes"] = str(span.bytes)
    if frame.error:
        args["error"] = frame.error
    begin, length = (frame.start - start) / 1e3, (frame.end - frame.start) / 1e3
    return _of(thread, ph="X", cat=frame.kind, name=name, ts=begin, dur=length, args=args)


def _of(thread: int, **fields: Any) -> dict[str, Any]:  # Any: whatever JSON holds
    return {"pid": 1, "tid": thread, **fields}
