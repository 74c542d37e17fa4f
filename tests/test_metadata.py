from __future__ import annotations

import struct
from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type as SideDataType

from spatialme.errors import InputError, OptionError
from spatialme.video import mp4box
from spatialme.video.metadata import FORMATS, STEREO_MODE, read_stereo_mode
from spatialme.video.targets import TARGETS, find_target
from tests.media import HDR10, HDR10_X265, Sound, decode_all, write_video
from tests.writing import write_stereo

SIDE_BY_SIDE, TOP_BOTTOM = 1, 2  # enum AVStereo3DType


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "in.mp4", frames=3)


def ffmpeg_stereo(path: Path) -> tuple[int, bool] | None:
    """What FFmpeg itself makes of the file's marks: packing and whether the right eye comes first."""
    for side in decode_all(path)[0].side_data:
        if side.type == SideDataType.STEREO3D:
            kind, flags = struct.unpack_from("=ii", bytes(side))
            return kind, bool(flags & 1)
    return None


@pytest.mark.parametrize("packing", FORMATS)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_packing_can_be_read_back_from_the_container(clip, tmp_path, packing, suffix):
    report = write_stereo(clip, tmp_path / f"out{suffix}", format=packing)
    tags = read_stereo_mode(report.outputs[0])
    assert tags.mode == STEREO_MODE.get(packing)
    assert (tags.matroska if suffix == ".mkv" else tags.st3d) == tags.mode
    assert (tags.st3d if suffix == ".mkv" else tags.matroska) is None


@pytest.mark.parametrize(
    ("packing", "mode"), [("full_sbs", "left_right"), ("half_tb", "top_bottom"), ("cross_eyed", None)]
)
def test_h264_says_its_packing_in_the_bit_stream(clip, tmp_path, packing, mode):
    write_stereo(clip, tmp_path / "out.mp4", format=packing)
    # x264 can only write "left first", so the right-left order has no message rather than a wrong one
    assert read_stereo_mode(tmp_path / "out.mp4").bitstream == mode


@pytest.mark.parametrize(
    ("packing", "suffix", "codec", "expected"),
    [
        ("full_sbs", ".mp4", "libx265", (SIDE_BY_SIDE, False)),
        ("full_tb", ".mov", "libx265", (TOP_BOTTOM, False)),
        ("half_sbs", ".mkv", "ffv1", (SIDE_BY_SIDE, False)),
        ("cross_eyed", ".mkv", "ffv1", (SIDE_BY_SIDE, True)),
        ("half_tb", ".mp4", "libx264", (TOP_BOTTOM, False)),
        ("anaglyph", ".mp4", "libx264", None),
        ("two_files", ".mp4", "libx264", None),
    ],
)
def test_ffmpeg_reads_the_same_packing(clip, tmp_path, packing, suffix, codec, expected):
    report = write_stereo(clip, tmp_path / f"out{suffix}", format=packing, codec=codec)
    assert ffmpeg_stereo(report.outputs[0]) == expected


def test_a_flat_video_has_no_mark(clip):
    assert read_stereo_mode(clip).mode is None


def test_reading_marks_of_what_is_no_video_is_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("hello")
    with av.open(str(tmp_path / "sound.mka"), "w") as sound:
        stream = sound.add_stream("pcm_s16le", rate=8000)
        silence = av.AudioFrame(format="s16", layout="stereo", samples=80)
        silence.sample_rate = 8000
        sound.mux(stream.encode(silence))
    with pytest.raises(InputError, match="cannot be read as a video"):
        read_stereo_mode(tmp_path / "text.mp4")
    with pytest.raises(InputError, match="has no video stream"):
        read_stereo_mode(tmp_path / "sound.mka")
    with pytest.raises(InputError, match="cannot be read as a video"):
        read_stereo_mode(tmp_path / "missing.mp4")


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_gets_its_packing_container_and_name(clip, tmp_path, target):
    needs = find_target(target)
    report = write_stereo(clip, tmp_path, target=target)
    assert report.outputs == [tmp_path / f"in{needs.file_token}{needs.extension}"]
    assert read_stereo_mode(report.outputs[0]).mode == STEREO_MODE[needs.format]
    frame = decode_all(report.outputs[0])[0]
    assert (frame.width, frame.height) == {"full_sbs": (128, 48), "half_sbs": (64, 48)}[needs.format]


def test_a_television_gets_eight_bit_h264(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=4, codec="libx265", pixel_format="yuv420p10le")
    report = write_stereo(source, tmp_path / "out.mp4", target="3dtv")
    assert any("written as yuv420p; the source has yuv420p10le" in note for note in report.notes)
    assert decode_all(tmp_path / "out.mp4")[0].format.name == "yuv420p"
    assert read_stereo_mode(tmp_path / "out.mp4").bitstream == "left_right"


def test_unknown_targets_are_refused():
    with pytest.raises(OptionError, match="MV-HEVC, which is not written yet"):
        find_target("avp")
    with pytest.raises(OptionError, match="unknown target 'vhs', expected one of quest"):
        find_target("vhs")


@pytest.fixture(scope="module")
def hdr_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hdr") / "hdr.mp4"
    return write_video(path, frames=4, codec="libx265", pixel_format="yuv420p10le", options=HDR10_X265, tags=HDR10)


def hdr_of(path: Path) -> dict[str, bytes]:
    wanted = (SideDataType.MASTERING_DISPLAY_METADATA, SideDataType.CONTENT_LIGHT_LEVEL)
    return {side.type.name: bytes(side) for side in decode_all(path)[0].side_data if side.type in wanted}


# x265 writes the values into the pictures; x264 does not, so that there only the container's boxes can be read back
@pytest.mark.parametrize(("codec", "suffix"), [("libx265", ".mp4"), ("libx265", ".mkv"), ("libx264", ".mp4")])
def test_hdr10_metadata_is_carried(hdr_clip, tmp_path, codec, suffix):
    write_stereo(hdr_clip, tmp_path / f"out{suffix}", codec=codec)
    assert len(hdr_of(hdr_clip)) == 2
    assert hdr_values(tmp_path / f"out{suffix}") == hdr_values(hdr_clip)
    after = decode_all(tmp_path / f"out{suffix}")[0]
    assert (after.color_primaries, after.color_trc, after.colorspace) == (9, 16, 9)


def hdr_values(path: Path) -> tuple[list[float], tuple[int, int]]:
    """Chromaticities and luminances, MaxCLL and MaxFALL; fractions of other denominators are equal."""
    found = hdr_of(path)
    numbers = struct.unpack_from("=20i", found["MASTERING_DISPLAY_METADATA"])
    ratios = [top / bottom for top, bottom in zip(numbers[::2], numbers[1::2])]
    return ratios, struct.unpack_from("=2I", found["CONTENT_LIGHT_LEVEL"])


def raw_mp4(path: Path, **options) -> Path:
    """A file as FFmpeg's muxer leaves it: the index behind the media data."""
    return write_video(path, frames=8, sounds=[Sound()], **options)


def packets(path: Path) -> list[tuple[int, int, bytes]]:
    with av.open(str(path)) as container:
        return [(packet.stream_index, packet.pts, bytes(packet)) for packet in container.demux() if packet.size]


@pytest.mark.parametrize("copy_bytes", [7, 1 << 20])
def test_moving_the_index_forward_leaves_every_packet_as_it_was(tmp_path, monkeypatch, copy_bytes):
    monkeypatch.setattr(mp4box, "_COPY_BYTES", copy_bytes)
    path = raw_mp4(tmp_path / "a.mp4")
    before = packets(path)
    mp4box.finish_file(path, [mp4box.st3d_box(2)])
    assert packets(path) == before
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    assert mp4box.read_st3d(path) == 2


def test_offsets_that_outgrow_32_bits_get_64(tmp_path, monkeypatch):
    path = raw_mp4(tmp_path / "a.mp4")
    before = packets(path)
    monkeypatch.setattr(mp4box, "_LARGEST_OFFSET", 3000)  # some chunks lie below it, some beyond
    monkeypatch.setattr(mp4box.Box, "serialise", short_serialise)
    mp4box.finish_file(path, [])
    content = path.read_bytes()
    assert b"co64" in content
    assert packets(path) == before


def short_serialise(box: mp4box.Box) -> bytes:
    """`Box.serialise` whose sizes stay in 32 bits whatever the limit for offsets is."""
    body = box.payload if box.children is None else b"".join(short_serialise(child) for child in box.children)
    return struct.pack(">I4s", len(body) + 8, box.kind) + body


def test_a_box_beyond_32_bits_gets_a_long_header(monkeypatch):
    monkeypatch.setattr(mp4box, "_LARGEST_OFFSET", 20)
    serialised = mp4box.Box(b"mdat", b"x" * 30).serialise()
    assert serialised == struct.pack(">I4sQ", 1, b"mdat", 46) + b"x" * 30
    assert mp4box.parse(serialised) == mp4box.Box(b"mdat", b"x" * 30)


def test_hdr_boxes_have_their_standard_layout():
    # ISO/IEC 14496-12, 12.1.6 and 12.1.7, spelled out byte by byte
    light = mp4box.clli_box(1000, 400)
    assert light == bytes.fromhex("0000000c") + b"clli" + bytes.fromhex("03e80190")
    display = mp4box.mdcv_box([13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450], (10_000_000, 1))
    assert display[:8] == bytes.fromhex("00000020") + b"mdcv"
    assert display[8:24] == bytes.fromhex("33c286c41d4c0bb884d03e803d134042")
    assert display[24:] == bytes.fromhex("0098968000000001")
    assert mp4box.st3d_box(2) == bytes.fromhex("0000000d") + b"st3d" + bytes.fromhex("0000000002")


def test_a_file_of_another_layout_is_refused(tmp_path):
    path = raw_mp4(tmp_path / "a.mp4")
    mp4box.finish_file(path, [])
    with pytest.raises(ValueError, match="must begin with ftyp and end with moov, got ftyp moov"):
        mp4box.finish_file(path, [])


def test_an_index_without_video_is_refused():
    with pytest.raises(ValueError, match="no video track"):
        mp4box.add_to_video_entry(mp4box.Box(b"moov", children=[]), [])


def test_a_damaged_box_is_refused():
    with pytest.raises(ValueError, match=r"box b'moov' has size 4, expected 8\.\.16"):
        mp4box.parse(struct.pack(">I4s", 4, b"moov") + bytes(8))
