"""The command line as its users see it; `apply` against a small server of the test's own."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from deploy.local.process import ProcessState
from deploy.local.state import ProcessRecord, Record, StateDirectory
from tidegate.cli import app

COMMANDS = ("up", "down", "status", "apply", "migrate")
METRIC = "kind: metric\nkey: {key}\nspec: {{type: count}}\n"


class Admin(BaseHTTPRequestHandler):
    """Remembers what it was sent; answers by the key's name."""

    answers: ClassVar = {
        "fresh": (201, {"status": "created"}),
        "other": (200, {"status": "changed"}),
        "same": (200, {"status": "unchanged"}),
        "wrong": (422, {"title": "Unprocessable", "detail": "no such path: properties.y", "reason": "spec_invalid"}),
    }
    received: ClassVar[list[tuple[str, str | None, object]]] = []

    def do_PUT(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).received.append((self.path, self.headers["authorization"], body))
        status, answer = self.answers[self.path.rpartition("/")[2]]
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[str]:
    Admin.received = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Admin) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"tidegate {command}" in result.output.partition("Examples")[2]


def test_an_unknown_command_is_refused() -> None:
    assert CliRunner().invoke(app, ["nothing"]).exit_code == 2


def test_status_lists_name_pid_port_and_state_as_json(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    kafka = ProcessRecord(name="kafka", pid=12, started="7", port=9092, state=ProcessState.READY)
    with state.locked():
        state.write(Record(phase=ProcessState.READY, processes=(kafka,)))
        running = CliRunner().invoke(app, ["status", "--json", "--state", str(tmp_path)])
    stopped = CliRunner().invoke(app, ["status", "--json", "--state", str(tmp_path)])
    assert json.loads(running.stdout) == [{"name": "kafka", "pid": 12, "port": 9092, "state": "ready"}]
    assert json.loads(stopped.stdout) == [{"name": "kafka", "pid": None, "port": 9092, "state": "stopped"}]


def test_down_on_a_directory_where_nothing_runs_says_so_and_succeeds(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["down", "--state", str(tmp_path)])
    assert result.exit_code == 0
    assert "nothing was running" in result.stderr


def test_apply_sends_each_spec_with_the_admin_key_and_says_what_became_of_it(tmp_path: Path, gateway: str) -> None:
    text = "---\n".join(METRIC.format(key=key) for key in ("fresh", "other", "same"))
    (tmp_path / "metrics.yaml").write_text(text)
    result = CliRunner().invoke(app, ["apply", "-f", str(tmp_path), "--url", gateway, "--key", "tg_a_b"])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["metric fresh created", "metric other changed", "metric same unchanged"]
    assert Admin.received[0] == ("/api/v1/admin/metrics/fresh", "Bearer tg_a_b", {"type": "count"})


def test_apply_names_file_document_and_reason_of_a_refusal_and_sends_the_rest(tmp_path: Path, gateway: str) -> None:
    file = tmp_path / "metrics.yaml"
    file.write_text("---\n".join(METRIC.format(key=key) for key in ("wrong", "fresh")))
    result = CliRunner().invoke(app, ["apply", "-f", str(file), "--url", gateway, "--key", "tg_a_b"])
    assert result.exit_code == 1
    assert f"{file} document 1 (metric wrong): 422 no such path: properties.y (spec_invalid)" in result.stderr
    assert result.stdout.splitlines() == ["metric fresh created"]


def test_apply_sends_nothing_when_any_document_is_malformed(tmp_path: Path, gateway: str) -> None:
    file = tmp_path / "metrics.yaml"
    file.write_text(METRIC.format(key="fresh") + "---\nkind: metrik\n")
    result = CliRunner().invoke(app, ["apply", "-f", str(file), "--url", gateway, "--key", "tg_a_b"])
    assert result.exit_code == 1
    assert "document 2: kind must be one of" in result.stderr
    assert Admin.received == []


def test_apply_without_a_stack_says_how_to_get_one(tmp_path: Path) -> None:
    file = tmp_path / "metric.yaml"
    file.write_text(METRIC.format(key="fresh"))
    result = CliRunner().invoke(app, ["apply", "-f", str(file), "--state", str(tmp_path / "state")])
    assert result.exit_code == 1
    assert "tidegate up" in result.stderr


def test_apply_to_a_gateway_that_does_not_answer_fails_by_document(tmp_path: Path) -> None:
    file = tmp_path / "metric.yaml"
    file.write_text(METRIC.format(key="fresh"))
    result = CliRunner().invoke(app, ["apply", "-f", str(file), "--url", "http://127.0.0.1:9", "--key", "k"])
    assert result.exit_code == 1
    assert "(metric fresh): http://127.0.0.1:9 does not answer" in result.stderr
