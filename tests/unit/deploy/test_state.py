import os
import stat
from pathlib import Path

import pytest

from deploy.local.process import ProcessState
from deploy.local.settings import default_cache, default_state
from deploy.local.state import AlreadyRunningError, ProcessRecord, Record, StateDirectory, StateError, write_private

RUNNING = Record(
    supervisor=ProcessRecord(name="supervisor", pid=4711, started="1", port=None, state=ProcessState.READY),
    phase=ProcessState.READY,
    gateway="http://127.0.0.1:8080",
    ports={"kafka": 9092},
    processes=(ProcessRecord(name="kafka", pid=12, started="7", port=9092, state=ProcessState.READY, restarts=2),),
)


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    directory = StateDirectory(tmp_path / "state")
    directory.create()
    return directory


def test_what_was_written_is_read_back(state: StateDirectory) -> None:
    state.write(RUNNING)
    assert state.read() == RUNNING


def test_a_directory_without_a_record_reads_as_stopped_with_no_ports(state: StateDirectory) -> None:
    assert state.read().phase is ProcessState.STOPPED
    assert state.read().ports == {}


def test_a_damaged_record_is_refused_with_what_to_do(state: StateDirectory) -> None:
    (state.path / "state.json").write_text('{"phase": ', encoding="utf-8")
    with pytest.raises(StateError, match="remove that file"):
        state.read()


def test_a_second_supervisor_is_told_the_pid_and_gateway_of_the_first(state: StateDirectory) -> None:
    with state.locked():
        state.write(RUNNING)
        assert state.is_locked()
        with pytest.raises(AlreadyRunningError, match=r"pid 4711.*http://127\.0\.0\.1:8080"), state.locked():
            pass
    assert not state.is_locked()


def test_the_lock_is_free_again_after_its_holder_failed(state: StateDirectory) -> None:
    with pytest.raises(ZeroDivisionError), state.locked():
        raise ZeroDivisionError
    with state.locked():
        assert state.is_locked()


def test_a_part_is_complete_only_once_it_was_marked(state: StateDirectory) -> None:
    (state.path / "postgres" / "data").mkdir(parents=True)  # as an interrupted initdb leaves it
    assert not state.is_complete("postgres", "18")
    state.mark_complete("postgres", "18")
    assert state.is_complete("postgres", "18")


def test_a_part_made_by_another_version_is_refused(state: StateDirectory) -> None:
    state.mark_complete("postgres", "17")
    with pytest.raises(StateError, match="version 17, this is 18"):
        state.is_complete("postgres", "18")


def test_only_the_owner_can_read_the_directory_and_its_secrets(state: StateDirectory) -> None:
    write_private(state.keys_file, b"{}")
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(state.keys_file.stat().st_mode) == 0o600
    assert os.listdir(state.path) == [name for name in os.listdir(state.path) if not name.endswith(".draft")]


def test_the_state_directory_comes_from_the_environment_or_the_working_directory() -> None:
    assert default_state({"TIDEGATE_STATE": "/somewhere"}) == Path("/somewhere")
    assert default_state({}) == Path.cwd() / ".tidegate"


def test_downloads_go_to_the_users_cache_and_into_the_state_when_that_cannot_be_written(tmp_path: Path) -> None:
    state, home = tmp_path / "state", tmp_path / "home"
    home.mkdir()
    (tmp_path / "file").touch()
    assert default_cache({"TIDEGATE_CACHE": "/elsewhere", "HOME": str(home)}, state) == Path("/elsewhere")
    assert default_cache({"HOME": str(home)}, state) == home / ".cache" / "tidegate"
    assert default_cache({"XDG_CACHE_HOME": str(home), "HOME": "/"}, state) == home / "tidegate"
    assert default_cache({"HOME": str(tmp_path / "file")}, state) == state / "artifacts"
    assert default_cache({}, state) == state / "artifacts"
