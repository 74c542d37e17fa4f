"""Windows of neighbouring frames and the prefetch thread."""

from __future__ import annotations

import threading
import time
import weakref

import pytest
import torch

from spatialme.stream import fan_out, prefetch, windows
from spatialme.types import Clip, cut, join


def shot(length: int, *, shot: int = 0, first_index: int = 0) -> Clip:
    """A whole shot whose frame t is filled with its frame number."""
    numbers = torch.arange(first_index, first_index + length, dtype=torch.float32)
    frames = numbers.view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return Clip(frames, tuple(range(first_index, first_index + length)), first_index, shot, True, True)


def pieces(whole: Clip, size: int) -> list[Clip]:
    return [cut(whole, start, min(start + size, len(whole))) for start in range(0, len(whole), size)]


def frame_numbers(clip: Clip) -> list[int]:
    return clip.frames[:, 0, 0, 0].int().tolist()


def test_join_is_the_inverse_of_cut():
    whole = shot(7, first_index=3)
    again = join(pieces(whole, 3))
    assert torch.equal(again.frames, whole.frames)
    assert (again.pictures, again.first_index, again.starts_shot, again.ends_shot) == (whole.pictures, 3, True, True)


def test_cut_marks_only_the_outer_pieces_as_the_ends_of_the_shot():
    marks = [(piece.starts_shot, piece.ends_shot, piece.first_index) for piece in pieces(shot(5), 2)]
    assert marks == [(True, False, 0), (False, False, 2), (False, True, 4)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 11])
def test_every_frame_sees_exactly_its_neighbours_within_its_shot(size):
    lookback, lookahead = 2, 3
    shots = [shot(11), shot(4, shot=1, first_index=11), shot(1, shot=2, first_index=15)]
    clips = [piece for whole in shots for piece in pieces(whole, size)]
    answered = []
    for window, clip in zip(windows(clips, lookback=lookback, lookahead=lookahead, clip_of=lambda c: c), clips):
        seen = frame_numbers(window.joined())
        core = seen[window.core]
        assert core == frame_numbers(clip)  # one window per value, in order
        first, last = shots[clip.shot].first_index, shots[clip.shot].first_index + len(shots[clip.shot]) - 1
        assert seen == list(range(max(first, core[0] - lookback), min(last, core[-1] + lookahead) + 1))
        answered += core
    assert answered == list(range(16))


def test_windows_answer_as_soon_as_the_lookahead_is_there():
    pulled = 0

    def counted():
        nonlocal pulled
        for clip in pieces(shot(10), 1):
            pulled += 1
            yield clip

    stream = windows(counted(), lookback=1, lookahead=3, clip_of=lambda c: c)
    next(stream)
    assert pulled == 4


def test_windows_refuse_a_stream_that_stops_inside_a_shot():
    with pytest.raises(ValueError, match="ends_shot"):
        list(windows(pieces(shot(6), 2)[:2], lookback=0, lookahead=9, clip_of=lambda c: c))


def test_fan_out_gives_everyone_everything_at_any_pace():
    first, second = fan_out(range(6), 2)
    taken = [next(first), next(first), next(first), next(second)]
    assert (taken, list(second), list(first)) == ([0, 1, 2, 0], [1, 2, 3, 4, 5], [3, 4, 5])


def test_fan_out_keeps_nothing_that_everyone_has_had():
    class Frame:
        pass

    alive: list[weakref.ref[Frame]] = []

    def frames():
        for _ in range(20):
            frame = Frame()
            alive.append(weakref.ref(frame))
            yield frame

    for _ in zip(*fan_out(frames(), 3)):
        assert sum(reference() is not None for reference in alive) <= 2  # this one, and the one the producer still has


def test_prefetch_keeps_order_and_joins_its_thread():
    assert list(prefetch(range(20), depth=2, name="counting")) == list(range(20))
    assert all(thread.name != "counting" for thread in threading.enumerate())


def test_prefetch_raises_the_producers_exception_after_its_items():
    def failing():
        yield 1
        raise OSError("disk on fire")

    stream = prefetch(failing(), depth=4, name="failing")
    assert next(stream) == 1
    with pytest.raises(OSError, match="disk on fire"):
        next(stream)


def test_prefetch_is_never_further_ahead_than_its_depth():
    produced = []

    def counted():
        for number in range(50):
            produced.append(number)
            yield number

    stream = prefetch(counted(), depth=3, name="bounded")
    next(stream)
    time.sleep(0.3)  # ample time to run ahead, were it unbounded
    stream.close()
    assert len(produced) <= 1 + 3 + 1  # consumed, queued, in hand


def test_closing_prefetch_closes_the_producer():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stream = prefetch(endless(), depth=1, name="endless")
    next(stream)
    stream.close()
    assert closed.is_set()
