"""Applies every service's plain-SQL migrations, each service in a schema of its own."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from deploy.local.children import ProgramError, run_to_end


def migration_directories() -> dict[str, Path]:
    """Service name → directory of its `*.sql`, for the services that have any."""
    spec = find_spec("services")
    if spec is None or not spec.submodule_search_locations:
        return {}
    root = Path(next(iter(spec.submodule_search_locations)))
    found = {path.parent.name: path for path in sorted(root.glob("*/migrations"))}
    return {name: path for name, path in found.items() if any(path.glob("*.sql"))}


async def migrate(postgres: str, *, cwd: Path) -> None:
    """Brings all schemas up to date; safe to run from several places at once. Raises `ProgramError`.

    `postgres` is a postgresql:// URL; `cwd` is where dbmate runs (it would read an `.env` file there).
    """
    for service, directory in migration_directories().items():
        table = f"{service}.schema_migrations"
        argv = (dbmate(), "--no-dump-schema", "-d", str(directory), "--migrations-table", table, "up")
        try:
            await run_to_end(argv, env={"DATABASE_URL": without_tls(postgres)}, cwd=cwd)
        except ProgramError as error:
            raise ProgramError(f"migrations of {service}: {error}") from error


def dbmate() -> str:
    """The path of the binary, which its package puts beside the interpreter. Raises `ProgramError`."""
    beside = Path(sys.executable).with_name("dbmate")
    found = str(beside) if beside.exists() else shutil.which("dbmate")
    if found is None:
        raise ProgramError("dbmate is not installed: run `make setup`")
    return found


def without_tls(postgres: str) -> str:
    """dbmate insists on TLS unless the URL says something about it."""
    parts = urlsplit(postgres)
    query = dict(parse_qsl(parts.query))
    return urlunsplit(parts._replace(query=urlencode({"sslmode": "disable", **query})))
