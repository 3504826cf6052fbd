import hashlib
from pathlib import Path

import pytest

from deploy.local.artifacts import (
    LOCK_FILE,
    ArtifactError,
    Jar,
    fetch_jars,
    format_lock,
    missing_jars,
    parse_lock,
)

CONTENT = b"not really a jar"
JAR = Jar("org.example", "thing", "1.0", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_the_shipped_lock_names_kafka_once_and_a_binding_for_its_logging() -> None:
    jars = parse_lock(LOCK_FILE.read_text(encoding="utf-8"))
    versions = {jar.artifact: jar.version for jar in jars}
    assert len(versions) == len(jars)
    assert versions["kafka_2.13"] == versions["kafka-clients"]
    assert versions["log4j-slf4j-impl"] == versions["log4j-core"]


def test_the_shipped_lock_is_what_its_generator_would_write() -> None:
    text = LOCK_FILE.read_text(encoding="utf-8")
    assert format_lock(parse_lock(text)) == text


@pytest.mark.parametrize(
    "line", ["org.example thing 1.0 12", f"org.example thing 1.0 x {'0' * 64}", "org.example thing 1.0 12 abc"]
)
def test_a_malformed_line_is_refused_by_its_number(line: str) -> None:
    with pytest.raises(ArtifactError, match="line 2"):
        parse_lock(f"# head\n{line}\n")


def test_a_truncated_or_altered_jar_counts_as_missing(tmp_path: Path) -> None:
    path = tmp_path / JAR.file_name
    assert missing_jars([JAR], tmp_path) == (JAR,)
    path.write_bytes(CONTENT[:-1])
    assert missing_jars([JAR], tmp_path) == (JAR,)
    path.write_bytes(CONTENT.replace(b"n", b"m"))
    assert missing_jars([JAR], tmp_path) == (JAR,)
    path.write_bytes(CONTENT)
    assert missing_jars([JAR], tmp_path) == ()


def test_jars_that_are_all_there_are_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / JAR.file_name).write_bytes(CONTENT)
    received: list[int] = []
    assert fetch_jars([JAR], tmp_path, received.append) == (tmp_path / JAR.file_name,)
    assert received == []
