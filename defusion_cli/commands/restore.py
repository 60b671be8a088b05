"""``defusion restore``: parse, load, run, tell."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from defusion_cli import console
from defusion_cli.commands.plugin_options import AUTO, BLIND, complete_damage, split_ids
from defusion_cli.errors import UsageError

if TYPE_CHECKING:
    from defusion_cli.diffusion import DefusionPipeline
    from defusion_cli.recognition import DegradationRecogniser
    from defusion_cli.restore.instruction import Instruction, Instructor
    from defusion_cli.restore.ledger import Ledger
    from defusion_cli.restore.plan import Job
    from defusion_cli.restore.run import Options, Outcome
    from defusion_cli.restore.shares import Share

_STATES = {"restored": "restored", "skipped": "done before", "failed": "failed"}
"""What can become of a file, and how it is said."""


def restore(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder of photographs, or one.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the restored ones, or a file name for one.")],
    degradation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="auto|blind|ID",
            autocompletion=complete_damage,
            help="What to remove: rain, snow, haze …, or rain,noise; auto: what is recognised, as without it; blind: "
            "whatever the model sees.",
        ),
    ] = None,
    example: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="DAMAGED CLEAN", help="Remove what differs between these two pictures of one view."),
    ] = None,
    insist: Annotated[
        bool, typer.Option("--insist", help="What is named is there, even where it is not recognised.")
    ] = False,
    model: Annotated[str, typer.Option(metavar="default|FOLDER|HUB_ID", help="Model to restore with.")] = "default",
    steps: Annotated[
        int, typer.Option(min=1, max=50, metavar="N", help="Denoising steps, 1 to 50: one is the most accurate.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Decides the noise it starts from.")] = 0,
    tile: Annotated[
        int | None,
        typer.Option(min=128, max=16384, metavar="PX", help="Side of a tile; without it, as the memory allows."),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            metavar="auto|FRACTION",
            help="Size at which damage is estimated: 1, 0.5, 0.33, 0.25 …; auto: found from each picture.",
        ),
    ] = "auto",
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", "--compare", metavar="FILE", help="Show before and after: page.html to explore, or sheet.jpg."
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The true picture, or folder of them: scores on the page.")
    ] = None,
    quality: Annotated[
        int,
        typer.Option(min=1, max=100, metavar="N", help="Of JPEG, WebP, AVIF and HEIC; from 90 on with full colour."),
    ] = 95,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Restore finished ones again; replace files that are there.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda[:N]", help="Where to compute.")] = "auto",
    gpus: Annotated[
        int, typer.Option(min=0, max=64, metavar="N", help="Processes that share the folder, one GPU each.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; write nothing.")] = False,
) -> None:
    """Take rain, snow, haze, blur or noise out of photographs.

    Finished files are skipped on a rerun: defusion-restore.jsonl, in OUT or beside it, tells how each file was made.

    Example: defusion restore photos/ restored/ --degradation rain,noise
    """
    from defusion_cli.files import remove_leftovers
    from defusion_cli.restore.plan import parse_scale, plan_jobs
    from defusion_cli.restore.shares import SHARE, own_share

    reduction = parse_scale(scale)
    ids = list(dict.fromkeys(split_ids(degradation) or ([] if example else [AUTO])))
    label = _label(ids, example)
    jobs = plan_jobs(source, out, overwrite)
    _check_report(report, reference, jobs)
    share = own_share()
    if share.total > 1 or gpus:
        _check_shared(report, json)
    if gpus and not dry_run and SHARE not in os.environ:
        _run_shares(gpus, jobs, out)
        return
    _tell_left_out(source)
    jobs = share.of(jobs)
    if not jobs:
        return
    task = _load(model, device, ids, example, insist)
    from defusion_cli.restore.run import Options

    sampling: dict[str, Any] = {"steps": steps, "seed": seed, "tile": tile}
    settings = {"model": model, **sampling, "scale": round(1 / reduction, 4) if reduction else scale}
    folder = out.parent if jobs[0].target == out else out
    ledger = _open_ledger(folder, {"task": task, "quality": quality, "insist": insist, **settings}, share)
    if dry_run:
        _show_plan(jobs, ledger, overwrite, label)
        return
    remove_leftovers(folder, deep=folder == out)
    start = time.monotonic()
    options = Options(overwrite, quality, {"instruction": label, "steps": steps})
    outcomes = _run(jobs, ledger, options, task, {**sampling, "reduction": reduction})
    shown = _show(report, outcomes, label, reference)
    if json:
        _print_report(outcomes, out, shown, {"instruction": label, **settings})
    elif share.total == 1 and (shown or any(outcome.state != "failed" for outcome in outcomes)):
        console.result(str(shown or (out if out.is_dir() else jobs[0].target)))
    counts = {words: sum(outcome.state == state for outcome in outcomes) for state, words in _STATES.items()}
    where = out if share.total == 1 else f"{out}, share {share.number} of {share.total}"
    console.summary(counts, time.monotonic() - start, where)
    if counts["failed"]:
        raise typer.Exit(3)


def _label(ids: list[str], example: tuple[Path, Path] | None) -> str:
    """What is to be removed, in words; names are checked before anything slow happens."""
    from defusion_cli.plugins import installed_plugins

    if ids and example:
        raise UsageError(
            "What to remove is said in more than one way.",
            found="--degradation and --example",
            accepted="one of --degradation (several times for a mixture) and --example",
        )
    word = next((one for one in ids if one in (AUTO, BLIND)), None)
    if word and len(ids) > 1:
        raise UsageError(
            f"--degradation {word} goes with no other.", found=" and ".join(ids), fix=f"--degradation {word}"
        )
    for plugin_id in () if word else ids:
        installed_plugins()[plugin_id]
    if example:
        return f"example {example[0].name} {example[1].name}"
    return " + ".join(ids)


def _check_report(report: Path | None, reference: Path | None, jobs: Sequence[Job]) -> None:
    """Refuse, before any work, what could not be written at its end."""
    from defusion_cli.files import require_writable
    from defusion_cli.images import FORMATS
    from defusion_cli.report.page import check_page_name

    if reference is not None:
        _check_reference(report, reference)
    if report is None:
        return
    require_writable(report.parent)
    if _is_page(report):
        check_page_name(report)
        return
    if report.suffix.lower() not in FORMATS:
        raise UsageError(
            "--report names neither a page nor a picture.",
            found=str(report),
            accepted=f".html for a page; {', '.join(FORMATS)} for a sheet",
            fix="--report report.html",
        )
    if report.resolve() in {path.resolve() for job in jobs for path in (job.source, job.target)}:
        raise UsageError(f"The sheet would replace {report}, a photograph.", fix="--report sheet.jpg")
    if report.exists():
        from defusion_cli.restore.sheet import is_sheet

        if not is_sheet(report):
            raise UsageError(
                f"The sheet would replace {report}, which is no sheet of defusion's.",
                fix="--report with another name; to compare with the true picture: --reference FILE --report page.html",
            )


def _tell_left_out(source: Path) -> None:
    from defusion_cli.restore.plan import kinds_left_out

    left_out = kinds_left_out(source)
    if left_out:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in left_out.items())
        console.note(f"left out, as they cannot be read: {kinds} (save them as TIFF, PNG or JPEG first)")


def _check_shared(report: Path | None, json: bool) -> None:
    for name, given in (("--report", report), ("--json", json)):
        if given:
            raise UsageError(
                f"{name} does not go with shares of a folder, of which none knows of the others.",
                fix=f"run the command with {name} and without --gpus afterwards: what is finished is skipped",
            )


def _run_shares(count: int, jobs: Sequence[Job], out: Path) -> None:
    from defusion_cli.restore.shares import run_shares

    start = time.monotonic()
    console.note(f"{len(jobs)} pictures, shared by {count} processes; the first one shows its progress")
    try:
        run_shares(count, sys.argv[1:])
    finally:
        there = sum(job.target.is_file() for job in jobs)
        console.summary({"there": there, "missing": len(jobs) - there}, time.monotonic() - start, out)
    console.result(str(out if out.is_dir() else jobs[0].target))


def _is_page(report: Path) -> bool:
    return report.suffix.lower() in (".html", ".htm")


def _check_reference(report: Path | None, reference: Path) -> None:
    from defusion_cli.commands.report_pages import check_reference

    if report is None or not _is_page(report):
        raise UsageError("The scores of --reference stand on a page.", fix="add --report report.html")
    check_reference(reference)


class _Task(NamedTuple):
    """The model on its device, the instruction, and where that depends on the picture, who tells it."""

    pipeline: DefusionPipeline
    instructor: Instructor
    instruction: Instruction
    recogniser: DegradationRecogniser | None = None


def _load(model: str, device: str, ids: list[str], example: tuple[Path, Path] | None, insist: bool) -> _Task:
    from defusion_cli.images import read_pixels
    from defusion_cli.plugins import installed_plugins

    pair = [read_pixels(path) for path in example or ()]

    from defusion_cli.restore.light import light_diffusers

    with light_diffusers():
        from defusion_cli.restore.instruction import Instructor
        from defusion_cli.restore.model import choose_device, load_pipeline, load_recogniser

        recogniser = load_recogniser(model, choose_device(device)) if ids == [AUTO] else None
        pipeline = load_pipeline(model, choose_device(device))
    # What was recognised need not be asked about again.
    instructor = Instructor(pipeline, installed_plugins(), insist=insist or recogniser is not None)
    if ids and ids != [BLIND] and not recogniser:
        return _Task(pipeline, instructor, instructor.by_parts(ids))
    instruction = instructor.example(*pair) if pair else instructor.blind()
    return _Task(pipeline, instructor, instruction, recogniser)


def _open_ledger(folder: Path, settings: dict[str, Any], share: Share) -> Ledger:
    """The record of `folder`, which is OUT, or that in which OUT is a file."""
    from defusion_cli.restore.ledger import Ledger
    from defusion_cli.restore.model import fingerprint

    model, task = settings["model"], settings.pop("task")
    shown = b"".join(part.tokens.cpu().numpy().tobytes() for part in task.instruction)
    tokens = hashlib.sha256(shown).hexdigest()[:16]
    if task.recogniser is not None:
        tokens = f"{AUTO} {fingerprint(model, recogniser=True)}"
    return Ledger(folder, settings | {"model": fingerprint(model), "tokens": tokens}, share)


def _run(
    jobs: Sequence[Job],
    ledger: Ledger,
    options: Options,
    task: _Task,
    sampling: dict[str, Any],
) -> list[Outcome]:
    from defusion_cli.restore.automatic import AutomaticRestorer
    from defusion_cli.restore.restorer import Restorer
    from defusion_cli.restore.run import remarks_in_words, restore_files

    with console.progress("Restoring", len(jobs), "pictures") as bar:

        def tick(share: float) -> None:
            bar.status(f"{share:.0%} of the one in hand")

        def watch(outcome: Outcome) -> None:
            if outcome.problem:
                (bar.note if console.speaks() else console.complain)(str(outcome.problem))
            elif outcome.state == "restored":
                words = remarks_in_words(outcome.facts)
                if words:
                    bar.note(f"{outcome.job.name}: {words}")
            bar.advance()

        restorer: Any = Restorer(task.pipeline, task.instruction, **sampling, on_progress=tick, say=bar.note)
        if task.recogniser is not None:
            restorer = AutomaticRestorer(restorer, task.instructor, task.recogniser)
        return restore_files(jobs, restorer, ledger, options, watch, restorer.shrink)


def _show(report: Path | None, outcomes: Sequence[Outcome], label: str, reference: Path | None) -> Path | None:
    """Write the page or the sheet; its path, if there was anything to show."""
    if report is None:
        return None
    if _is_page(report):
        from defusion_cli.commands.report_pages import write_restore_page
        from defusion_cli.restore.run import RECOGNISED, sureness

        seen = {
            one.job.name: (one.facts["instruction"], sureness(one.facts)) for one in outcomes if RECOGNISED in one.facts
        }
        write_restore_page(report, outcomes, label, reference, seen)
        return report
    from defusion_cli.restore.sheet import write_sheet

    drawn = write_sheet([outcome.job for outcome in outcomes], report)
    if drawn < len(outcomes):
        console.note(f"{report} shows {drawn} of {len(outcomes)} pictures.")
    return report if drawn else None


def _show_plan(jobs: Sequence[Job], ledger: Ledger, overwrite: bool, label: str) -> None:
    for job in jobs:
        done = not overwrite and ledger.is_finished(job)
        console.result(f"{job.source} -> {job.target}: {'done before' if done else label}")


def _print_report(outcomes: Sequence[Outcome], out: Path, shown: Path | None, settings: dict[str, Any]) -> None:
    files = [
        {
            "source": str(outcome.job.source),
            "target": str(outcome.job.target),
            "state": outcome.state,
            "seconds": outcome.seconds,
            "problem": outcome.problem.failed if outcome.problem else None,
            "instruction": outcome.facts.get("instruction", settings["instruction"]),
            "recognised": outcome.facts.get("recognised"),
            "scales": outcome.facts.get("scales"),
            "shares": outcome.facts.get("shares"),
        }
        for outcome in outcomes
    ]
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in _STATES}
    report = {"out": str(out), "report": str(shown) if shown else None, "settings": settings}
    console.print_json("defusion-restore", {**report, "counts": counts, "files": files})
