"""Signatures of webhooks, checked against what their senders document."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from services.ingest.domain.sources.signatures import BadSignature, SignatureScheme

NOW = 1_531_420_618
BODY = b"Hello, World!"
GITHUB = SignatureScheme("github", ("It's a Secret to Everybody",), "x-hub-signature-256", prefix="sha256=")
SLACK = SignatureScheme("slack", ("8f742231b10e8888abcd99yyyzzz85a5",), "x-slack-signature")
STRIPE = SignatureScheme("stripe", ("whsec_new", "whsec_old"), "stripe-signature")

# Documented by GitHub and by Slack as examples to test with.
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACK_SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"


def test_githubs_documented_example_is_let_in() -> None:
    assert GITHUB.refusal({"x-hub-signature-256": GITHUB_SIGNATURE}, BODY, NOW) is None


def test_slacks_documented_example_is_let_in_for_five_minutes() -> None:
    headers = {"x-slack-signature": SLACK_SIGNATURE, "x-slack-request-timestamp": "1531420618"}
    assert SLACK.refusal(headers, SLACK_BODY, NOW) is None
    assert SLACK.refusal(headers, SLACK_BODY, NOW + 299) is None
    assert SLACK.refusal(headers, SLACK_BODY, NOW + 301) is BadSignature.EXPIRED
    assert SLACK.refusal(headers, SLACK_BODY + b"&", NOW) is BadSignature.WRONG


def _stripe(secret: str, time: int) -> str:
    return hmac.new(secret.encode(), f"{time}.".encode() + BODY, hashlib.sha256).hexdigest()


def test_one_of_stripes_signatures_by_one_of_the_secrets_is_enough() -> None:
    old = _stripe("whsec_old", NOW)
    for header in (f"t={NOW},v1={old},v0=x", f"t={NOW}, v1={'0' * 64}, v1={old}"):
        assert STRIPE.refusal({"stripe-signature": header}, BODY, NOW) is None
    assert STRIPE.refusal({"stripe-signature": f"t={NOW + 1},v1={old}"}, BODY, NOW) is BadSignature.WRONG
    assert STRIPE.refusal({"stripe-signature": f"v1={old}"}, BODY, NOW) is BadSignature.MISSING
    assert STRIPE.refusal({"stripe-signature": f"t={NOW},v1={old}"}, BODY, NOW + 1_000) is BadSignature.EXPIRED


@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_others_sign_with_the_algorithm_and_encoding_that_are_configured(algorithm: str, encoding: str) -> None:
    scheme = SignatureScheme("hmac", ("s",), "x-signature", algorithm, encoding, "sig:")
    digest = hmac.new(b"s", BODY, algorithm).digest()
    text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    assert scheme.refusal({"x-signature": f"sig:{text}"}, BODY, NOW) is None
    assert scheme.refusal({"x-signature": text}, BODY, NOW) is BadSignature.WRONG


@pytest.mark.parametrize(
    "text", ["sha256=", "sha256=zz", "sha1=" + "0" * 40, "sha256=" + "0" * 63, "\u00fc", "sha256=ü"]
)
def test_a_wrong_signature_is_refused_whatever_it_looks_like(text: str) -> None:
    assert GITHUB.refusal({"x-hub-signature-256": text}, BODY, NOW) is BadSignature.WRONG
    assert GITHUB.refusal({}, BODY, NOW) is BadSignature.MISSING
