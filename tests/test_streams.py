from __future__ import annotations

from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from spatialme.video.streams import StreamCopier
from tests.media import Sound, Subtitle, write_video
from tests.writing import write_stereo

ENGLISH = Sound(language="eng", title="Main", seconds=1.0)
GERMAN = Sound(880, codec="flac", language="deu", start_seconds=0.25, seconds=0.7)
FRENCH_LINE = Subtitle("bonjour", language="fra", start_seconds=0.1, seconds=0.2)
CHAPTERS = [(0.0, 0.5, "one"), (0.5, 1.0, "two")]
TEXTS = {"title": "Film", "comment": "seen", "creation_time": "2020-01-02T03:04:05.000000Z"}
FONT = ("font.ttf", "application/x-truetype-font", b"abc")


@pytest.fixture(scope="module")
def rich_mkv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(
        tmp_path_factory.mktemp("rich") / "in.mkv",
        frames=25,
        sounds=[ENGLISH, GERMAN],
        subtitles=[FRENCH_LINE, Subtitle("zwei", language="deu", start_seconds=0.5)],
        chapters=CHAPTERS,
        attachment=FONT,
        cover=True,
        metadata=TEXTS,
    )


@pytest.fixture(scope="module")
def rich_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(
        tmp_path_factory.mktemp("rich") / "in.mp4",
        frames=25,
        sounds=[ENGLISH, GERMAN],
        subtitles=[Subtitle("bonjour", codec="mov_text", language="fra")],
        chapters=CHAPTERS,
        cover=True,
        metadata=TEXTS,
    )


def streams_of(path: Path, kind: str) -> list[dict]:
    with av.open(str(path)) as container:
        return [
            {"language": stream.language, "title": stream.metadata.get("title") or stream.metadata.get("name")}
            | {"codec": stream.codec_context.name if stream.codec_context else None}
            | {"default": bool(stream.disposition & Disposition.default)}
            for stream in container.streams
            if stream.type == kind and not stream.disposition & Disposition.attached_pic
        ]


def packets_of(path: Path, kind: str, number: int) -> list[tuple[Fraction, bytes]]:
    """Time and content of the packets of one stream."""
    with av.open(str(path)) as container:
        stream = [each for each in container.streams if each.type == kind][number]
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(stream) if packet.size]


def chapters_of(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        return [
            (
                float(each["start"] * each["time_base"]),
                float(each["end"] * each["time_base"]),
                each["metadata"]["title"],
            )
            for each in container.chapters()
        ]


def words_of(path: Path, number: int) -> list[tuple[float, str]]:
    """(seconds, text) of the lines of a subtitle stream, decoded by FFmpeg."""
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[number]
        lines = []
        for packet in container.demux(stream):
            for event in stream.codec_context.decode(packet) if packet.size > 2 else []:
                lines.append((float(packet.pts * packet.time_base), event.dialogue.decode()))
        return lines


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("fixture", ["rich_mkv", "rich_mp4"])
def test_sound_is_copied_packet_by_packet_at_its_own_time(request, tmp_path, fixture, suffix):
    source = request.getfixturevalue(fixture)
    write_stereo(source, tmp_path / f"out{suffix}")
    before, after = (streams_of(path, "audio") for path in (source, tmp_path / f"out{suffix}"))
    if (source.suffix, suffix) == (".mkv", ".mp4"):  # MP4 has one track of each kind switched on
        before[0]["default"] = True
    assert after == before
    for number in (0, 1):
        before, after = packets_of(source, "audio", number), packets_of(tmp_path / f"out{suffix}", "audio", number)
        assert [content for _, content in after] == [content for _, content in before]
        # a millisecond of Matroska on either side
        assert max(abs(a - b) for (a, _), (b, _) in zip(before, after)) <= Fraction(1, 1000)


def test_sound_from_matroska_gets_its_whole_samples_back_in_mp4(rich_mkv, tmp_path):
    write_stereo(rich_mkv, tmp_path / "out.mp4")
    times = [time for time, _ in packets_of(tmp_path / "out.mp4", "audio", 0)]
    assert {b - a for a, b in pairwise(times)} == {Fraction(1024, 48000)}


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("fixture", ["rich_mkv", "rich_mp4"])
def test_chapters_texts_and_subtitles_are_carried(request, tmp_path, fixture, suffix):
    source = request.getfixturevalue(fixture)
    write_stereo(source, tmp_path / f"out{suffix}")
    assert chapters_of(tmp_path / f"out{suffix}") == CHAPTERS
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        texts = {key.lower(): value for key, value in container.metadata.items()}
    assert texts.items() >= TEXTS.items()
    lines = words_of(tmp_path / f"out{suffix}", 0)
    assert lines == [(0.1, "bonjour")]
    languages = [stream["language"] for stream in streams_of(source, "subtitle")]
    if suffix != ".mov":  # QuickTime's table of languages is not ISO's
        assert [stream["language"] for stream in streams_of(tmp_path / f"out{suffix}", "subtitle")] == languages


def test_matroska_keeps_attachments_and_cover(rich_mkv, tmp_path):
    report = write_stereo(rich_mkv, tmp_path / "out.mkv")
    assert {outcome.action for outcome in report.streams} == {"copied"}
    with av.open(str(tmp_path / "out.mkv")) as container:
        (attachment,) = [stream for stream in container.streams if stream.type == "attachment"]
        assert (attachment.metadata["filename"], attachment.mimetype, bytes(attachment.data)) == FONT
        (cover,) = [stream for stream in container.streams if stream.disposition & Disposition.attached_pic]
        image = next(bytes(packet) for packet in container.demux(cover) if packet.size)
    assert image.startswith(b"\x89PNG")


@pytest.mark.parametrize("fixture", ["rich_mkv", "rich_mp4"])
def test_mp4_keeps_the_cover_and_names_what_it_cannot_hold(request, tmp_path, fixture):
    report = write_stereo(request.getfixturevalue(fixture), tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [bool(stream.disposition & Disposition.attached_pic) for stream in container.streams.video] == [
            False,
            True,
        ]
    if fixture == "rich_mkv":
        assert any("attachment font.ttf: dropped (mp4 holds no attachments; .mkv" in note for note in report.notes)
        assert any("subtitle srt (fra): converted (mp4 does not take srt; now mov_text)" in n for n in report.notes)
    else:
        assert {outcome.action for outcome in report.streams} == {"copied"}


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_cut_takes_the_same_time_off_every_stream(rich_mkv, tmp_path, suffix):
    write_stereo(rich_mkv, tmp_path / f"out{suffix}", start_seconds=0.2, end_seconds=0.8)
    output = tmp_path / f"out{suffix}"
    wanted = [(time - Fraction(1, 5), data) for time, data in packets_of(rich_mkv, "audio", 0) if 0.2 <= time < 0.8]
    found = packets_of(output, "audio", 0)
    assert [data for _, data in found] == [data for _, data in wanted]
    assert max(abs(a - b) for (a, _), (b, _) in zip(found, wanted)) <= Fraction(1, 1000)
    assert chapters_of(output) == [(0.0, pytest.approx(0.3), "one"), (pytest.approx(0.3), pytest.approx(0.6), "two")]
    assert words_of(output, 0) == [(0.0, "bonjour")]  # on screen when the cut begins
    assert words_of(output, 1) == [(pytest.approx(0.3), "zwei")]
    with av.open(str(output)) as container:
        assert container.duration / 1e6 == pytest.approx(0.6, abs=0.1)  # the last packet of sound may reach over


def test_sound_that_the_container_refuses_becomes_aac(tmp_path):
    source = write_video(
        tmp_path / "in.mkv", frames=25, sounds=[Sound(codec="wavpack", start_seconds=0.2, seconds=0.7)]
    )
    report = write_stereo(source, tmp_path / "out.mp4")
    assert any("wavpack: converted (mp4 does not take wavpack; now AAC, .mkv may keep it)" in n for n in report.notes)
    assert streams_of(tmp_path / "out.mp4", "audio")[0]["codec"] == "aac"
    before, after = loud_span(source), loud_span(tmp_path / "out.mp4")
    assert after == pytest.approx(before, abs=0.03)  # a block of 1024 samples


def loud_span(path: Path) -> tuple[float, float]:
    """First and last time at which the sound is loud."""
    with av.open(str(path)) as container:
        times = []
        for frame in container.decode(audio=0):
            samples = np.abs(frame.to_ndarray().astype(np.float32)).reshape(-1, frame.samples).max(axis=0)
            times += [frame.time + index / frame.sample_rate for index in np.flatnonzero(samples > 0.05)]
    return times[0], times[-1]


def test_pictures_as_subtitles_stay_in_matroska_and_are_named_in_mp4(tmp_path):
    source = write_video(tmp_path / "in.mkv", frames=5, subtitles=[Subtitle("x", codec="hdmv_pgs_subtitle")])
    report = write_stereo(source, tmp_path / "out.mp4")
    assert any("pgssub" in note and "dropped (mp4 does not take" in note for note in report.notes)
    kept = write_stereo(source, tmp_path / "out.mkv")
    assert [outcome.action for outcome in kept.streams] == ["copied"]


def test_styled_subtitles_become_plain_words(tmp_path):
    event = "0,0,Default,,0,0,0,,{\\i1}two{\\i0}\\Nlines, with a comma"
    source = write_video(tmp_path / "in.mkv", frames=25, subtitles=[Subtitle(event, codec="ass")])
    write_stereo(source, tmp_path / "out.mp4")
    assert words_of(tmp_path / "out.mp4", 0) == [(0.1, "two\nlines, with a comma")]


def test_texts_can_be_left_out(rich_mkv, tmp_path):
    write_stereo(rich_mkv, tmp_path / "out.mkv", keep_tags=False)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert not {"title", "comment", "creation_time"} & {key.lower() for key in container.metadata}
        assert [stream.language for stream in container.streams.audio] == ["eng", "deu"]
        assert "title" not in container.streams.audio[0].metadata


def test_a_time_code_goes_along_unless_its_frame_is_cut_off(tmp_path):
    source = write_video(tmp_path / "in.mov", frames=25, metadata={"timecode": "01:00:00:00"})
    for name, start, expected in (
        ("whole.mov", None, "01:00:00:00"),
        ("whole.mp4", None, "01:00:00:00"),
        ("cut.mov", 0.4, None),
    ):
        report = write_stereo(source, tmp_path / name, start_seconds=start)
        with av.open(str(tmp_path / name)) as container:
            assert container.streams.video[0].metadata.get("timecode") == expected
        assert [outcome.action for outcome in report.streams] == ["copied" if expected else "dropped"]


def test_two_files_carry_the_same_sound(rich_mp4, tmp_path):
    report = write_stereo(rich_mp4, tmp_path / "out.mp4", format="two_files")
    left, right = (packets_of(path, "audio", 0) for path in report.outputs)
    assert left == right == packets_of(rich_mp4, "audio", 0)


def test_packets_are_interleaved_in_time(rich_mp4, tmp_path):
    write_stereo(rich_mp4, tmp_path / "out.mp4", preset="ultrafast")
    with av.open(str(tmp_path / "out.mp4")) as container:
        kinds = [s.index for s in container.streams if s.type in ("video", "audio") and s.frames > 1]
        places = {index: [] for index in kinds}
        for packet in container.demux([container.streams[index] for index in kinds]):
            if packet.size:
                places[packet.stream_index].append((packet.pos, packet.dts * packet.time_base))
    merged = sorted(entry for entries in places.values() for entry in entries)
    times = [time for _, time in merged]
    # FFmpeg's muxer gathers at most a second of one stream into a chunk
    assert max(later - earlier for earlier, later in zip(times[1:], times)) < 1


class DamagedInput:
    """An input of which only the first packets can be read."""

    def __init__(self, container):
        self._container = container

    def __getattr__(self, name):
        return getattr(self._container, name)

    def demux(self, *streams):
        yield from islice(self._container.demux(*streams), 20)
        raise av.InvalidDataError(1, "Invalid data found when processing input")


def test_sound_of_a_damaged_input_is_copied_as_far_as_it_goes(tmp_path, monkeypatch):
    source = write_video(tmp_path / "in.mp4", frames=25, sounds=[ENGLISH])
    add_all = StreamCopier._add_all

    def damage(copier: StreamCopier) -> None:
        add_all(copier)
        copier._input = DamagedInput(copier._input)

    monkeypatch.setattr(StreamCopier, "_add_all", damage)
    report = write_stereo(source, tmp_path / "out.mkv")
    assert any("end early: the input is damaged there (Invalid data" in note for note in report.notes)
    assert len(packets_of(tmp_path / "out.mkv", "audio", 0)) == 20
