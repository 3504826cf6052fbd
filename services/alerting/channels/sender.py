"""Sends one message to one receiver: HTTP by aiohttp, SMTP by aiosmtplib. Every error becomes an outcome."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import replace

import aiohttp
import aiosmtplib

from services.alerting.channels.attempt import Attempt, Outcome, of_http, of_smtp
from services.alerting.channels.email import email_bytes
from services.alerting.channels.pagerduty import pagerduty_body
from services.alerting.channels.slack import slack_body
from services.alerting.channels.spec import Channel, EmailChannel, PagerDutyChannel, SlackChannel
from services.alerting.channels.text import cut, one_line, redacted
from services.alerting.domain.notification import Notification
from shared.clock import Clock

_MAX_ANSWER, _MAX_DETAIL = 2_048, 500
_FAREWELL_SECONDS = 1.0
_HEADERS = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "Tidegate",
    "Connection": "close",  # a connection kept would be closed by the receiver some day, just as a message goes out
}


def new_session() -> aiohttp.ClientSession:
    """For `Sender`: keeps neither connections nor cookies."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


class Sender:
    """`timeout` in seconds bounds an attempt; `tls` verifies mail servers, by default against the system's roots."""

    def __init__(
        self, http: aiohttp.ClientSession, clock: Clock, *, timeout: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._http = http
        self._clock = clock
        self._timeout = timeout
        self._tls = tls
        self._host: str | None = None

    async def send(self, channel: Channel, notification: Notification, token: str) -> Attempt:
        """Never raises for what the network or the receiver does."""
        match channel:
            case SlackChannel():
                attempt = await self._post(channel.url, slack_body(channel, notification))
            case PagerDutyChannel():
                attempt = await self._post(channel.url, pagerduty_body(channel, notification))
            case EmailChannel():
                attempt = await self._mail(channel, email_bytes(channel, notification, token))
        # Redacted before it is cut: half a secret would not be recognised.
        detail = cut(redacted(one_line(attempt.detail), channel.secrets), _MAX_DETAIL)
        return Attempt(attempt.outcome, detail, attempt.retry_after)

    async def _post(self, url: str, body: bytes) -> Attempt:
        attempt = None
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.post(
                    url, data=body, headers=_HEADERS, allow_redirects=False, timeout=aiohttp.ClientTimeout()
                ) as answer,
            ):
                # The status decides: it counts though the body never comes.
                outcome, asked = of_http(answer.status, answer.headers.get("Retry-After"), now=self._clock())
                attempt = Attempt(outcome, f"HTTP {answer.status}", asked)
                said = await answer.content.read(_MAX_ANSWER)
                attempt = replace(attempt, detail=f"HTTP {answer.status}: {said.decode('utf-8', 'replace')}")
        except TimeoutError:
            return attempt or Attempt(Outcome.RETRYABLE, f"no answer within {self._timeout:g} s")
        except (aiohttp.InvalidURL, UnicodeError):
            return Attempt(Outcome.PERMANENT, "the address cannot be used")
        except (aiohttp.ClientError, OSError) as error:
            return attempt or Attempt(Outcome.RETRYABLE, f"no answer: {_kind(error)}")
        return attempt

    async def _mail(self, channel: EmailChannel, message: bytes) -> Attempt:
        if self._host is None:  # asks the resolver, which may take its time
            self._host = await asyncio.to_thread(socket.getfqdn)
        client = aiosmtplib.SMTP(
            hostname=channel.host,
            port=channel.port,
            use_tls=channel.tls == "tls",
            start_tls=channel.tls == "starttls",
            tls_context=self._tls,
            username=channel.username,
            password=channel.password,
            local_hostname=self._host,
            timeout=self._timeout,
        )
        try:
            async with asyncio.timeout(self._timeout):
                return await self._transaction(client, channel, message)
        except (TimeoutError, aiosmtplib.SMTPTimeoutError):
            return Attempt(Outcome.RETRYABLE, f"no answer within {self._timeout:g} s")
        except aiosmtplib.SMTPRecipientsRefused as error:
            # Some may be refused for good, some for now: as long as one may be taken, it is worth another attempt.
            outcomes = {of_smtp(refused.code) for refused in error.recipients}
            outcome = Outcome.RETRYABLE if Outcome.RETRYABLE in outcomes else Outcome.PERMANENT
            return Attempt(outcome, "; ".join(f"SMTP {r.code}: {r.message}" for r in error.recipients))
        except aiosmtplib.SMTPResponseException as error:
            return Attempt(of_smtp(error.code), f"SMTP {error.code}: {error.message}")
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            return Attempt(Outcome.RETRYABLE, f"no answer: {_kind(error)}")
        finally:
            client.close()

    async def _transaction(self, client: aiosmtplib.SMTP, channel: EmailChannel, message: bytes) -> Attempt:
        await client.connect()
        recipients = [address.addr_spec for address in channel.to]
        refused, answer = await client.sendmail(channel.sender.addr_spec, recipients, message)
        with suppress(aiosmtplib.SMTPException, OSError):
            await client.quit(timeout=_FAREWELL_SECONDS)
        notes = [f"{address} was refused: SMTP {code}: {text}" for address, (code, text) in refused.items()]
        return Attempt(Outcome.DELIVERED, "; ".join([answer, *notes]))


def _kind(error: Exception) -> str:
    """What failed, without the address: a webhook's is a secret."""
    if isinstance(error, aiosmtplib.SMTPException) and not isinstance(error, aiosmtplib.SMTPConnectError):
        return f"{type(error).__name__}: {error.message}"
    for cause in (getattr(error, "os_error", None), error.__cause__, error):
        if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.strerror:
            return f"{type(error).__name__}: {cause.strerror}"
    return type(error).__name__
