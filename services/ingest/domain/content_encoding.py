"""Undoing Content-Encoding step by step, so that a small body that stands for a huge one is cut off early.

Every step yields a bounded piece (at most 4 MB, usually 64 KiB), and no stage of a list of codings may yield more
than the limit: neither memory nor time grow with what a body claims to become.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Protocol

import brotli
import zstandard


class Coding(Enum):
    """What a body may be encoded with; the value is its registered name."""

    GZIP = "gzip"
    DEFLATE = "deflate"
    ZSTD = "zstd"
    BROTLI = "br"


ACCEPTED_CODINGS = ", ".join(coding.value for coding in Coding)
"""As an Accept-Encoding header lists them."""

MAX_CODINGS = 3
"""Encoding more often only serves to hide something."""

_NAMES = {coding.value: coding for coding in Coding} | {"x-gzip": Coding.GZIP}
_NONE = ("", "identity")


class EncodingFault(Enum):
    """Why a body cannot be decoded; the value is the machine-readable reason."""

    UNSUPPORTED = "unsupported_content_encoding"
    UNDECODABLE = "undecodable_body"
    TOO_LARGE = "body_too_large"


class EncodedBodyError(Exception):
    """`fault` says what kind of fault, `str()` what and where."""

    def __init__(self, fault: EncodingFault, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault


def codings_of(headers: Iterable[tuple[bytes, bytes]]) -> tuple[Coding, ...]:
    """In the order in which they were applied, from all Content-Encoding headers; names of `headers` are lower-case.

    Raises EncodedBodyError for one that is unknown, or for too many.
    """
    found: tuple[Coding, ...] = ()
    for name, value in headers:
        if name == b"content-encoding":
            found += tuple(_known(part) for part in value.decode("latin-1").split(",") if not _is_none(part))
    if len(found) > MAX_CODINGS:
        detail = f"a body may be encoded at most {MAX_CODINGS} times"
        raise EncodedBodyError(EncodingFault.UNSUPPORTED, detail)
    return found


def _is_none(name: str) -> bool:
    return name.strip().lower() in _NONE


def _known(name: str) -> Coding:
    coding = _NAMES.get(name.strip().lower())
    if coding is None:
        detail = f"send the body without Content-Encoding, or with {ACCEPTED_CODINGS}"
        raise EncodedBodyError(EncodingFault.UNSUPPORTED, detail)
    return coding


class Decoding:
    """One body, decoded as it comes in: `feed` each part of it, then `end`.

    `limit` is in bytes after decoding. All methods raise EncodedBodyError; after that the rest is lost.
    """

    def __init__(self, codings: Sequence[Coding], limit: int) -> None:
        self._stages = [_Stage(coding, limit) for coding in reversed(codings)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` adds, lazily: the work is done, and the limit checked, piece by piece. A piece may be empty."""
        pieces: Iterator[bytes] = iter((data,))
        for stage in self._stages:
            pieces = stage.through(pieces)
        return pieces

    def end(self) -> None:
        for stage in self._stages:
            stage.end()

    def whole(self, body: bytes) -> Iterator[bytes]:
        """A body that is all there."""
        yield from self.feed(body)
        self.end()


class _Decompressor(Protocol):
    """One frame of compressed data, or a body that knows no frames."""

    def decompress(self, data: memoryview) -> Iterator[bytes]: ...

    def rest(self) -> bytes | None:
        """None within the frame, behind it what of the data last given belongs no longer to it."""


_SLICE = 16 * 1024
"""So much is given to a decompressor at a time: what it has not used yet is copied with every step."""
_STEP = 64 * 1024
"""So much is taken from it at a time, where that can be said."""
_MAX_FRAMES = 2_000
"""A frame may be empty, so many of them would cost time that no limit on the size sees (bgzip: 1,607 for 100 MiB)."""


class _Stage:
    """One coding of the list: its frames one after the other."""

    def __init__(self, coding: Coding, limit: int) -> None:
        self._coding = coding
        self._left = self._limit = limit
        self._frame: _Decompressor | None = None
        self._frames = 0

    def through(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), _SLICE):
                yield from self._decompress(view[start : start + _SLICE])

    def end(self) -> None:
        if self._frame is not None or not self._frames:
            raise EncodedBodyError(EncodingFault.UNDECODABLE, f"the body ends within its {self._coding.value} data")

    def _decompress(self, data: memoryview) -> Iterator[bytes]:
        while data:
            frame = self._frame or self._next_frame()
            try:
                for piece in frame.decompress(data):
                    self._left -= len(piece)
                    if self._left < 0:
                        detail = f"a request body may have at most {self._limit} bytes after decompression"
                        raise EncodedBodyError(EncodingFault.TOO_LARGE, detail)
                    yield piece
            except (zlib.error, brotli.error, zstandard.ZstdError) as error:
                detail = f"the body is no valid {self._coding.value}: {error}"
                raise EncodedBodyError(EncodingFault.UNDECODABLE, detail) from None
            rest = frame.rest()
            if rest is None:
                return
            self._frame = None
            data = memoryview(rest)

    def _next_frame(self) -> _Decompressor:
        if self._frames and self._coding not in _FRAMED:
            detail = f"something follows the end of the {self._coding.value} data"
            raise EncodedBodyError(EncodingFault.UNDECODABLE, detail)
        if self._frames >= _MAX_FRAMES:
            raise EncodedBodyError(EncodingFault.UNDECODABLE, f"more than {_MAX_FRAMES} {self._coding.value} frames")
        self._frames += 1
        self._frame = _DECOMPRESSORS[self._coding]()
        return self._frame


class _Inflate:
    """gzip, or deflate with or without the zlib header that the standard asks for and some clients leave out."""

    def __init__(self, window_bits: int) -> None:
        self._inflate = zlib.decompressobj(window_bits)

    def decompress(self, data: memoryview) -> Iterator[bytes]:
        inflate = self._inflate
        while True:
            piece = inflate.decompress(data, _STEP)
            yield piece
            data = memoryview(inflate.unconsumed_tail)
            if inflate.eof or (not data and len(piece) < _STEP):
                return

    def rest(self) -> bytes | None:
        return self._inflate.unused_data if self._inflate.eof else None


class _Deflate:
    """Its first two bytes tell whether there is a zlib header; they may come one by one."""

    def __init__(self) -> None:
        self._head = b""
        self._inflate: _Inflate | None = None

    def decompress(self, data: memoryview) -> Iterator[bytes]:
        if self._inflate is None:
            self._head += data
            if len(self._head) < 2:
                return
            wrapped = self._head[0] & 0x0F == zlib.DEFLATED and int.from_bytes(self._head[:2], "big") % 31 == 0
            self._inflate = _Inflate(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
            data = memoryview(self._head)
        yield from self._inflate.decompress(data)

    def rest(self) -> bytes | None:
        return self._inflate.rest() if self._inflate else None


class _Zstd:
    _WINDOW = 8 * 1024 * 1024
    """RFC 9659: no HTTP client needs more, and this much may be allocated before the first byte comes out."""
    _BYTES = 128
    """A block of 4 bytes may stand for 128 KiB and one call gives out all it can: at most 4 MB from so many bytes."""

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor(max_window_size=self._WINDOW).decompressobj()
        self._rest: bytes | None = None

    def decompress(self, data: memoryview) -> Iterator[bytes]:
        for start in range(0, len(data), self._BYTES):
            yield self._frame.decompress(data[start : start + self._BYTES])
            if self._frame.eof:
                self._rest = self._frame.unused_data + bytes(data[start + self._BYTES :])
                return

    def rest(self) -> bytes | None:
        return self._rest


class _Brotli:
    def __init__(self) -> None:
        self._brotli = brotli.Decompressor()

    def decompress(self, data: memoryview) -> Iterator[bytes]:
        piece: bytes = self._brotli.process(data, output_buffer_limit=_STEP)
        yield piece
        # It accepts more as soon as all input is used, even if much output is still to come.
        while not self._brotli.is_finished() and (len(piece) >= _STEP or not self._brotli.can_accept_more_data()):
            piece = self._brotli.process(b"", output_buffer_limit=_STEP)
            yield piece

    def rest(self) -> bytes | None:
        return b"" if self._brotli.is_finished() else None


_FRAMED = frozenset({Coding.GZIP, Coding.ZSTD})
"""Codings of which several may follow one another; together they are one body."""

_DECOMPRESSORS: Mapping[Coding, Callable[[], _Decompressor]] = {
    Coding.GZIP: lambda: _Inflate(16 + zlib.MAX_WBITS),
    Coding.DEFLATE: _Deflate,
    Coding.ZSTD: _Zstd,
    Coding.BROTLI: _Brotli,
}
