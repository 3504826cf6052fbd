"""Bucket v1 is a promise to every client that computes variants itself: these vectors never change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.assignment.domain.allocation import Split
from services.assignment.domain.bucketing import ALGORITHM, BUCKETS, bucket_of

VECTORS = json.loads(Path(__file__).with_name("bucketing_v1.json").read_text("utf-8"))

_MASK = 2**64 - 1
_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def _rotate(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & _MASK


def _round(accumulator: int, lane: int) -> int:
    return _rotate((accumulator + lane * _P2) & _MASK, 31) * _P1 & _MASK


def xxh64(data: bytes) -> int:
    """XXH64 with seed 0, written from its specification: a second implementation, to check the first."""
    at, length = 0, len(data)
    if length >= 32:
        lanes = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
        while at + 32 <= length:
            for i in range(4):
                lanes[i] = _round(lanes[i], int.from_bytes(data[at + 8 * i : at + 8 * i + 8], "little"))
            at += 32
        h = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            h = ((h ^ _round(0, lane)) * _P1 + _P4) & _MASK
    else:
        h = _P5
    h = (h + length) & _MASK
    while at + 8 <= length:
        h = (_rotate(h ^ _round(0, int.from_bytes(data[at : at + 8], "little")), 27) * _P1 + _P4) & _MASK
        at += 8
    if at + 4 <= length:
        h = (_rotate(h ^ (int.from_bytes(data[at : at + 4], "little") * _P1 & _MASK), 23) * _P2 + _P3) & _MASK
        at += 4
    for byte in data[at:]:
        h = _rotate(h ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
    h = (h ^ (h >> 33)) * _P2 & _MASK
    h = (h ^ (h >> 29)) * _P3 & _MASK
    return h ^ (h >> 32)


def test_the_vectors_describe_this_algorithm() -> None:
    assert VECTORS["algorithm"] == ALGORITHM
    assert VECTORS["buckets"] == BUCKETS


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: repr(v["salt"] + ":" + v["unit"])[:40])
def test_a_unit_falls_in_its_published_bucket(vector: dict[str, str | int]) -> None:
    salt, unit = str(vector["salt"]), str(vector["unit"])
    assert bucket_of(salt, unit) == vector["bucket"]
    assert xxh64(f"{salt}:{unit}".encode()) * BUCKETS >> 64 == vector["bucket"]


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda v: repr(v["salt"] + ":" + v["unit"])[:40])
def test_a_unit_gets_its_published_variant_of_an_even_split(vector: dict[str, str | int]) -> None:
    split = Split.of({"control": 500_000, "treatment": 500_000})
    assert split.variant_of(int(vector["bucket"])) == vector["variant_of_50_50"]
