"""The command line: one file per command, put together in ``app``; ``lab`` holds the commands of the lab.

Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point: user errors become one message, everything else is a bug and keeps its traceback."""
    # Small models run slower on many threads, and two threads of a tokenizer warn when a process forks.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from selfreward.cli.app import app
    from selfreward.errors import UserError

    try:
        app()
    except UserError as error:
        print(f"selfreward: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        print(f"selfreward: {error}. Nothing that was saved before is touched.", file=sys.stderr)
        sys.exit(2)
