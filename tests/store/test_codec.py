"""Blocks survive their encodings; what compact coding may change is bounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stored.fidelity import kl
from benchmarks.stored.records import simulated
from tests.store.blocks import header_of, random_block, same
from tinyvit_kd.config.data import Encoding
from tinyvit_kd.store.codec import decode, decode_rows, encode, plane_rows, read_header, read_status, row_bytes, rows_of
from tinyvit_kd.store.encodings import ENCODINGS
from tinyvit_kd.store.records import HEADER_BYTES, Block, BlockHeader

CLASSES = st.one_of(st.integers(1, 70), st.sampled_from([256, 257, 1000, 21841, 65536, 65537, 2**17]))
U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
Case = tuple[Block, int]  # a block and its number of classes


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Blocks of any shape, of teachers that are unsure to certain."""
    num_classes = draw(CLASSES)
    topk = draw(st.integers(1, min(num_classes, 70)))
    sharpness = draw(st.sampled_from([0.0, 0.1, 1.0, 4.0, 30.0]))
    seed = draw(st.integers(0, 2**32 - 1))
    return random_block(draw(st.integers(1, 40)), topk, num_classes, seed, sharpness), num_classes


def round_trip(case: Case, encoding: Encoding) -> Block:
    block, num_classes = case
    header = header_of(block, num_classes, encoding)
    planes = encode(block, header)
    assert planes.shape == (plane_rows(encoding, len(block), header.topk, num_classes), len(block))
    assert planes.dtype == np.uint8
    assert read_header(planes) == header
    assert (read_status(planes) == block.status).all()
    return decode(planes, header)


@given(cases())
def test_exact_encoding_keeps_every_bit(case: Case) -> None:
    assert same(round_trip(case, "exact"), case[0])


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=90))
def test_exact_encoding_keeps_any_number(values: list[float]) -> None:
    # Negative residuals, negative zeros and numbers too small for float16 among them.
    length = len(values) // 3
    block = random_block(length, 2, 9, holes=0)
    block.probs[:] = np.array(values[: 2 * length], np.float32).reshape(length, 2)
    block.residual[:] = values[2 * length : 3 * length]
    assert same(round_trip((block, 9), "exact"), block)


@given(cases())
def test_compact_encoding_keeps_all_but_probabilities_and_residual(case: Case) -> None:
    block, decoded = case[0], round_trip(case, "compact")
    for name in ("indices", "seeds", "digests", "status"):
        assert getattr(decoded, name).dtype == getattr(block, name).dtype
        assert (getattr(decoded, name) == getattr(block, name)).all()


@given(cases())
def test_compact_probabilities_and_residual_sum_to_one_and_holes_are_zero(case: Case) -> None:
    decoded = round_trip(case, "compact")
    total = decoded.probs.sum(axis=1, dtype=np.float64) + decoded.residual
    np.testing.assert_allclose(total, decoded.valid, atol=2e-6)
    assert not decoded.probs[~decoded.valid].any()
    assert not decoded.residual[~decoded.valid].any()


@given(cases())
def test_compact_encoding_keeps_the_best_class_the_best(case: Case) -> None:
    block, decoded = case[0], round_trip(case, "compact")
    rows, best = np.arange(len(block)), block.probs.argmax(axis=1)
    others = block.probs.copy()
    others[rows, best] = -1
    clear = block.valid & (block.probs.max(axis=1) > others.max(axis=1))
    runners_up = decoded.probs.copy()
    runners_up[rows, best] = -1
    assert (decoded.probs[rows, best] > runners_up.max(axis=1))[clear].all()


@given(cases())
def test_no_stored_class_decodes_to_zero(case: Case) -> None:
    block, decoded = case[0], round_trip(case, "compact")
    assert (decoded.probs > 0)[block.probs > 0].all()


@given(cases())
def test_compact_probabilities_are_near_the_true_ones(case: Case) -> None:
    # A code is off by half a level of 1/255, by a level more where a tie was broken; rescaling adds up to K of them.
    # What a residual near 1 leaves is known to 2^-11 only.
    block, decoded = case[0], round_trip(case, "compact")
    topk = block.probs.shape[1]
    assert np.abs(np.sqrt(decoded.probs) - np.sqrt(block.probs)).max() < (1 + np.sqrt(topk)) / 255 + np.sqrt(2.0**-11)


@given(cases(), st.sampled_from(list(ENCODINGS)), st.data())
def test_a_few_records_decode_as_in_the_whole_block(case: Case, encoding: Encoding, data: st.DataObject) -> None:
    block, num_classes = case
    chosen = np.array(data.draw(st.lists(st.integers(0, len(block) - 1), max_size=9)), dtype=np.int64)
    header = header_of(block, num_classes, encoding)
    planes = encode(block, header)
    rows = rows_of(planes)
    assert rows.shape == (len(block), row_bytes(encoding, header.topk, num_classes))
    assert same(decode_rows(rows[chosen], encoding, header.topk, num_classes), decode(planes, header), chosen)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("length", [1, 40])
def test_decoded_records_do_not_hold_on_to_what_they_came_from(length: int, encoding: Encoding) -> None:
    block = random_block(length, 5, 1000)
    planes = encode(block, header_of(block, 1000, encoding))
    rows = rows_of(planes)
    assert not np.shares_memory(rows, planes)
    decoded = decode_rows(rows, encoding, 5, 1000)
    assert not any(np.shares_memory(array, rows) for array in vars(decoded).values())


def test_a_negative_residual_is_clamped_to_zero() -> None:
    # float16 probabilities of official records sum to more than 1 in up to a fifth of them.
    block = random_block(8, 5, 1000, holes=0)
    block.residual[:] = -0.001
    assert not round_trip((block, 1000), "compact").residual.any()


def test_a_residual_that_rounds_to_one_leaves_something_for_the_stored_class() -> None:
    num_classes = 2**17
    block = random_block(1, 1, num_classes, holes=0)
    block.probs[:], block.residual[:] = 1 / num_classes, 1 - 1 / num_classes
    decoded = round_trip((block, num_classes), "compact")
    assert 0 < decoded.probs[0, 0] < 1e-3


def test_all_classes_of_a_large_list_can_be_stored() -> None:
    block = random_block(3, 2**17, 2**17, holes=0)
    decoded = round_trip((block, 2**17), "compact")
    assert (decoded.indices == np.arange(2**17)).all()
    assert not decoded.residual.any()


@pytest.fixture(scope="module", params=["in22k_k100", "in1k_k10"])
def teacher_block(request: pytest.FixtureRequest, shared_data: Path) -> Case:
    """Simulated records of a whole shard."""
    return simulated(shared_data / "topk_sim" / f"{request.param}.npz")


def test_compact_coding_barely_moves_a_teachers_distribution(teacher_block: Case) -> None:
    block, decoded = teacher_block[0], round_trip(teacher_block, "compact")
    divergence = kl(block, decoded, teacher_block[1])
    assert divergence["kl"] <= 3e-4
    assert divergence["kl_infinite"] == 0
    assert (decoded.probs.argmax(axis=1) == block.probs.argmax(axis=1)).all()
    assert decoded.probs.min() > 0


@pytest.mark.parametrize("change", [{"indices": [[3, 3]]}, {"indices": [[4, 3]]}, {"indices": [[3, 10]]}])
def test_classes_that_would_read_back_as_others_are_our_own_bug(change: dict[str, list[list[int]]]) -> None:
    block = random_block(1, 2, 10, holes=0)
    block.indices[:] = change["indices"]
    with pytest.raises(AssertionError):
        encode(block, header_of(block, 10))


@given(st.sampled_from(list(ENCODINGS)), st.tuples(*[U32] * 5), st.tuples(U64, U64), st.integers(0, 2**16 - 1))
def test_a_header_reads_back_as_it_was(
    encoding: Encoding, numbers: tuple[int, int, int, int, int], hashes: tuple[int, int], version: int
) -> None:
    header = BlockHeader(encoding, *numbers, *hashes, format_version=version)
    assert len(header.pack()) == HEADER_BYTES
    assert BlockHeader.unpack(header.pack()) == header


@pytest.mark.parametrize("place", [0, 7, 10], ids=["first of magic", "last of magic", "encoding"])
def test_other_bytes_are_not_taken_for_a_header(place: int) -> None:
    data = bytearray(header_of(random_block(1, 1, 1), 1).pack())
    data[place] ^= 0x80
    assert BlockHeader.unpack(bytes(data)) is None
