"""`python -m deploy.docker.first_keys FILE`: writes the installation's first API keys, unless they are there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import get_args

from deploy.local.state import write_private
from shared.keys import new_key
from shared.messages import Scope


def ensure_keys(path: Path) -> bool:
    """Whether `path` was written now: a JSON object of one key per scope that only its owner can read."""
    if path.exists():
        return False
    keys = {scope: new_key() for scope in sorted(get_args(Scope))}
    write_private(path, json.dumps(keys, indent=1).encode() + b"\n")
    return True


if __name__ == "__main__":
    file = Path(sys.argv[1])
    print(f"{file} {'now holds the first keys' if ensure_keys(file) else 'is there already'}")
