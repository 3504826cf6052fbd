"""What clients do to a body before they send it, under the Content-Encoding they declare."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping

import brotli
import zstandard

from services.ingest.domain.content_encoding import Coding

Encode = Callable[[bytes], bytes]


def _raw_deflate(body: bytes) -> bytes:
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(body) + deflate.flush()


def _zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(body)


def _streamed_zstd(body: bytes) -> bytes:
    """Without the size of the content in its header."""
    compress = zstandard.ZstdCompressor().compressobj()
    return compress.compress(body) + compress.flush()


def _brotli(body: bytes) -> bytes:
    encoded: bytes = brotli.compress(body, quality=5)
    return encoded


ENCODINGS: Mapping[str, tuple[Coding, Encode]] = {
    "gzip": (Coding.GZIP, gzip.compress),
    "deflate": (Coding.DEFLATE, zlib.compress),
    "deflate without header": (Coding.DEFLATE, _raw_deflate),
    "zstd": (Coding.ZSTD, _zstd),
    "streamed zstd": (Coding.ZSTD, _streamed_zstd),
    "br": (Coding.BROTLI, _brotli),
}
