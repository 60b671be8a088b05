"""Score pair after pair: two pictures in memory at a time, whatever the size of the folders."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from defusion_cli.errors import DataError, DefusionError
from defusion_cli.images import Picture, read_image
from defusion_cli.scoring import engine
from defusion_cli.scoring.alignment import align, centre
from defusion_cli.scoring.metrics import Metric
from defusion_cli.scoring.pairs import Pair
from defusion_cli.scoring.protocols import Protocol
from defusion_cli.scoring.rows import Row, Rows

_Image = NDArray[np.float32]

_AHEAD = 2
"""Pairs that are read while one is scored."""
_GPU_BATCH_PX = 8_000_000
"""Pixels of one batch on a GPU; AlexNet's features of these take about 4 GB."""


@dataclass(slots=True)
class _Loaded:
    row: Row
    out: _Image
    ref: _Image | None
    base: _Image | None


def score_pairs(
    pairs: Sequence[Pair], metrics: Sequence[Metric], protocol: Protocol, device: str, watch: Callable[[Row], None]
) -> Rows:
    """Scores of every pair, for all metrics but those of kind "set".

    Parameters
    ----------
    protocol
        Its crop "reference-centre" cuts true pictures to the size of the restored ones; else sizes must be equal.
        Its alignment is for metrics of kind "pixels".
    device
        Of torch, for metrics of kind "network"; the others run in threads on the CPU meanwhile.
    watch
        Called with each row as it is done, in order.

    Raises
    ------
    DefusionError
        If a metric cannot be made. What goes wrong with a pair stands in its row.
    """
    networks = {m.name: (engine.make_metric(m.name, device), m) for m in metrics if m.kind == "network"}
    pixels = [metric for metric in metrics if metric.kind == "pixels"]
    rows = Rows(pairs)
    for batch in _batches(_loaded(pairs, pixels, protocol), 1 if device == "cpu" else _GPU_BATCH_PX):
        for name, (network, metric) in networks.items():
            _run_network(name, network, metric, batch)
        for item in batch:
            rows.add(item.row)
            watch(item.row)
    return rows


def _loaded(pairs: Sequence[Pair], pixels: Sequence[Metric], protocol: Protocol) -> Iterator[_Loaded]:
    """Pairs in order, read and scored with the metrics of kind "pixels" by threads that run a little ahead."""
    waiting: deque[Future[_Loaded]] = deque()
    with ThreadPoolExecutor(_AHEAD) as pool:
        try:
            for pair in pairs:
                waiting.append(pool.submit(_load, pair, pixels, protocol))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _load(pair: Pair, pixels: Sequence[Metric], protocol: Protocol) -> _Loaded:
    row, nothing = Row(pair), np.empty((0, 0, 3), np.float32)
    try:
        out = read_image(pair.out)
        ref = read_image(pair.ref) if pair.ref else None
        base = read_image(pair.baseline) if pair.baseline else None
        loaded = _Loaded(row, out.pixels, _fitting(pair, out, ref, protocol.crop), base.pixels if base else None)
        if base is not None and base.pixels.shape != out.pixels.shape:
            raise _sizes(pair.out, out.pixels, pair.baseline, base.pixels)
        row.notes = _notes(out, ref)
        if loaded.ref is not None:
            row.scores = _pixel_scores(loaded.out, loaded.ref, pixels, protocol)
            if loaded.base is not None:
                row.baseline = _pixel_scores(loaded.base, loaded.ref, pixels, protocol)
            row.notes += _infinite(row)
        return loaded
    except DefusionError as error:
        _fail(row, error)
    except MemoryError:
        _fail(row, DataError(f"{pair.out} is too large for the free memory."))
    return _Loaded(row, nothing, None, None)


def _pixel_scores(
    picture: _Image, reference: _Image, metrics: Sequence[Metric], protocol: Protocol
) -> dict[str, float]:
    mask = None
    if protocol.alignment == "ecc" and metrics:
        picture, mask = align(picture, reference)
    return {m.name: m.function(picture, reference, mask) for m in metrics if m.function is not None}


def _fail(row: Row, problem: DefusionError) -> None:
    row.problem = problem
    row.scores, row.baseline = {}, {}


def _fitting(pair: Pair, out: Picture, ref: Picture | None, crop: str) -> _Image | None:
    """Pixels of the reference, if they can be compared with those of the picture."""
    if ref is None:
        return None
    pixels = centre(ref.pixels, out.pixels) if crop == "reference-centre" else ref.pixels
    if pixels.shape != out.pixels.shape:
        raise _sizes(pair.out, out.pixels, pair.ref, pixels)
    if out.grey != ref.grey and not (_is_grey(out) and _is_grey(ref)):
        found = [f"{path} is {'grey' if p.grey else 'colour'}" for path, p in ((pair.out, out), (pair.ref, ref))]
        raise DataError(
            f"{pair.name}: a grey picture is no restoration of a coloured one.",
            found="; ".join(found),
            fix="write the restored picture in colour, or convert both to grey",
        )
    return pixels


def _is_grey(picture: Picture) -> bool:
    p = picture.pixels
    return picture.grey or bool(np.array_equal(p[..., 0], p[..., 1]) and np.array_equal(p[..., 1], p[..., 2]))


def _sizes(one: Path, pixels: _Image, other: Path | None, others: _Image) -> DataError:
    return DataError(
        f"{one} and {other} have different sizes.",
        found=f"{pixels.shape[1]}×{pixels.shape[0]} and {others.shape[1]}×{others.shape[0]}",
        accepted="equal sizes: nothing is resized before it is scored",
        fix="score what was not resized; a set whose references are larger by design is named with --set",
    )


def _notes(out: Picture, ref: Picture | None) -> tuple[str, ...]:
    notes = []
    if ref is not None and out.bits != ref.bits:
        notes.append(f"{out.bits}-bit against {ref.bits}-bit: compared as fractions of the full range")
    if any(p is not None and p.alpha is not None and int(p.alpha.min()) < int(p.alpha.max()) for p in (out, ref)):
        notes.append("alpha: colours are compared, transparency is ignored")
    return tuple(notes)


def _infinite(row: Row) -> tuple[str, ...]:
    """One picture that equals the true one decides over the mean of all."""
    for scores, who in ((row.scores, "the picture"), (row.baseline, "the input")):
        names = [name for name, score in scores.items() if math.isinf(score)]
        if names:
            return (f"{who} equals the true one: infinite {' and '.join(names)}, in the mean, too",)
    return ()


def _batches(items: Iterator[_Loaded], limit_px: int) -> Iterator[list[_Loaded]]:
    """Successive items of one size, up to `limit_px` pixels, at least one."""
    batch: list[_Loaded] = []
    for item in items:
        height, width = item.out.shape[:2]
        full = batch and (batch[0].out.shape != item.out.shape or (len(batch) + 1) * height * width > limit_px)
        if full:
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _run_network(name: str, network: Any, metric: Metric, batch: Sequence[_Loaded]) -> None:
    good = [item for item in batch if item.row.problem is None]
    if not good:
        return
    refs = [item.ref for item in good if item.ref is not None] if metric.needs_reference else None
    bases = [item.base for item in good if item.base is not None]
    try:
        _store(good, name, _numbers(network, [item.out for item in good], refs), "scores")
        if bases:
            _store(good, name, _numbers(network, bases, refs), "baseline")
    except Exception as error:
        if len(good) > 1:  # perhaps only one of them is to blame, or the memory is
            for item in good:
                _run_network(name, network, metric, [item])
            return
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        height, width = good[0].out.shape[:2]
        _fail(
            good[0].row,
            DataError(f"{good[0].row.pair.out} has no {name}: {reason}.", found=f"a picture of {width}×{height}"),
        )


def _numbers(network: Any, pictures: Sequence[_Image], refs: Sequence[_Image] | None) -> list[float]:
    values = engine.run_metric(network, pictures, refs)
    if any(map(math.isnan, values)):
        raise ValueError("what it gives is not a number")
    return values


def _store(items: Sequence[_Loaded], name: str, values: Sequence[float], where: str) -> None:
    for item, value in zip(items, values, strict=True):
        getattr(item.row, where)[name] = value
