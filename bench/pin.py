"""Becomes another program that runs on one core only: `pin.py CORE PROGRAM …`.

Before the program starts, so that every pool of threads it makes is sized for that core.
"""

import os
import sys


def main(arguments: list[str]) -> int:
    core, *command = arguments
    os.sched_setaffinity(0, {int(core)})
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
