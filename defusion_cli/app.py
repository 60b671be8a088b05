"""The command line: subcommands that load on demand, configuration, and the single error boundary."""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from defusion_cli import __version__
from defusion_cli.commands import COMMANDS
from defusion_cli.config import FILE_NAME, read_defaults
from defusion_cli.console import speaks
from defusion_cli.errors import DefusionError, UsageError, one_line
from defusion_cli.interrupt import Terminated

# Typer carries its own copy of click in some versions and imports it in others; the base class of click's errors
# is the same distance above the one that Typer exports in both.
_ClickError: type[Any] = typer.BadParameter.__mro__[2]


class _LazyGroup(TyperGroup):
    """Subcommands by name; a module is imported when its command runs or shows its own help, not before."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=text) for name, text in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, listed, rest = super().resolve_command(ctx, args)
        if name is None or listed is None:
            return name, listed, rest
        if "" in rest and not ctx.resilient_parsing:  # as a path it would mean the current folder
            raise UsageError(
                "An argument is empty.",
                found=shlex.join(["defusion", name, *rest]),
                accepted="a value, or the argument left out",
                fix="see whether a variable of the shell has no value",
            )
        command = _load(name)
        if not ctx.resilient_parsing and not {"-h", "--help"} & set(rest):
            ctx.default_map = {name: read_defaults(ctx.params.get("config"), name, command.params, COMMANDS)}
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _ClickError as error:
            _name_configuration(ctx, error)
            raise  # usage errors and orderly exits are Typer's to show
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:
            raise  # the reader of our output has gone; Typer leaves without a word
        except (Exception, KeyboardInterrupt) as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            _print_error(error)
            raise typer.Exit(exit_code(error)) from None


def _name_configuration(ctx: Any, error: Any) -> None:
    """Add to a wrong value that came from the configuration where it stands."""
    parameter = getattr(error, "param", None)
    table = (ctx.default_map or {}).get(ctx.invoked_subcommand, {})
    if parameter is not None and parameter.name in table:
        path = ctx.params.get("config") or FILE_NAME
        error.message = f"{error.message} ({path} has {parameter.name} = {table[parameter.name]!r})"


def _load(name: str) -> Any:
    """The command `name` as a click command; its failure to import concerns no other command."""
    module_name = name.replace("-", "_")
    try:
        module = importlib.import_module(f"defusion_cli.commands.{module_name}")
        function = getattr(module, module_name)
    except Exception as error:
        raise DefusionError(
            f"The command {name!r} cannot be loaded ({type(error).__name__}: {error}).",
            fix="pip install --force-reinstall defusion",
        ) from error
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name)(function)
    return typer.main.get_command(single)


def exit_code(error: BaseException) -> int:
    """0 done, 1 failed, 2 usage, 3 bad data, 4 plugin, 130 interrupted, 143 terminated."""
    if isinstance(error, DefusionError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return 143 if isinstance(error, Terminated) else 130
    if isinstance(error, OSError) and error.errno != errno.ENOSPC:
        return 3
    return 1


def explain(error: BaseException) -> DefusionError:
    """`error` as sentences for the person who ran the command."""
    if isinstance(error, DefusionError):
        return error
    if isinstance(error, KeyboardInterrupt):
        kept = str(error) or "Finished files are kept."
        return DefusionError(f"Interrupted. {kept}", fix="run the same command again to go on")
    if isinstance(error, MemoryError):
        return DefusionError(
            "The memory is not sufficient.", fix="close other programs, or work on fewer files at once"
        )
    if isinstance(error, OSError):
        name = error.filename2 or error.filename  # of two, the first is the temporary one
        where = f" {name}" if name is not None else ""
        if error.errno == errno.ENOSPC:
            return DefusionError(
                f"The disk is full{':' if where else ''}{where}. Finished files are kept.",
                fix="free some space and run the same command again",
            )
        reason = (error.strerror or str(error) or type(error).__name__).rstrip(".")
        return DefusionError(
            f"A file cannot be used:{where or ' (unnamed)'}: {reason}.", fix="check the path and its permissions"
        )
    reason = one_line(str(error)) or "no reason given"
    return DefusionError(
        f"Something unexpected went wrong ({type(error).__name__}: {reason}).", fix="run again with defusion --debug …"
    )


def _print_error(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt) and not speaks():
        return
    label = "stopped:" if isinstance(error, KeyboardInterrupt) else "error:"
    typer.secho(f"{label} ", fg="red", bold=True, err=True, nl=False, color=_colour())
    typer.echo(str(explain(error)), err=True)


def _colour() -> bool | None:
    """False where the user asked for no colour (no-color.org); None lets the terminal decide."""
    return False if os.environ.get("NO_COLOR") else None


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"defusion {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: defusion restore photos/ restored/ --degradation rain",
)


@app.callback()
def _defusion(
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Take options from this TOML file.  [default: defusion.toml, if there is one]"
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    no_third_party_plugins: Annotated[
        bool, typer.Option("--no-third-party-plugins", help="Use none but the built-in degradations.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and leave.")
    ] = False,
) -> None:
    """Restore photographs with one diffusion model that is shown what to remove."""
    if no_third_party_plugins:
        os.environ["DEFUSION_NO_THIRD_PARTY_PLUGINS"] = "1"
