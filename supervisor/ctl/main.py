"""`python -m supervisor ctl …`: reads the words, runs the command, makes what went wrong a line and an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from supervisor.config import EX_CONFIG, ConfigError
from supervisor.ctl import arguments
from supervisor.ctl.client import Client
from supervisor.ctl.errors import CtlError
from supervisor.ctl.output import Output

_INTERRUPTED = 130


def main(arguments_: Sequence[str]) -> int:
    """Exit codes are in the help, and in errors.py."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no dash gets a question mark
    words = arguments.parser().parse_args(arguments_)
    out = Output(json=getattr(words, "json", False))
    try:
        client = Client(arguments.find_server(words), arguments.find_key(words))
        code: int = words.run(client, out, words)
        sys.stdout.flush()
        return code
    except CtlError as error:
        out.fail(error)
        return error.exit_code
    except ConfigError as error:
        out.fail(CtlError(str(error)))
        return EX_CONFIG
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        # Whatever answers there may be another server, or another version. A bug of ours would look the same.
        why = " ".join(str(error).split())[:200]
        out.fail(CtlError(f"the answer is not as expected ({type(error).__name__}: {why}): is it llama-supervisor?"))
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # who read has had enough; nobody is to be told at exit, either
        return 0
