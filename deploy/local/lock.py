"""Regenerates `kafka.lock`: `python -m deploy.local.lock [KAFKA_VERSION]` (maintainers only; reads the network)."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from deploy.local.artifacts import LOCK_FILE, Jar, digest, format_lock

KAFKA_VERSION = "4.3.1"


def resolve(kafka_version: str, cache: Path) -> tuple[Jar, ...]:
    """Kafka's run-time jars plus the SLF4J binding for the log4j that this Kafka brings.

    The binding is added without its own dependencies: resolved as a second coordinate it would pull
    kafka-clients down to another version.
    """
    resolver = PythonResolver()
    context = MavenContext(repo_cache=cache, resolver=resolver, timeout=60)
    inputs, transitive = resolver.resolve([context.create_dependency(f"org.apache.kafka:kafka_2.13:{kafka_version}")])
    dependencies = [d for d in (*inputs, *transitive) if d.scope not in ("test", "provided")]
    log4j = next(d.version for d in dependencies if d.artifactId == "log4j-core")
    coordinates = [(d.groupId, d.artifactId, d.version) for d in dependencies]
    coordinates.append(("org.apache.logging.log4j", "log4j-slf4j-impl", log4j))
    jars = []
    for group, artifact, version in coordinates:
        component = context.project(group, artifact).at_version(version)
        path = Path(component.artifact(classifier="", packaging="jar").resolve())
        jars.append(Jar(group, artifact, version, path.stat().st_size, digest(path)))
    return tuple(jars)


def main(arguments: list[str]) -> None:
    version = arguments[0] if arguments else KAFKA_VERSION
    with tempfile.TemporaryDirectory() as cache:
        jars = resolve(version, Path(cache))
    LOCK_FILE.write_text(format_lock(jars), encoding="utf-8")
    print(f"{LOCK_FILE.name}: {len(jars)} jars, {sum(j.size for j in jars) / 1e6:.0f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
