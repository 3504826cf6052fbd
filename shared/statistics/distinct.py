"""How many different values there are: exact up to a bound, beyond it by HyperLogLog. Merging counts none twice.

Up to `exact_up_to` values are kept as their sorted 64-bit hashes (XXH3); from one more on as HyperLogLog registers of
all of them. Which of the two it is, and every byte of it, is a function of the set of values alone: not of the order
they came in, nor of how they were split and merged.

HyperLogLog is Flajolet, Fusy, Gandouet and Meunier, "HyperLogLog: the analysis of a near-optimal cardinality
estimation algorithm" (AofA 2007), with hashes of 64 bits as in Heule, Nunkesser and Hall (EDBT 2013).
The estimator is Ertl's improved raw estimator ("New cardinality estimation algorithms for HyperLogLog sketches",
arXiv:1702.01284, algorithm 6), which is unbiased over the whole range without tables.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

Hashes = npt.NDArray[np.uint64]
Registers = npt.NDArray[np.uint8]

PRECISION = 14
"""2**14 registers of a byte each."""
STANDARD_ERROR = 1.04 / math.sqrt(2**PRECISION)
"""Relative, of what is no longer exact: 0.8 %."""
MAX_EXACT = 100_000

_EXACT, _REGISTERS = 2, 3
"""First byte of the encoding. (1 is a histogram of `shared.statistics.sketch`.)"""
_HEADER = struct.Struct("<BBI")
"""Format, precision, `exact_up_to`."""
_REST_BITS = 64 - PRECISION
_ALPHA = 1 / (2 * math.log(2))


def hashes_of(texts: Iterable[str]) -> Hashes:
    """One 64-bit hash a text, in the same order."""
    listed = list(texts)
    lines = "\n".join(listed).encode("utf-8", "surrogatepass").split(b"\n")
    if len(lines) != len(listed):  # there are none, or one holds a line break
        lines = [text.encode("utf-8", "surrogatepass") for text in listed]
    return np.fromiter(map(xxhash.xxh3_64_intdigest, lines), dtype=np.uint64, count=len(lines))


@dataclass(frozen=True, slots=True, eq=False)
class Distinct:
    """A set of values, by their hashes. Either `hashes` (ascending, no two alike) or `registers` is there."""

    exact_up_to: int
    hashes: Hashes | None
    registers: Registers | None

    @classmethod
    def of(cls, hashes: Hashes, exact_up_to: int) -> Distinct:
        """The set of these; repeated ones count once. 0 ≤ exact_up_to ≤ MAX_EXACT."""
        return cls._of_sorted(_different(np.sort(hashes)), exact_up_to)

    @classmethod
    def _of_sorted(cls, hashes: Hashes, exact_up_to: int) -> Distinct:
        if len(hashes) <= exact_up_to:
            return cls(exact_up_to, hashes, None)
        return cls(exact_up_to, None, _registers(hashes))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Distinct) and self.encode() == other.encode()

    def __hash__(self) -> int:
        return hash(self.encode())

    def union(self, other: Distinct) -> Distinct:
        """Both together; of two bounds the lesser holds."""
        bound = min(self.exact_up_to, other.exact_up_to)
        if self.hashes is not None and other.hashes is not None:
            both = np.concatenate([self.hashes, other.hashes])
            both.sort(kind="stable")  # which merges the two
            return self._of_sorted(_different(both), bound)
        return Distinct(bound, None, np.maximum(self._as_registers(), other._as_registers()))

    def estimate(self) -> int:
        """How many there are: exactly, or with a standard error of `error` relative to the truth."""
        if self.hashes is not None:
            return len(self.hashes)
        assert self.registers is not None
        return round(_estimate(self.registers))

    @property
    def error(self) -> float:
        """0 if exact."""
        return 0.0 if self.hashes is not None else STANDARD_ERROR

    def encode(self) -> bytes:
        """Equal sets give equal bytes."""
        if self.hashes is not None:
            return _HEADER.pack(_EXACT, 0, self.exact_up_to) + self.hashes.astype("<u8").tobytes()
        assert self.registers is not None
        return _HEADER.pack(_REGISTERS, PRECISION, self.exact_up_to) + self.registers.tobytes()

    @classmethod
    def decode(cls, raw: bytes) -> Distinct:
        """The inverse of `encode`. Raises ValueError for anything else."""
        if not is_encoded(raw):
            raise ValueError("neither a set of hashes nor registers")
        kind, precision, bound = _HEADER.unpack_from(raw)
        if kind == _EXACT:
            return cls(bound, np.frombuffer(raw, dtype="<u8", offset=_HEADER.size).astype(np.uint64), None)
        if precision != PRECISION:
            raise ValueError(f"registers of precision {precision}, not {PRECISION}")
        return cls(bound, None, np.frombuffer(raw, dtype=np.uint8, offset=_HEADER.size).copy())

    def _as_registers(self) -> Registers:
        if self.registers is not None:
            return self.registers
        assert self.hashes is not None
        return _registers(self.hashes)


def is_encoded(raw: bytes) -> bool:
    """Whether these are bytes of `Distinct.encode`, as far as their beginning tells."""
    return len(raw) >= _HEADER.size and raw[0] in (_EXACT, _REGISTERS)


def _different(ascending: Hashes) -> Hashes:
    """Each once."""
    first = np.ones(len(ascending), dtype=np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
    return ascending[first]


def _registers(hashes: Hashes) -> Registers:
    registers = np.zeros(2**PRECISION, dtype=np.uint8)
    index = (hashes >> np.uint64(_REST_BITS)).astype(np.int64)
    rest = (hashes & np.uint64(2**_REST_BITS - 1)).astype(np.float64)  # fifty bits: exact
    bit_length = np.frexp(rest)[1]
    np.maximum.at(registers, index, (_REST_BITS + 1 - bit_length).astype(np.uint8))
    return registers


def _estimate(registers: Registers) -> float:
    size = float(2**PRECISION)
    counts = np.bincount(registers, minlength=_REST_BITS + 2).tolist()
    if counts[0] == len(registers):
        return 0.0
    z = size * _tau(1 - counts[_REST_BITS + 1] / size)
    for k in range(_REST_BITS, 0, -1):
        z = 0.5 * (z + counts[k])
    z += size * _sigma(counts[0] / size)
    return _ALPHA * size * size / z


def _sigma(x: float) -> float:
    if x == 1:
        return math.inf
    y, z, before = 1.0, x, -1.0
    while z != before:
        x, before = x * x, z
        z += x * y
        y += y
    return z


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x, before, y = math.sqrt(x), z, 0.5 * y
        z -= (1 - x) ** 2 * y
    return z / 3
