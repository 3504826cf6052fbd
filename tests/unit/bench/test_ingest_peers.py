"""A peer is a URL or a command; what it is started with makes it answer only after Kafka has the events."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench.ingest.peers import Peer, Place, parse_peer, start_of
from bench.ingest.systems import Site, peer_running
from bench.ingest.workloads import WORKLOADS
from bench.processes import BenchError


def test_a_url_is_a_peer_that_runs() -> None:
    assert parse_peer("other=http://127.0.0.1:4195/post") == Peer("other", url="http://127.0.0.1:4195/post")


def test_a_command_is_split_as_by_a_shell_and_its_program_found() -> None:
    peer = parse_peer(f"other='{sys.executable}' -c 'two words' {{port}}")
    assert peer.command == (sys.executable, "-c", "two words", "{port}")


@pytest.mark.parametrize(
    "text",
    [
        "other",
        "other=",
        "Other Name=http://127.0.0.1:1/",
        "other=https://127.0.0.1:1/",
        "other=no-such-program {port}",
        f"other={sys.executable}",
        f"other={sys.executable} {{config}}",
    ],
    ids=["no value", "empty", "name", "https", "program", "no port", "unknown configuration"],
)
def test_what_is_no_peer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"other|Other|https"):
        parse_peer(text)


def _place(directory: Path) -> Place:
    return Place("127.0.0.1:9092", "bench.peer", 4195, directory)


def test_placeholders_are_filled(tmp_path: Path) -> None:
    start = start_of(Peer("other", command=("p", "--at={port}", "{kafka}/{topic}")), _place(tmp_path))
    assert start.command == ("p", "--at=4195", "127.0.0.1:9092/bench.peer")


def test_bento_is_told_where_to_listen_and_to_wait_for_all_replicas(tmp_path: Path) -> None:
    start = start_of(Peer("bento-2", command=("bento", "-c", "{config}")), _place(tmp_path))
    settings = json.loads(Path(start.command[2]).read_text())
    assert settings["input"]["http_server"]["address"] == "127.0.0.1:4195"
    output = settings["output"]["kafka_franz"]
    assert (output["seed_brokers"], output["topic"]) == (["127.0.0.1:9092"], "bench.peer")
    assert output["idempotent_write"] is True


def test_strimzi_is_told_where_to_listen_and_to_wait_for_all_replicas(tmp_path: Path) -> None:
    start = start_of(Peer("strimzi", command=("bridge", "--config-file={config}")), _place(tmp_path))
    lines = Path(start.command[1].partition("=")[2]).read_text().splitlines()
    assert {"kafka.bootstrap.servers=127.0.0.1:9092", "http.port=4195", "kafka.producer.acks=all"} <= set(lines)
    assert all(Path(value.partition("file://")[2]).exists() for value in start.environment.values())


def _site(directory: Path) -> Site:
    return Site(kafka="127.0.0.1:9", postgres="", key="k", directory=directory, seed=1)


SERVER = """
import http.server, sys
class Taker(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        print("said " * 20_000)
        self.send_response(204 if self.path.startswith("/topics/bench.") else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Taker).serve_forever()
"""


async def test_a_peer_is_started_however_much_it_says_measured_and_ready_when_it_takes_an_event(
    tmp_path: Path,
) -> None:
    peer = Peer("strimzi", command=(sys.executable, "-c", SERVER, "{port}"))
    async with peer_running(_site(tmp_path), peer, "bench.strimzi") as running:
        assert running.url(WORKLOADS["batch100"]).endswith("/topics/bench.strimzi")
        assert running.program is not None
        assert 0 < running.program.usage_of_all().memory <= running.program.usage_of_all().peak_memory
    assert "said" in (tmp_path / "strimzi.log").read_text()


async def test_a_peer_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    peer = Peer("other", command=(sys.executable, "-c", "raise SystemExit('no such option')", "{port}"))
    with pytest.raises(BenchError, match=r"(?s)other ended with 1.*no such option"):
        async with peer_running(_site(tmp_path), peer, "bench.other"):
            pass
