"""The short form of ``make mutants``: damaged pictures are read or refused, and nothing worse."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import corpus, mutant

from defusion_cli.images import decode_image

HARNESS = Path(__file__).parent / "mutants.py"


def test_what_the_mutants_are_made_from_is_sound() -> None:
    for name, content in corpus().items():
        picture = decode_image(content, Path(name))
        # Those with EXIF are stored lying down.
        assert sorted(picture.pixels.shape[:2]) == [42, 54], name


def test_a_mutant_is_its_number() -> None:
    files = corpus()
    assert mutant(files, 0, 5) == mutant(files, 0, 5)
    assert len({mutant(files, 0, number)[1] for number in range(200)}) > 190


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the harness forks")
@pytest.mark.parametrize("first", [0, 7850])  # among the second lot: a picture that SSIM is too large for
def test_mutants_do_no_harm(first: int) -> None:
    command = [sys.executable, str(HARNESS), "--count", "100", "--first", str(first)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 complaints" in done.stdout
