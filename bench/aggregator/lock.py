"""Regenerates the peers' locks: `python -m bench.aggregator.lock` (maintainers only; reads the network)."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from bench.aggregator.environments import PEERS, STREAMS_LOCK, uv
from deploy.local.artifacts import LOCK_FILE, Jar, digest, format_lock, parse_lock

PYTHON_PEERS = {
    "bytewax": ("bytewax==0.21.1", "confluent-kafka", "orjson", "msgspec"),
    "quix": ("quixstreams==3.28.1", "orjson", "msgspec"),
}
COMPILER = ("org.eclipse.jdt", "ecj", "3.44.0")


def lock_python(name: str, cache: Path) -> None:
    wanted = cache / f"{name}.in"
    wanted.write_text("\n".join(PYTHON_PEERS[name]) + "\n", encoding="utf-8")
    options = (
        "--quiet",
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
        "--no-annotate",
        "--no-header",
    )
    subprocess.run([uv(), "pip", "compile", *options, str(wanted), "-o", str(PEERS / f"{name}.lock")], check=True)


def lock_streams(cache: Path) -> None:
    """Kafka Streams of the broker's version, without the jars that the broker brings, and the compiler."""
    kafka = parse_lock(LOCK_FILE.read_text(encoding="utf-8"))
    version = next(jar.version for jar in kafka if jar.artifact == "kafka-clients")
    resolver = PythonResolver()
    context = MavenContext(repo_cache=cache, resolver=resolver, timeout=60)
    inputs, transitive = resolver.resolve([context.create_dependency(f"org.apache.kafka:kafka-streams:{version}")])
    brought = {jar.artifact for jar in kafka}
    coordinates = [
        (d.groupId, d.artifactId, d.version) for d in (*inputs, *transitive) if d.artifactId not in brought
    ]
    jars = []
    for group, artifact, number in (*coordinates, COMPILER):
        component = context.project(group, artifact).at_version(number)
        path = Path(component.artifact(classifier="", packaging="jar").resolve())
        jars.append(Jar(group, artifact, number, path.stat().st_size, digest(path)))
    text = format_lock(jars).split("\n", 1)[1]
    STREAMS_LOCK.write_text("# Regenerate with: python -m bench.aggregator.lock\n" + text, encoding="utf-8")


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        for name in PYTHON_PEERS:
            lock_python(name, Path(cache))
        lock_streams(Path(cache))


if __name__ == "__main__":
    main()
