"""A folder of photographs through the model: reading ahead, writing behind, going on where the last run stopped."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from defusion_cli.canvas import Canvas
from defusion_cli.errors import DataError, DefusionError
from defusion_cli.files import existing_part, require_writable, staged
from defusion_cli.images import encode_canvas, format_of, open_canvas
from defusion_cli.interrupt import patient_interrupt
from defusion_cli.restore.ledger import Ledger
from defusion_cli.restore.plan import Job
from defusion_cli.shortage import is_out_of_memory

_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""The next file would fail likewise."""


NOTHING_TO_REMOVE = "nothing to remove"
"""The instruction of a picture in which no damage was recognised."""

RECOGNISED = "recognised"
"""Name of the fact that holds the probability of each degradation."""

SCALES = "scales"
"""Name of the fact that holds the scales, 0 … 1, at which the damage was estimated, one for each pass."""

_HARDLY = 0.5
"""A share below it is told."""

SHARES = "shares"
"""Name of the fact that holds which part, 0 … 1, of the estimate was taken away of damage that may not be there."""

BLURS = "blurs"
"""Name of the fact that holds which part, 0 … 1, of each blur is undone that was looked for; 0 if none was found."""

FRAMES = "frames"
"""Name of the fact that holds how many pictures the file had, if it had more than the one that is restored."""

NOTED = ("instruction", RECOGNISED, SCALES, SHARES, BLURS, FRAMES)
"""What a `Remark` may say that is wanted again when the picture is skipped in a later run."""


@dataclass(frozen=True)
class Remark:
    """What a restoring function has to say of the picture in hand.

    Attributes
    ----------
    facts
        Noted in the ledger, in place of `Options.facts` of the same names.
    untouched
        Nothing was changed: the file itself is copied where its format stays.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    untouched: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of one photograph: ``restored``, ``skipped`` (it was done before) or ``failed``, and why."""

    job: Job
    state: str
    seconds: float = 0.0
    """Of computing; 0 if it never came to that."""
    size: tuple[int, int] | None = None
    """Width and height in pixels, of a restored one."""
    problem: DefusionError | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the restoring function said of it, now or in the run that made it."""


def in_words(facts: Mapping[str, Any]) -> str:
    """What was recognised and how sure that is, in one line, as in ``rain 97 %, noise 81 %``."""
    probabilities: dict[str, float] = facts[RECOGNISED]
    if facts["instruction"] == NOTHING_TO_REMOVE:
        name, value = max(probabilities.items(), key=lambda pair: pair[1])
        return f"{NOTHING_TO_REMOVE}, copied unchanged ({name} {100 * value:.0f} %)"
    shown = facts["instruction"].split(" + ")
    return ", ".join(f"{name} {100 * probabilities[name]:.0f} %" for name in shown)


def remarks_in_words(facts: Mapping[str, Any]) -> str:
    """All that there is to say of one picture, in one line; empty if it is nothing unusual."""
    scales = scales_in_words(facts)
    remarks = [
        in_words(facts) if RECOGNISED in facts else "",
        f"worked on at {scales}" if scales else "",
        doubts_in_words(facts),
        blurs_in_words(facts),
        f"only the first of its {facts[FRAMES]} frames" if FRAMES in facts else "",
    ]
    return "; ".join(filter(None, remarks))


def scales_in_words(facts: Mapping[str, Any]) -> str:
    """At which sizes damage was estimated, as in ``1/4 of its size``; empty if only at the full one."""
    fractions = ["full size" if scale == 1 else f"1/{round(1 / scale)} of its size" for scale in facts.get(SCALES, ())]
    return "" if set(fractions) <= {"full size"} else ", then at ".join(fractions)


def doubts_in_words(facts: Mapping[str, Any]) -> str:
    """Of what less than half was taken away, as in ``low-light is hardly to be seen: 8 % of the change made``."""
    words = [
        f"{kind} is hardly to be seen: {f'{100 * share:.0f} % of the change made' if share else 'left as it is'}"
        for kind, share in facts.get(SHARES, {}).items()
        if share < _HARDLY
    ]
    return f"{'; '.join(words)} (--insist takes it for certain)" if words else ""


def blurs_in_words(facts: Mapping[str, Any]) -> str:
    """Why a photograph is hardly sharper than it was; empty if it should be."""
    most = max(facts.get(BLURS, ()), default=1.0)
    if not most:
        return "no blur was found that is the same all over, so it is sharpened a little at most"
    return "" if most >= _HARDLY else f"the blur that was found is uncertain: {100 * most:.0f} % of it undone"


def sureness(facts: Mapping[str, Any]) -> float:
    """Probability, 0 … 1, of the least certain of what was recognised; or that nothing is there to remove."""
    probabilities: dict[str, float] = facts[RECOGNISED]
    if facts["instruction"] == NOTHING_TO_REMOVE:
        return 1 - max(probabilities.values())
    return min(probabilities[name] for name in facts["instruction"].split(" + "))


def restore_files(
    jobs: Sequence[Job],
    restore: Callable[[Canvas], Remark | None],
    ledger: Ledger | None,
    options: Options | None = None,
    watch: Callable[[Outcome], None] = lambda outcome: None,
    shrink: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Restore every file that is not finished; one that cannot be read or written is reported, the rest are done.

    While one picture is computed, the next is read and the last is written. Interrupted once, the run finishes the
    picture in hand; twice or by SIGTERM, it stops at once, and what is computed is still written.

    Parameters
    ----------
    restore
        Works on the samples in place, and may return a remark.
    ledger
        Record of the output folder; None keeps none.
    options
        How files are treated.
    watch
        Called with every outcome, in the order of `jobs`.
    shrink
        Called when the memory was short: makes `restore` need less, or returns False if it cannot.

    Raises
    ------
    OSError
        If the disk is full or read-only: no other file would fare better.
    """
    outcomes: list[Outcome] = []

    def report(outcome: Outcome) -> None:
        outcomes.append(outcome)
        watch(outcome)

    options = options or Options()
    with patient_interrupt() as stop, ThreadPoolExecutor(max_workers=2) as pool:
        reading = [pool.submit(_open, job, ledger, options) for job in jobs[:1]]
        writing: Future[Outcome] | None = None
        for number, job in enumerate(jobs):
            opened = reading.pop().result()
            reading += [pool.submit(_open, following, ledger, options) for following in jobs[number + 1 : number + 2]]
            made = opened if isinstance(opened, Outcome) else _compute(job, opened, restore, shrink)
            if writing is not None:
                report(writing.result())
            writing = pool.submit(_store, made, ledger, options)
            if stop.asked and number + 1 < len(jobs):
                report(writing.result())
                stop.raise_if_asked()
        if writing is not None:
            report(writing.result())
    return outcomes


@dataclass(frozen=True)
class Options:
    """How files are treated.

    Attributes
    ----------
    overwrite
        Restore finished files again, and replace files that are not ours.
    quality
        Of lossy formats, 1…100.
    facts
        Noted in the ledger with each file.
    """

    overwrite: bool = False
    quality: int = 95
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Restored:
    job: Job
    canvas: Canvas
    seconds: float
    remark: Remark


def _open(job: Job, ledger: Ledger | None, options: Options) -> Canvas | Outcome:
    """The decoded source, or the outcome if there is nothing to compute."""
    try:
        if not options.overwrite and job.target.exists():
            if ledger and ledger.is_finished(job):
                return Outcome(job, "skipped", facts=ledger.facts(job, NOTED))
            if not (ledger and ledger.owns(job)):
                raise DataError(f"{job.target} is there already.", fix="add --overwrite, or name another output")
        format_of(job.target)
        require_writable(job.target.parent)  # said before anything is computed
        return open_canvas(job.source, scratch=job.target.parent)
    except DefusionError as error:
        return Outcome(job, "failed", problem=error)
    except OSError as error:
        if error.errno in _HOPELESS:
            raise
        return Outcome(job, "failed", problem=_problem(error, job))


def _compute(
    job: Job, canvas: Canvas, restore: Callable[[Canvas], Remark | None], shrink: Callable[[], bool]
) -> _Restored | Outcome:
    start = time.perf_counter()
    while True:
        try:
            remark = restore(canvas) or Remark()
            if canvas.frames > 1 and not _is_copied(job, remark):
                remark = replace(remark, facts={**remark.facts, FRAMES: canvas.frames})
            return _Restored(job, canvas, time.perf_counter() - start, remark)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        if not shrink():
            problem = DataError(
                f"The memory does not suffice for {job.source}.", fix="close other programs, or add --device cpu"
            )
            return Outcome(job, "failed", problem=problem)
        try:  # the samples are half done
            canvas = open_canvas(job.source, scratch=job.target.parent)
        except DefusionError as error:
            return Outcome(job, "failed", problem=error)


def _store(made: _Restored | Outcome, ledger: Ledger | None, options: Options) -> Outcome:
    if isinstance(made, Outcome):
        return made
    job, seconds = made.job, made.seconds
    try:
        with staged(job.target) as file:
            _put(file, made, options)
            if ledger:
                file.flush()
                ledger.add(job, file, {**options.facts, **made.remark.facts, "seconds": round(seconds, 3)})
    except DefusionError as error:
        return Outcome(job, "failed", seconds, problem=error)
    except OSError as error:
        if error.errno in _HOPELESS:
            raise
        return Outcome(job, "failed", seconds, problem=_problem(error, job))
    height, width = made.canvas.size
    return Outcome(job, "restored", seconds, (width, height), facts=made.remark.facts)


def _put(file: BinaryIO, made: _Restored, options: Options) -> None:
    job = made.job
    if _is_copied(job, made.remark):
        with open(job.source, "rb") as source:
            shutil.copyfileobj(source, file)
    else:
        encode_canvas(file, made.canvas, job.target, options.quality)


def _is_copied(job: Job, remark: Remark) -> bool:
    """Whether the file itself is what is wanted."""
    return remark.untouched and job.source.suffix.lower() == job.target.suffix.lower()


def _problem(error: OSError, job: Job) -> DataError:
    place = existing_part(job.target.parent)
    return DataError(f"{job.target} cannot be written: {error.strerror or error}.", fix=f"ls -ld {place}")
