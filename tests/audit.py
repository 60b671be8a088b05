"""Compare the installed packages with the security advisories that PyPI publishes.

    python tests/audit.py     (or: make audit, which installs pip-audit first)

pip-audit leaves with success from where it could ask about nothing, and with a traceback where nobody answers. Here
both are failures, in a sentence.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from defusion_cli.errors import DataError, DefusionError

_COMMAND = (sys.executable, "-m", "pip_audit", "--local", "--skip-editable", "--format=json", "--progress-spinner=off")


def ask() -> dict[str, Any]:
    """pip-audit's report: ``dependencies`` with ``name``, and ``version`` and ``vulns``, or a ``skip_reason``.

    Raises
    ------
    DefusionError
        If pip-audit is missing or had no answer.
    """
    done = subprocess.run(_COMMAND, capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["nothing"]
        raise DefusionError(
            "Nothing was audited: pip-audit ended without a report.",
            found=said[-1],
            fix="make audit, where PyPI can be reached",
        ) from None


def verdict(report: dict[str, Any]) -> str:
    """How many packages have no known vulnerability, and which could not be looked up.

    Raises
    ------
    DataError
        If one has a known vulnerability.
    DefusionError
        If PyPI knew none of them.
    """
    skipped = sorted(each["name"] for each in report["dependencies"] if "skip_reason" in each)
    audited = [each for each in report["dependencies"] if "skip_reason" not in each]
    if not audited:
        raise DefusionError(
            "Nothing was audited: the index that was asked knows advisories for none of the packages.",
            found=f"{len(skipped)} packages skipped",
            fix="make audit, where PyPI itself can be reached",
        )
    vulnerable = [f"{each['name']} {each['version']}: {_in_words(flaw)}" for each in audited for flaw in each["vulns"]]
    if vulnerable:
        raise DataError(
            "Installed packages have known vulnerabilities.",
            found="; ".join(vulnerable),
            fix="upgrade them, or drop them",
        )
    missing = f" Not audited, because PyPI does not know them: {', '.join(skipped)}." if skipped else ""
    return f"No known vulnerability in {len(audited)} of {len(audited) + len(skipped)} packages.{missing}"


def _in_words(flaw: dict[str, Any]) -> str:
    return f"{flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no release'}"


if __name__ == "__main__":
    try:
        print(verdict(ask()))
    except DefusionError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
