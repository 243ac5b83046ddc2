"""Fake quantisation: values by hand, by brute force, and against the package that deploys them."""

from __future__ import annotations

import pytest
import torch

from unlearn.attacks.weights.number_formats import CODEBOOKS, Format, quantised

FORMATS: tuple[Format, ...] = ("int8", "int4", "nf4", "fp4")


def test_int4_by_hand() -> None:
    """70 inputs: a group of 64 with step 7/7, and one of 6 with step 0.7/7."""
    weight = torch.zeros(1, 70)
    weight[0, :4] = torch.tensor([7.0, 3.4, -3.6, 0.2])
    weight[0, 64:67] = torch.tensor([-0.7, 0.26, 0.04])
    values, bucket, step = quantised(weight, "int4")
    torch.testing.assert_close(values[0, :4], torch.tensor([7.0, 3.0, -4.0, 0.0]))
    torch.testing.assert_close(values[0, 64:67], torch.tensor([-0.7, 0.3, 0.0]))
    assert bucket[0, :4].tolist() == [7, 3, -4, 0]
    assert bucket[0, 64:67].tolist() == [-7, 3, 0]
    torch.testing.assert_close(step[0], torch.tensor([1.0] * 64 + [0.1] * 6))


def test_int8_has_a_scale_for_each_output() -> None:
    weight = torch.tensor([[127.0, 63.4], [0.0, 0.0], [-2.54, 1.0]])
    values, bucket, step = quantised(weight, "int8")
    assert bucket.tolist() == [[127, 63], [0, 0], [-127, 50]]
    torch.testing.assert_close(values, torch.tensor([[127.0, 63.0], [0.0, 0.0], [-2.54, 1.0]]))
    torch.testing.assert_close(step[:, 0], torch.tensor([1.0, 0.0, 0.02]))


@pytest.mark.parametrize("form", ["nf4", "fp4"])
def test_what_is_in_the_codebook_comes_back_exactly(form: Format) -> None:
    codes = torch.tensor(CODEBOOKS[form])
    assert codes.abs().max() == 1
    weight = torch.cat([codes * 3, codes * 0.25, torch.zeros(64)])[:64]  # all of a block whose largest is 3
    assert torch.equal(quantised(3 * codes[None], form)[0], 3 * codes[None])
    assert torch.equal(quantised(weight[None] / 3, form)[0][0, : len(codes)], codes)


@pytest.mark.parametrize("form", ["nf4", "fp4"])
def test_codebook_formats_take_the_nearest_value_of_blocks_of_64(form: Format) -> None:
    """Blocks run on over the rows: 3 x 96 weights are four blocks and a half."""
    torch.manual_seed(0)
    weight, codes = torch.randn(3, 96), CODEBOOKS[form]
    values, bucket, _ = quantised(weight, form)
    flat = weight.flatten().tolist()
    for start in range(0, len(flat), 64):
        block = flat[start : start + 64]
        scale = max(map(abs, block))
        for i, w in enumerate(block):
            gaps = [abs(w / scale - code) for code in codes]
            nearest = gaps.index(min(gaps))
            assert bucket.flatten()[start + i] == nearest
            assert values.flatten()[start + i].item() == pytest.approx(scale * codes[nearest], rel=1e-6)


@pytest.mark.parametrize("form", FORMATS)
def test_twice_is_once(form: Format) -> None:
    torch.manual_seed(1)
    weight = torch.randn(5, 200)
    once, bucket, _ = quantised(weight, form)
    twice, again, _ = quantised(once, form)
    assert torch.equal(bucket, again)
    torch.testing.assert_close(once, twice, rtol=1e-6, atol=0)


@pytest.mark.parametrize("form", FORMATS)
def test_no_weight_moves_further_than_half_a_gap(form: Format) -> None:
    torch.manual_seed(2)
    weight = torch.randn(4, 64)
    widest = {"int8": 1 / 127, "int4": 1 / 7}.get(form) or max(torch.tensor(CODEBOOKS[form]).diff()).item()
    moved = (quantised(weight, form)[0] - weight).abs() / weight.abs().amax(1, keepdim=True)
    assert moved.max() <= widest / 2 + 1e-6


@pytest.mark.parametrize("form", FORMATS)
def test_the_type_of_the_weights_stays(form: Format) -> None:
    weight = torch.randn(2, 64).to(torch.bfloat16)
    assert quantised(weight, form)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("form", ["nf4", "fp4"])
def test_it_is_what_bitsandbytes_gives_back(form: Format) -> None:
    """Of rows that fill whole blocks, as those of released models do; its CPU kernel misreads others."""
    functional = pytest.importorskip("bitsandbytes").functional
    torch.manual_seed(3)
    weight = torch.randn(6, 128)
    packed, state = functional.quantize_4bit(weight, blocksize=64, quant_type=form, compress_statistics=False)
    torch.testing.assert_close(quantised(weight, form)[0], functional.dequantize_4bit(packed, state))
