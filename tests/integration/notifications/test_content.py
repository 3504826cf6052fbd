"""What a message says, and how it travels: threads of mails, TLS, hostile texts."""

from __future__ import annotations

import email
import email.policy
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from examples.imports.receivers import Receivers, open_receivers
from services.alerting.channels import attempt
from services.alerting.channels.sender import Sender, new_session
from services.alerting.channels.spec import parse_channel
from shared.clock import system_clock
from tests.integration.notifications.world import CHANNELS, World


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificate with openssl")
    where = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=receivers"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(where / "key"), "-out", str(where / "cert")]
    subprocess.run(["openssl", *words.split(), *more], check=True, capture_output=True)
    return where / "cert", where / "key"


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_mail_goes_over_tls_with_a_login_to_a_server_that_can_prove_itself(
    world: World, certificate: tuple[Path, Path], tls: str
) -> None:
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offered.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=certificate[0])
    async with open_receivers(tls=offered, implicit_tls=tls == "tls") as receivers, new_session() as http:
        spec = World(world.pool, receivers).spec("email") | {"tls": tls, "username": "tidegate", "password": "secret"}
        channel = parse_channel(spec)
        sender = Sender(http, system_clock, timeout=5, tls=trusting)
        assert (await sender.send(channel, world.note(), "a" * 32)).outcome is attempt.Outcome.DELIVERED
        assert receivers.logins == [("tidegate", "secret")]
        assert len(receivers.messages) == 1

        suspicious = await Sender(http, system_clock, timeout=5).send(channel, world.note(), "b" * 32)
        assert suspicious.outcome is attempt.Outcome.RETRYABLE
        assert len(receivers.messages) == 1

        rejected = await sender.send(parse_channel(spec | {"password": "wrong"}), world.note(), "c" * 32)
        assert rejected.outcome is attempt.Outcome.PERMANENT
        assert "535" in rejected.detail
        assert len(receivers.messages) == 1


async def test_a_server_without_starttls_gets_nothing_in_clear_text(world: World, receivers: Receivers) -> None:
    async with new_session() as http:
        channel = parse_channel(world.spec("email") | {"tls": "starttls"})
        sent = await Sender(http, system_clock, timeout=5).send(channel, world.note(), "a" * 32)
    assert sent.outcome is attempt.Outcome.RETRYABLE
    assert "STARTTLS" in sent.detail
    assert receivers.messages == []


async def test_an_incident_is_one_thread_of_mails(world: World, receivers: Receivers) -> None:
    await world.define("email")
    async with world.delivery() as delivery:
        await world.enqueue(world.note(1), world.note(1, action="resolve"), world.note(2))
        delivery.wake()
        await receivers.until(lambda: len(receivers.messages) == 3)
    by_title: dict[str, list[str]] = {}
    for message in receivers.messages:
        by_title.setdefault(message.title, []).append(message.thread)
    same, other = by_title["Imports fail (1)"], by_title["Imports fail (2)"]
    assert same[0] == same[1] != other[0]
    assert len({m.id for m in receivers.messages}) == 3


NASTY = {
    "line breaks": "Fail\r\nBcc: victim@example.com\r\n\r\nbody",
    "markup": "<!channel> <b>&amp; <https://evil.example|click> *x* </td><script>",
    "emoji and combining": "👩‍👩‍👧‍👦 é̶ 漢字 ‮ right",
    "nothing": "",
    "NUL and surrogates": "a\x00b\ud800c\udfff",
    "huge": "😀&" * 100_000,
}


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY.keys())
async def test_any_text_arrives_on_every_channel(world: World, receivers: Receivers, text: str) -> None:
    await world.define(*CHANNELS)
    note = world.note(
        title=text,
        message=text,
        data={text: text, "nested": {text: [text, float("nan"), 2**70]}, **{f"k{i}": text for i in range(30)}},
        runbook_url=f"https://docs.example/{text}",
        dashboard_url="javascript:alert(1)",
    )
    async with world.delivery() as delivery:
        await world.enqueue(note)
        delivery.wake()
        states = await world.until_finished(count=3)
    assert [(s.state, s.detail) for s in states if s.state != "delivered"] == []
    assert receivers.refusals == []
    _, recipients, content = receivers.envelopes[0]
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert "Bcc" not in message
    assert recipients == ("product@atlas.com", "engineering@atlas.com")
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert content.isascii()
    assert b"javascript:" not in content
