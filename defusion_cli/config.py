"""``defusion.toml``: any option of any command, written down once per project.

One table a command, one key an option, under its long name; positional arguments have keys, too::

    [score]
    out = "restored"
    gt = "sharp"
    metrics = ["psnr", "lpips"]     # or "psnr,lpips"

What stands on the command line wins. Unknown tables and keys are errors.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from defusion_cli.errors import UsageError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "defusion.toml"


def read_defaults(
    file: Path | None, command: str, parameters: Sequence[Any], commands: Iterable[str]
) -> dict[str, object]:
    """Values that the configuration gives to `command`, by parameter name.

    Parameters
    ----------
    file
        The configuration; None means ``defusion.toml`` in the current folder, if it exists.
    command
        Name of the subcommand.
    parameters
        Its click parameters.
    commands
        Names of all subcommands: the tables the file may have.

    Raises
    ------
    UsageError
        If the file is missing, is not TOML, or has an unknown table or key.
    """
    path = file or Path(FILE_NAME)
    if file is None and not path.exists():
        return {}
    tables = _read_tables(path, list(commands))
    known = _keys(parameters)
    defaults = {}
    for key, value in tables.get(command, {}).items():
        parameter = known.get(key.replace("-", "_"))
        if parameter is None:
            near = did_you_mean(key, known)
            raise UsageError(
                f"{path} has an unknown key in [{command}].",
                found=key,
                accepted=", ".join(sorted(known)),
                fix=f"did you mean {near}?" if near else f"defusion {command} --help",
            )
        defaults[parameter.name] = _value(path, command, key, value, parameter)
    return defaults


def _read_tables(path: Path, commands: list[str]) -> dict[str, dict[str, object]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The configuration {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"The configuration {path} is not TOML.", found=str(error)) from None
    for name, table in content.items():
        if name not in commands or not isinstance(table, dict):
            near = did_you_mean(name, commands)
            raise UsageError(
                f"{path} has an unknown {'table' if isinstance(table, dict) else 'key outside of all tables'}.",
                found=name,
                accepted=", ".join(f"[{command}]" for command in commands),
                fix=f"did you mean [{near}]?" if near else None,
            )
    return content


def _keys(parameters: Sequence[Any]) -> Mapping[str, Any]:
    """Parameters by the keys a file may use: long option names and argument names, with underscores."""
    known = {}
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            names = [parameter.name, parameter.metavar or ""]
        else:
            names = [option[2:] for option in parameter.opts if option.startswith("--")]
        for name in names:
            if name and name != "help":
                known[name.replace("-", "_").strip("[].").lower()] = parameter
    return known


def _value(path: Path, command: str, key: str, value: object, parameter: Any) -> object:
    """`value` in the form in which click expects it; click then converts and checks it like a flag."""
    items = value if isinstance(value, list) else [value]
    if any(not isinstance(item, (str, int, float)) or item == "" for item in items):
        raise UsageError(
            f"{path}: [{command}] {key} has a value that no option takes.",
            found=str(value)[:80] or "nothing",
            accepted="text, a number, true, false, or a list of them",
        )
    flag = getattr(parameter, "is_flag", False)
    if flag != isinstance(value, bool):
        accepted = "true or false" if flag else "a value, not true or false"
        raise UsageError(f"{path}: [{command}] {key} has a wrong value.", found=str(value)[:80], accepted=accepted)
    if parameter.multiple or parameter.nargs != 1:
        return [str(item) for item in items]
    return value if not isinstance(value, list) else ",".join(str(item) for item in items)
