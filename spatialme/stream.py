"""Streaming: a bounded prefetch thread, and windows of neighbouring frames that never cross a cut."""

from __future__ import annotations

import itertools
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from spatialme.types import Clip, Timed, cut, join

Item = TypeVar("Item")


@dataclass(frozen=True)
class Window(Generic[Timed]):
    """The frames a temporal stage may look at while it answers for the core ones."""

    frames: tuple[Timed, ...]  # one value per frame (T = 1 each), consecutive, of one shot
    core: slice  # which of them are to be answered for

    def joined(self) -> Timed:
        """All frames as one value; copies."""
        return join(self.frames)


def windows(
    values: Iterable[Timed], *, lookback: int, lookahead: int, clip_of: Callable[[Timed], Clip]
) -> Iterator[Window[Timed]]:
    """Yield one window per incoming value, whose core is that value's frames.

    Args:
        values: Clips (or values that hold one) in order; shots may have any number of them.
        lookback: Frames before the core that a window shows, fewer at the start of a shot.
        lookahead: Frames after the core, fewer at the end of a shot.
        clip_of: Gives the value's `Clip`, for its shot marks.

    Holds at most ``lookback + lookahead`` frames and two incoming values at a time.
    """
    frames: deque[Timed] = deque()  # of the shot at hand, from `lookback` before the next core on
    cores: deque[int] = deque()  # sizes of the values not yet answered
    before = 0  # frames at the head of `frames` that are context already answered

    def ready(shot_ended: bool) -> Iterator[Window[Timed]]:
        nonlocal before
        while cores and (shot_ended or len(frames) >= before + cores[0] + lookahead):
            size = cores.popleft()
            stop = before + size
            yield Window(tuple(itertools.islice(frames, stop + lookahead)), slice(before, stop))
            surplus = max(0, stop - lookback)
            for _ in range(surplus):
                frames.popleft()
            before = stop - surplus

    for value in values:
        clip = clip_of(value)
        frames.extend(cut(value, i, i + 1) for i in range(len(clip)))
        cores.append(len(clip))
        yield from ready(clip.ends_shot)
        if clip.ends_shot:
            frames.clear()
            before = 0
    if cores:
        raise ValueError("the last clip of a stream must have ends_shot set")


def fan_out(items: Iterable[Item], count: int) -> list[Iterator[Item]]:
    """Give `count` iterators over the same items, each at its own pace; an item is dropped once all have had it.

    `itertools.tee` would do, did it not hold on to the last 57 items whoever has had them: gigabytes of frames.
    """
    source = iter(items)
    waiting: list[deque[Item]] = [deque() for _ in range(count)]

    def follow(mine: deque[Item]) -> Iterator[Item]:
        while True:
            if not mine:
                try:
                    item = next(source)
                except StopIteration:
                    return
                for other in waiting:
                    other.append(item)
                del item
            yield mine.popleft()

    return [follow(mine) for mine in waiting]


def prefetch(items: Iterable[Item], *, depth: int, name: str) -> Generator[Item, None, None]:
    """Run `items` in a thread, at most `depth` results ahead; its exception is raised here, its thread always joined.

    Closing the iterator early (or an exception in the consumer) stops the producer after its current item.
    """
    results: queue.Queue[tuple[str, Item | BaseException | None]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(kind: str, value: Item | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                results.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        source = iter(items)
        try:
            for item in source:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:  # handed to the consumer, whatever it is
            put("error", error)
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=produce, name=name, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = results.get()
            if kind == "end":
                return
            if kind == "error":
                assert isinstance(value, BaseException)
                raise value
            yield value  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
