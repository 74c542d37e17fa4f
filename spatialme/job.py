"""The work behind `convert`: from an opened source to a finished file and its report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import torch
from tqdm import tqdm

from spatialme.depth.sidecar import DepthFile, DepthVideoWriter
from spatialme.errors import OptionError, OutputError
from spatialme.film.boundaries import Boundaries
from spatialme.film.eyes import converted
from spatialme.film.film import Film
from spatialme.film.fingerprint import join_key, picture_key
from spatialme.film.journal import Finished, folder_of
from spatialme.film.produce import Missing, Spread, produce
from spatialme.pipeline import Converter
from spatialme.profiling import Profile
from spatialme.report import ConversionReport, Tally, peak_memory_mb
from spatialme.settings import ConverterSettings
from spatialme.video.nvdec import DecoderName, find_accelerator
from spatialme.video.place import check_existing, check_space
from spatialme.video.reader import Source, open_source
from spatialme.video.writer import OutputOptions, OutputPlan, StereoWriter, plan_output


@dataclass
class Job:
    """What the files of one call share."""

    settings: ConverterSettings
    options: OutputOptions
    start_seconds: float | None
    end_seconds: float | None
    frame_rate: Fraction
    keep_going: bool
    decoder: DecoderName = "cpu"
    spread: Spread | None = None  # the workers; None: this process alone
    profile: Profile | None = None  # takes notes of where the time goes

    def __post_init__(self) -> None:
        """Raise OptionError for a decoder that is not here, which is wrong for every file."""
        self._accelerator = find_accelerator(self.decoder, self.settings.device)

    @cached_property
    def converter(self) -> Converter:
        """Made when the first file is known to be readable and its output writable; serves all files."""
        return Converter(self.settings)

    def convert(self, file: str | Path, output: str | Path, save_depth: str | Path | None) -> ConversionReport:
        """Convert one file; OUTPUT appears whole or not at all.

        A video that was begun by the same command before is continued; one that was finished by it is left alone.
        """
        began = time.perf_counter()
        with ExitStack() as stack:
            source = stack.enter_context(
                open_source(
                    file,
                    start_seconds=self.start_seconds,
                    end_seconds=self.end_seconds,
                    keep_going=self.keep_going,
                    frame_rate=self.frame_rate,
                    accelerator=self._accelerator,
                )
            )
            # whether an existing output is in the way is for the journal to say
            plan = plan_output(output, source, replace(self.options, overwrite=True))
            if plan.kind != "video" or not folder_of(plan.paths[0]).exists():
                self._check_existing(plan)
            converter = self.converter
            if isinstance(converter.depth, DepthFile) and source.info.frame_estimate is not None:
                converter.depth.check_length(source.info.frame_estimate)
            film = self._film(source, plan) if plan.kind == "video" else None
            if film is not None:
                stack.enter_context(film.journal.held())
            finished = None if film is None else self._finished_before(film, save_depth)
            if finished is not None:
                return _report_done(converter, plan, source, finished)
            self._check_existing(plan)
            depth_writer = None
            if save_depth is not None:
                if self.spread is not None:
                    raise OptionError("--save-depth works in one process; leave out --devices and --ray")
                depth_writer = stack.enter_context(
                    DepthVideoWriter(
                        save_depth, source.info, model=converter.depth.name, overwrite=self.options.overwrite
                    )
                )
            if film is None:
                report = self._convert_images(source, plan, depth_writer)
            else:
                report = self._convert_film(film, source, depth_writer)
            if depth_writer is not None:
                depth_writer.finish()
        report.wall_seconds = time.perf_counter() - began
        return report

    def _check_existing(self, plan: OutputPlan) -> None:
        for path in plan.paths:
            check_existing(path, plan.kind, overwrite=self.options.overwrite)

    def _film(self, source: Source, plan: OutputPlan) -> Film:
        key = picture_key(
            source.path,
            source.info,
            plan,
            self.converter,
            start_seconds=self.start_seconds,
            keep_going=self.keep_going,
        )
        return Film(
            path=source.path,
            settings=self.settings,
            plan=plan,
            info=source.info,
            boundaries=Boundaries.at(source.info.frame_rate),
            key=key,
            start_seconds=self.start_seconds,
            end_seconds=self.end_seconds,
            keep_going=self.keep_going,
            decoder=self.decoder,
            frame_rate=self.frame_rate,
            start_pts_offset=source.start_pts_offset,
            origin_seconds=source.origin_seconds,
        )

    def _finished_before(self, film: Film, save_depth: str | Path | None) -> Finished | None:
        """What the same command finished before, if it need not be made again; what is in the way of a new run goes."""
        journal = film.journal
        finished = journal.read_finished(join_key(film.key, film.plan, end_seconds=film.end_seconds))
        if save_depth is not None and not Path(save_depth).exists():
            finished = None
        # with leftovers, it was broken off between the output's appearance and the last line of the report
        if finished is not None and (journal.has_leftovers() or not self.options.overwrite):
            journal.tidy()
            return finished
        if finished is not None or save_depth is not None:  # depth is saved in one go, from the first frame on
            journal.forget()
        return None

    def _tally(self, source: Source) -> Tally:
        if self.profile is None:
            return Tally()
        return self.profile.tally(Path(source.path).name, self.converter.device)

    def _convert_film(self, film: Film, source: Source, depth_writer: DepthVideoWriter | None) -> ConversionReport:
        tally = self._tally(source)
        with _progress(source) as progress, _kept(film):
            missing = Missing(film, self.converter, tally, progress.update)
            produced = produce(missing, source, spread=self.spread, depth_writer=depth_writer)
        notes = [*source.warnings, *(note for note in produced.notes if note not in source.warnings)]
        report = _report(self.converter, tally, source, produced.written.outputs, [*notes, *produced.written.notes])
        report.frames, report.shots = produced.finished.frames, produced.finished.shots
        report.segments, report.segments_reused = produced.finished.segments, produced.segments_reused
        report.frames_reused = produced.frames_reused
        return report

    def _convert_images(
        self, source: Source, plan: OutputPlan, depth_writer: DepthVideoWriter | None
    ) -> ConversionReport:
        check_space(plan.paths[0], plan.least_bytes(source.info.frame_estimate or 1))
        tally = self._tally(source)
        with StereoWriter(plan, source, end_seconds=self.end_seconds) as writer:
            eyes = converted(self.converter, tally, source, source.info, plan, depth_writer=depth_writer)
            with closing(eyes), _progress(source) as progress:
                for clip in eyes:
                    with tally.clock.charge("encode"):
                        for frame in clip.frames():
                            writer.write(*frame)
                    progress.update(len(clip.pictures))
            written = writer.finish()
        return _report(self.converter, tally, source, written.outputs, [*source.warnings, *written.notes])


@contextmanager
def _kept(film: Film) -> Iterator[None]:
    """Whatever ends the work early leaves the finished segments, and says so."""
    try:
        yield
    except (KeyboardInterrupt, OutputError) as error:
        film.journal.leave()
        count = film.journal.count()
        if not count:
            raise
        kept = f"{count} finished segments of {film.plan.paths[0]} are kept, the same command continues"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"interrupted; {kept}") from error
        raise OutputError(f"{error}; {kept}") from error
    except BaseException:
        film.journal.leave()
        raise


def _progress(source: Source) -> tqdm:
    """A bar with rate and remaining time on a terminal, nothing in a pipe."""
    return tqdm(total=source.info.frame_estimate, unit="frame", desc=Path(source.path).name, disable=None)


def _report(
    converter: Converter, tally: Tally, source: Source, outputs: list[Path], notes: list[str]
) -> ConversionReport:
    gpu = converter.device.type == "cuda"
    return ConversionReport(
        outputs=outputs,
        frames=tally.frames,
        shots=tally.shots,
        wall_seconds=0.0,
        stage_seconds=dict(tally.clock.seconds),
        hole_share=tally.hole_share,
        depth_flicker_percent=tally.depth_flicker.percent if tally.depth_flicker else None,
        peak_memory_mb=peak_memory_mb(),
        memory_bound_mb=converter.memory_bound_bytes(source.info.width, source.info.height) / 2**20,
        peak_gpu_memory_mb=torch.cuda.max_memory_allocated(converter.device) / 2**20 if gpu else None,
        depth=converter.depth.name,
        written=converter.written,
        notes=[*converter.depth.notices, *notes],
    )


def _report_done(converter: Converter, plan: OutputPlan, source: Source, finished: Finished) -> ConversionReport:
    report = _report(converter, Tally(), source, list(plan.paths), [])
    report.frames = report.frames_reused = finished.frames
    report.segments = report.segments_reused = finished.segments
    report.shots, report.already_done = finished.shots, True
    return report
