import os
import socket
import sys
from collections.abc import Iterator

import pytest

from deploy.local.ports import NoFreePortError, choose_ports, holder_of, is_free, random_candidates


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        yield server.getsockname()[1]


def test_kept_ports_stay_and_new_names_get_the_next_free_candidates() -> None:
    choice = choose_ports(["kafka", "ingest", "alerting"], {"kafka": 50}, lambda _: True, iter([10, 11]))
    assert choice.ports == {"kafka": 50, "ingest": 10, "alerting": 11}
    assert choice.moved == {}


def test_a_kept_port_that_somebody_took_is_replaced_and_reported() -> None:
    choice = choose_ports(["kafka"], {"kafka": 50}, lambda port: port != 50, iter([10]))
    assert choice.ports == {"kafka": 10}
    assert choice.moved == {"kafka": 50}


def test_no_port_is_given_twice_even_if_it_is_kept_for_somebody_not_asked_for() -> None:
    choice = choose_ports(["ingest", "alerting"], {"kafka": 10}, lambda _: True, iter([10, 11, 11, 12]))
    assert choice.ports == {"ingest": 11, "alerting": 12}


def test_running_out_of_candidates_names_who_went_without() -> None:
    with pytest.raises(NoFreePortError, match="alerting"):
        choose_ports(["ingest", "alerting"], {}, lambda _: True, iter([10]))


def test_candidates_are_distinct_and_outside_the_range_of_outgoing_connections() -> None:
    candidates = list(random_candidates(200))
    assert len(set(candidates)) == 200
    assert all(1024 < candidate < 32_768 for candidate in candidates)


def test_processes_that_start_together_draw_from_different_ports() -> None:
    drawn = [set(random_candidates(500, process=1_000 + number)) for number in range(4)]
    assert len(set.union(*drawn)) == 4 * 500


def test_a_listening_socket_takes_its_port(taken_port: int) -> None:
    assert not is_free(taken_port)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_holder_of_a_port_is_named_with_its_pid(taken_port: int) -> None:
    assert f"(pid {os.getpid()})" in (holder_of(taken_port) or "")


def test_a_free_port_has_no_holder() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert is_free(port)
    assert holder_of(port) is None
