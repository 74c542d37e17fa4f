"""Interlaced pictures made progressive with FFmpeg's bwdif, one for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction

import av
from av.filter import Graph

from spatialme.video.decoding import Decoded


def deinterlaced(items: Iterable[Decoded], time_base: Fraction, *, found: Callable[[], None]) -> Iterator[Decoded]:
    """Pass progressive pictures through and, from the first interlaced one on, filter all that are marked interlaced.

    Keeps count, order and time stamps; holds back two pictures. `found` is called once, when the filter starts.
    """
    graph: Graph | None = None
    shape: tuple[int, int, str] | None = None  # one graph serves one picture size
    waiting: deque[Decoded] = deque()
    for item in items:
        if graph is None and not item.frame.interlaced_frame:
            yield item
            continue
        if graph is None:
            found()
        if graph is None or shape != _shape(item.frame):
            yield from _drain(graph, waiting)
            graph, shape = _bwdif(item.frame, time_base), _shape(item.frame)
        item.frame.pts, item.frame.time_base = item.pts, time_base
        waiting.append(item)
        graph.vpush(item.frame)
        yield from _pull(graph, waiting)
    yield from _drain(graph, waiting)


def _shape(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _drain(graph: Graph | None, waiting: deque[Decoded]) -> Iterator[Decoded]:
    if graph is not None:
        graph.vpush(None)
        yield from _pull(graph, waiting)


def _pull(graph: Graph, waiting: deque[Decoded]) -> Iterator[Decoded]:
    while True:
        try:
            frame = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        item = waiting.popleft()
        frame.pts, frame.duration = item.pts, item.frame.duration
        yield replace(item, frame=frame)


def _bwdif(first: av.VideoFrame, time_base: Fraction) -> Graph:
    graph = Graph()
    source = graph.add(
        "buffer",
        video_size=f"{first.width}x{first.height}",
        pix_fmt=first.format.name,
        time_base=str(time_base),
        pixel_aspect="1/1",
        colorspace=str(int(first.colorspace)),
        range=str(int(first.color_range)),
    )
    # one picture out per picture in; only those marked interlaced are touched
    bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    wanted = graph.add("format", first.format.name)
    graph.link_nodes(source, bwdif, wanted, graph.add("buffersink")).configure()
    return graph
