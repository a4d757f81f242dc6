"""The way in from the shell."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence

from tinker_actors.cli.arguments import DemoOptions, JobCommand, parse
from tinker_actors.errors import DiskError, InvalidInput, JobError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 well, 1 a failure, 2 a wrong command line, 128 + n a signal."""
    if hasattr(signal, "SIGUSR1") and threading.current_thread() is threading.main_thread():
        signal.signal(
            signal.SIGUSR1, signal.SIG_IGN
        )  # it asks a runtime for its state: no reason to end where none is
    options = parse(arguments)
    name = "demo" if isinstance(options, DemoOptions) else "job" if isinstance(options, JobCommand) else "serve"
    try:
        if isinstance(options, DemoOptions):
            from tinker_actors.cli.demo import run_demo

            return run_demo(options)
        if isinstance(options, JobCommand):
            from tinker_actors.cli.jobs import run_job_command

            code = run_job_command(options)
            sys.stdout.flush()
            return code
        from tinker_actors.cli.serve import run_serve

        return run_serve(options)
    except InvalidInput as error:
        print(f"tinker-actors {name}: {error}", file=sys.stderr)
        return 2
    except (JobError, DiskError) as error:
        print(f"tinker-actors {name}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads our output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nor is the interpreter to complain when it flushes
        return 141  # as by SIGPIPE
    except KeyboardInterrupt:  # before or after the time in which the command looks after it
        return 130
