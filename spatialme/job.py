"""The work behind `convert`: from an opened source to a finished file and its report."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from spatialme.depth.sidecar import DepthVideo, DepthVideoWriter
from spatialme.errors import InputError, OutputError
from spatialme.pipeline import Converter
from spatialme.report import ConversionReport, Tally, peak_memory_mb
from spatialme.settings import ConverterSettings
from spatialme.shots import tag_shots, to_arrays
from spatialme.stream import prefetch
from spatialme.types import Clip, DepthClip
from spatialme.video.picture import Picture
from spatialme.video.reader import Source, open_source
from spatialme.video.writer import OutputOptions, StereoWriter, WriteReport, plan_output

LOGGER = logging.getLogger(__name__)
Array = np.ndarray


@dataclass
class Job:
    """What the files of one call share."""

    settings: ConverterSettings
    options: OutputOptions
    start_seconds: float | None
    end_seconds: float | None
    frame_rate: Fraction
    keep_going: bool

    @cached_property
    def converter(self) -> Converter:
        """Made when the first file is known to be readable and its output writable; serves all files."""
        return Converter(self.settings)

    def convert_all(self, files: list[Path], folder: str | Path) -> list[ConversionReport]:
        """Convert each file into the folder; one that cannot be converted does not stop the others."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        reports, failures = [], []
        for file in files:
            try:
                reports.append(self.convert(file, folder, None))
            except (InputError, OutputError) as error:
                LOGGER.warning("%s", error)
                failures.append(file.name)
        if failures:
            raise InputError(f"{len(failures)} of {len(files)} files were not converted: {', '.join(failures)}")
        return reports

    def convert(self, file: str | Path, output: str | Path, save_depth: str | Path | None) -> ConversionReport:
        """Convert one file; OUTPUT appears whole or not at all."""
        began = time.perf_counter()
        with ExitStack() as stack:
            source = stack.enter_context(
                open_source(
                    file,
                    start_seconds=self.start_seconds,
                    end_seconds=self.end_seconds,
                    keep_going=self.keep_going,
                    frame_rate=self.frame_rate,
                )
            )
            plan = plan_output(output, source, self.options)
            converter = self.converter
            if isinstance(converter.depth, DepthVideo) and source.info.frame_estimate is not None:
                converter.depth.check_length(source.info.frame_estimate)
            depth_writer = None
            if save_depth is not None:
                depth_writer = stack.enter_context(
                    DepthVideoWriter(save_depth, source.info, model=converter.depth.name, overwrite=plan.overwrite)
                )
            writer = stack.enter_context(StereoWriter(plan, source, end_seconds=self.end_seconds))
            tally = Tally()
            self._run(tally, source, writer, depth_writer)
            written = writer.finish()
            if depth_writer is not None:
                depth_writer.finish()
        return _report(converter, tally, source, written, time.perf_counter() - began)

    def _run(self, tally: Tally, source: Source, writer: StereoWriter, depth_writer: DepthVideoWriter | None) -> None:
        """Pull everything through: decoding and converting each in a thread of its own, encoding in this one."""
        converter, info, clock = self.converter, source.info, tally.clock
        pictures = clock.timed("decode", source)
        length = converter.clip_length(info.width, info.height)
        clips = tag_shots(pictures, Picture.rgb, clip_length=length, device=converter.device)
        decoded = prefetch(clock.timed("shots", clips), depth=1, name="decode")
        eyes = prefetch(_arrays(converter, tally, decoded, info.bit_depth, depth_writer), depth=1, name="convert")
        with closing(eyes), _progress(source) as progress:
            for natives, left, right in eyes:
                with clock.charge("encode"):
                    for i, picture in enumerate(natives):
                        writer.write(picture, None if left is None else left[i], None if right is None else right[i])
                progress.update(len(natives))


def _arrays(
    converter: Converter, tally: Tally, clips: Iterable[Clip], bit_depth: int, depth_writer: DepthVideoWriter | None
) -> Iterator[tuple[tuple[Picture, ...], list[Array] | None, list[Array] | None]]:
    """The converter's clips as arrays for the encoder; None stands for the pictures themselves."""
    dtype = np.uint8 if bit_depth == 8 else np.uint16

    def save(depth_clip: DepthClip) -> None:
        assert depth_writer is not None
        with tally.clock.charge("save depth"):
            depth_writer.write(depth_clip.nearness, depth_clip.clip.pictures)

    for stereo in converter.stereo(clips, tally=tally, on_depth=save if depth_writer else None):
        left, right = (None if eye is None else to_arrays(eye, dtype) for eye in (stereo.left, stereo.right))
        yield stereo.clip.pictures, left, right


def _progress(source: Source) -> tqdm:
    """A bar with rate and remaining time on a terminal, nothing in a pipe."""
    return tqdm(total=source.info.frame_estimate, unit="frame", desc=Path(source.path).name, disable=None)


def _report(
    converter: Converter, tally: Tally, source: Source, written: WriteReport, wall_seconds: float
) -> ConversionReport:
    gpu = converter.device.type == "cuda"
    return ConversionReport(
        outputs=written.outputs,
        frames=tally.frames,
        shots=tally.shots,
        wall_seconds=wall_seconds,
        stage_seconds=dict(tally.clock.seconds),
        hole_share=tally.hole_share,
        peak_memory_mb=peak_memory_mb(),
        memory_bound_mb=converter.memory_bound_bytes(source.info.width, source.info.height) / 2**20,
        peak_gpu_memory_mb=torch.cuda.max_memory_allocated(converter.device) / 2**20 if gpu else None,
        depth=converter.depth.name,
        written=converter.written,
        notes=[*converter.depth.notices, *source.warnings, *written.notes],
    )
