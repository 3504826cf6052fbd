"""The command line as its users see it; `apply` against a small server of the test's own."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from deploy.local.process import ProcessState
from deploy.local.state import ProcessRecord, Record, StateDirectory
from tidegate.cli import app

COMMANDS = ("up", "down", "status", "apply", "kill", "restore", "switches", "migrate")
METRIC = "kind: metric\nkey: {key}\nspec: {{type: count}}\n"


class Admin(BaseHTTPRequestHandler):
    """Remembers what it was sent; answers by the key's name."""

    answers: ClassVar = {
        "fresh": (201, {"status": "created"}),
        "other": (200, {"status": "changed"}),
        "same": (200, {"status": "unchanged"}),
        "unheard": (404, {"title": "not found", "detail": "Not Found", "reason": "not_found"}),
        "page": (200, "<html>Welcome</html>"),
        "faulty": (422, {"detail": "spec.type: must be count", "reason": "invalid", "place": "spec.type"}),
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

    def do_POST(self) -> None:
        """Switches: `import_mode` has a variant that is off; all else is unknown to it, and welcome."""
        self.rfile.read(int(self.headers["content-length"]))
        *_, key, step = self.path.split("/")
        off = [{"cause": "manual", "variant": "background", "off_since": "2026-01-02T03:04:05Z"}]
        switched = {"variant": None, "cause": "manual", "to": step, "changed": step == "kill"}
        self._answer({"key": key, "off": off, "switched": switched} if key == "import_mode" else {"welcome": key})

    def do_GET(self) -> None:
        self._answer({"welcome": self.path})

    def _answer(self, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[str]:
    Admin.received = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Admin) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
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


def test_apply_points_at_the_line_that_a_service_finds_fault_with(tmp_path: Path, gateway: str) -> None:
    file = tmp_path / "metrics.yaml"
    file.write_text(
        "kind: metric\nkey: fresh\nspec: {}\n---\n\nkind: metric\nkey: faulty\nspec:\n  a: 1\n  type: sum\n"
    )
    result = CliRunner().invoke(app, ["apply", "-f", str(file), "--url", gateway, "--key", "tg_a_b"])
    assert result.exit_code == 1
    assert f"{file}:10: metric faulty: 422 spec.type: must be count (invalid)" in result.stderr


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


def test_apply_says_when_the_server_takes_no_definitions_of_a_kind(tmp_path: Path, gateway: str) -> None:
    file = tmp_path / "rule.yaml"
    file.write_text("kind: rule\nkey: unheard\nspec: {}\n")
    result = CliRunner().invoke(app, ["apply", "-f", str(file), "--url", gateway, "--key", "k"])
    assert result.exit_code == 1
    assert f"(rule unheard): 404 {gateway} takes no rules" in result.stderr


@pytest.mark.parametrize("command", [["kill", "imports"], ["restore", "imports"], ["switches"], ["apply", "-f", "-"]])
def test_what_another_server_answers_is_no_success(gateway: str, command: list[str]) -> None:
    options = ["--url", gateway, "--key", "k"]
    result = CliRunner().invoke(app, [*command, *options], input=METRIC.format(key="page"))
    assert result.exit_code == 1
    assert f"{gateway} answers, but not as Tidegate does" in result.stderr
    assert result.stdout == ""


def test_restoring_an_experiment_shows_which_of_its_variants_stays_off(gateway: str) -> None:
    result = CliRunner().invoke(app, ["restore", "import_mode", "--url", gateway, "--key", "k"])
    assert result.stdout.splitlines() == [
        "import_mode was not off by manual",
        "import_mode, variant background is still off: manual, since 2026-01-02T03:04:05Z",
    ]
    other = CliRunner().invoke(
        app, ["restore", "import_mode", "--variant", "realtime", "--url", gateway, "--key", "k"]
    )
    assert other.stdout.splitlines()[-1] == "import_mode, variant realtime is on"


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("---\n# nothing here\n", "k", "holds no definition"),
        (METRIC.format(key="fresh"), "schlüssel", "the admin key holds characters"),
        (METRIC.format(key="fresh"), "tg_a\nb", "the admin key holds characters"),
    ],
)
def test_apply_without_a_definition_or_a_usable_key_sends_nothing(
    tmp_path: Path, gateway: str, text: str, key: str, says: str
) -> None:
    file = tmp_path / "metric.yaml"
    file.write_text(text)
    result = CliRunner().invoke(app, ["apply", "-f", str(file), "--url", gateway, "--key", key])
    assert result.exit_code == 1
    assert says in result.stderr
    assert Admin.received == []


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"tidegate {version('tidegate')}\n")


def test_the_demo_says_before_it_starts_that_its_figures_cannot_be_written(tmp_path: Path) -> None:
    arguments = ["demo", "--state", str(tmp_path / "state"), "--json", str(tmp_path / "missing" / "out.json")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "out.json: No such file or directory" in result.stdout
    assert not (tmp_path / "state").exists()


def test_up_starts_nothing_on_a_damaged_record(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    result = CliRunner().invoke(app, ["up", "--detach", "--state", str(tmp_path)])
    assert result.exit_code == 1
    assert "state.json is damaged" in result.stderr
    assert not (tmp_path / "logs").exists()


def test_up_refuses_a_log_level_that_does_not_exist(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["up", "--log-level", "loud", "--state", str(tmp_path)])
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keys", ["{", "[]", '{"admin": 1}', '{"admin": "tg_a_b"}'])
def test_apply_with_damaged_keys_says_which_file(tmp_path: Path, gateway: str, keys: str) -> None:
    (tmp_path / "keys.json").write_text(keys)
    (tmp_path / "metric.yaml").write_text(METRIC.format(key="fresh"))
    arguments = ["apply", "-f", str(tmp_path / "metric.yaml"), "--url", gateway, "--state", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert f"{tmp_path / 'keys.json'} is damaged" in result.stderr
