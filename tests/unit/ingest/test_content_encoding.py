"""Undoing encodings: exact for what is valid, bounded and refused with a reason for all else."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable, Sequence
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.domain.content_encoding import (
    MAX_CODINGS,
    Coding,
    Decoding,
    EncodedBodyError,
    EncodingFault,
    codings_of,
)
from tests.unit.ingest.encodings import ENCODINGS, Encode

LIMIT = 8 * 1024 * 1024
NOISE = random.Random(6).randbytes(100_000)

each_encoding = pytest.mark.parametrize(("coding", "encode"), ENCODINGS.values(), ids=ENCODINGS)


def whole(body: bytes, *codings: Coding, limit: int = LIMIT) -> bytes:
    return b"".join(Decoding(codings, limit).whole(body))


def in_parts(parts: Iterable[bytes], codings: Sequence[Coding]) -> bytes:
    decoding = Decoding(codings, LIMIT)
    found = b"".join(piece for part in parts for piece in decoding.feed(part))
    decoding.end()
    return found


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


@each_encoding
@pytest.mark.parametrize("body", [b"", b"x", NOISE, b"a" * 300_000, b"ab" * 65_536], ids=len)
def test_what_was_encoded_comes_back_however_it_is_cut(coding: Coding, encode: Encode, body: bytes) -> None:
    encoded = encode(body)

    assert whole(encoded, coding) == body
    for size in (1, 2, 3, 1000, 16 * 1024) if len(encoded) < 1000 else (999, 65_536):
        assert in_parts(cut(encoded, size), [coding]) == body


@given(st.binary(max_size=2_000), st.lists(st.sampled_from(list(ENCODINGS.values())), max_size=MAX_CODINGS))
def test_a_list_of_encodings_is_undone_from_its_end(body: bytes, applied: list[tuple[Coding, Encode]]) -> None:
    encoded = body
    for _, encode in applied:
        encoded = encode(encoded)

    assert whole(encoded, *[coding for coding, _ in applied]) == body


@each_encoding
def test_a_body_that_ends_too_early_is_refused(coding: Coding, encode: Encode) -> None:
    encoded = encode(NOISE[:500] + b"a" * 500)

    for length in range(len(encoded)):
        with pytest.raises(EncodedBodyError) as refused:
            whole(encoded[:length], coding)
        assert refused.value.fault is EncodingFault.UNDECODABLE


@each_encoding
def test_what_follows_the_encoded_body_is_refused(coding: Coding, encode: Encode) -> None:
    for extra in (b"{}", b"\0" * 9, b"\x28\xb5\x2f", b"\x1f\x8b"):
        with pytest.raises(EncodedBodyError) as refused:
            whole(encode(b"body") + extra, coding)
        assert refused.value.fault is EncodingFault.UNDECODABLE


@each_encoding
def test_several_frames_are_one_body_where_the_encoding_says_so(coding: Coding, encode: Encode) -> None:
    two = encode(b"one ") + encode(b"two")

    if coding in (Coding.GZIP, Coding.ZSTD):
        assert whole(two, coding) == b"one two"
        assert in_parts(cut(two, 1), [coding]) == b"one two"
    else:
        with pytest.raises(EncodedBodyError):
            whole(two, coding)


@each_encoding
def test_the_limit_is_exact(coding: Coding, encode: Encode) -> None:
    assert whole(encode(b"a" * 1000), coding, limit=1000) == b"a" * 1000
    with pytest.raises(EncodedBodyError) as refused:
        whole(encode(b"a" * 1001), coding, limit=1000)
    assert refused.value.fault is EncodingFault.TOO_LARGE


@each_encoding
def test_a_bomb_is_cut_off_before_it_takes_memory(coding: Coding, encode: Encode) -> None:
    bomb = encode(b"\0" * (16 * LIMIT))

    tracemalloc.start()
    with pytest.raises(EncodedBodyError) as refused:
        whole(bomb, coding)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert refused.value.fault is EncodingFault.TOO_LARGE
    assert peak < 2 * LIMIT


@each_encoding
def test_a_bomb_within_a_bomb_is_cut_off_where_the_first_one_bursts(coding: Coding, encode: Encode) -> None:
    """The inner body, of empty frames and frames to be skipped, would decode to nothing."""
    skipped = b"\x50\x2a\x4d\x18" + (2 * LIMIT).to_bytes(4, "little") + b"\0" * 2 * LIMIT

    with pytest.raises(EncodedBodyError) as refused:
        whole(encode(skipped), Coding.ZSTD, coding)

    assert refused.value.fault is EncodingFault.TOO_LARGE


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_flood_of_empty_frames_is_refused(encoding: str) -> None:
    coding, encode = ENCODINGS[encoding]

    with pytest.raises(EncodedBodyError, match="frames"):
        whole(encode(b"") * 3_000, coding)


def test_a_zstd_window_above_that_of_http_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    compress = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    with pytest.raises(EncodedBodyError) as refused:
        whole(compress.compress(NOISE) + compress.flush(), Coding.ZSTD)

    assert refused.value.fault is EncodingFault.UNDECODABLE


@given(st.sampled_from(list(ENCODINGS.values())), st.binary(max_size=300), st.data())
def test_damaged_bodies_are_decoded_or_refused_and_nothing_else(
    encoding: tuple[Coding, Encode], body: bytes, data: st.DataObject
) -> None:
    coding, encode = encoding
    damaged = bytearray(encode(body))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))

    for raw in (bytes(damaged), body):
        with suppress(EncodedBodyError):
            whole(raw, coding)


@pytest.mark.parametrize(
    ("values", "codings"),
    [
        ([], ()),
        ([b""], ()),
        ([b"identity"], ()),
        ([b"gzip"], (Coding.GZIP,)),
        ([b" X-GZIP "], (Coding.GZIP,)),
        ([b"gzip, BR"], (Coding.GZIP, Coding.BROTLI)),
        ([b"zstd,identity", b"deflate"], (Coding.ZSTD, Coding.DEFLATE)),
    ],
)
def test_all_headers_together_list_the_encodings(values: list[bytes], codings: tuple[Coding, ...]) -> None:
    headers = [(b"content-encoding", value) for value in values]

    assert codings_of([(b"accept-encoding", b"compress"), *headers]) == codings


@pytest.mark.parametrize("value", [b"compress", b"gzip;q=1", b"gzip, aes128gcm", b"\xff", b"gzip,gzip,gzip,gzip"])
def test_unknown_or_too_many_encodings_are_refused(value: bytes) -> None:
    with pytest.raises(EncodedBodyError) as refused:
        codings_of([(b"content-encoding", value)])
    assert refused.value.fault is EncodingFault.UNSUPPORTED
