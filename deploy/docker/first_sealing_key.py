"""`python -m deploy.docker.first_sealing_key FILE`: writes the key that seals secrets at rest, unless it is there."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.local.state import write_private
from shared.sealing import new_sealing_key


def ensure_sealing_key(path: Path) -> bool:
    """Whether `path` was written now: one key that only its owner can read."""
    if path.exists():
        return False
    write_private(path, f"{new_sealing_key()}\n".encode())
    return True


if __name__ == "__main__":
    file = Path(sys.argv[1])
    print(f"{file} {'now holds the first key' if ensure_sealing_key(file) else 'is there already'}")
