"""From the user's words to an exit code: every expected failure is one sentence on stderr."""

import os
import sys
from collections.abc import Sequence

import typer

from bmapest_ray.base.errors import BmapestError

try:
    from typer._click.exceptions import ClickException
except ImportError:  # typer before 0.20 stood on click itself
    from click.exceptions import ClickException  # type: ignore[assignment]

INTERRUPTED = 130
CLOSED_PIPE = 141


def run_safely(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code, whatever happens on the way."""
    from bmapest_ray.cli.app import app

    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = int(app(words, prog_name="bmapest", standalone_mode=False) or 0)
        return _fail("interrupted", code) if code == INTERRUPTED else code
    except BmapestError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except ClickException as error:
        return _fail(_usage(error), 2)
    except typer.Exit as stop:
        return stop.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        return _fail(_os_sentence(error), 2)


def _usage(error: ClickException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "bmapest"
    return f"{error.format_message().rstrip('.')}; see '{command} --help'"


def _os_sentence(error: OSError) -> str:
    """Say what the system refused, e.g. a full disk or a folder without permission."""
    where = f" '{error.filename}'" if error.filename else ""
    return f"the system refused{where}: {error.strerror or error}; choose another path or free it"


def _fail(sentence: str, code: int) -> int:
    """Write one line to stderr."""
    typer.echo(f"bmapest: {' '.join(sentence.split())}", err=True)
    return code
