"""The mask against plain bool tensors."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from unlearn.models.mask import Mask, pack, unpack
from unlearn.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SHAPES = {"a": (3, 5), "b": (8,), "c": (1,), "d": (2, 3, 4)}
Bits = dict[str, Tensor]


class Shapes(nn.Module):
    """A module with parameters of these shapes."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))


@st.composite
def bits(draw: st.DrawFn) -> Bits:
    """A bool tensor for each shape; often all alike."""
    made = {}
    for name, shape in SHAPES.items():
        size = math.prod(shape)
        alike = st.sampled_from([[False] * size, [True] * size])
        values = draw(alike | st.lists(st.booleans(), min_size=size, max_size=size))
        made[name] = torch.tensor(values).view(shape)
    return made


def mask_of(selected: Bits) -> Mask:
    return Mask.of(Shapes(SHAPES), selected)


def assert_is(mask: Mask, expected: Bits) -> None:
    """Has these bits, and holds them as it should: whole tensors never as bits, nothing after the last weight."""
    for name, bits in expected.items():
        assert torch.equal(mask.bits(name), bits)
        held = mask.tensors[name]
        assert isinstance(held, bool) == bool(bits.all() or not bits.any()) == mask.is_whole(name)
        if isinstance(held, Tensor):
            assert held.dtype == torch.uint8
            assert len(held) == math.ceil(bits.numel() / 8)
            assert sum(byte.bit_count() for byte in held.tolist()) == bits.sum()


@given(st.lists(st.booleans(), min_size=1, max_size=70))
def test_packing_goes_there_and_back(values: list[bool]) -> None:
    packed = pack(torch.tensor(values))
    assert packed.tolist() == [
        sum(bit << place for place, bit in enumerate(values[i : i + 8])) for i in range(0, len(values), 8)
    ]
    assert unpack(packed, (len(values),)).tolist() == values


@given(bits(), bits())
def test_masks_are_sets(first: Bits, second: Bits) -> None:
    a, b = mask_of(first), mask_of(second)
    assert_is(a, first)
    assert_is(a & b, {name: first[name] & second[name] for name in SHAPES})
    assert_is(a | b, {name: first[name] | second[name] for name in SHAPES})
    assert_is(~a, {name: ~first[name] for name in SHAPES})
    both = sum(int((first[name] & second[name]).sum()) for name in SHAPES)
    either = sum(int((first[name] | second[name]).sum()) for name in SHAPES)
    assert a.iou(b) == b.iou(a) == (both / either if either else 1)


@given(bits())
def test_counts(selected: Bits) -> None:
    mask = mask_of(selected)
    counts = {name: int(tensor.sum()) for name, tensor in selected.items()}
    assert mask.counts == counts
    assert mask.selected == sum(counts.values())
    assert mask.total == 15 + 8 + 1 + 24
    assert mask.fraction == sum(counts.values()) / 48
    assert mask.share("a") == counts["a"] / 15


@given(selected=bits(), other=bits())
def test_the_digest_tells_masks_apart(selected: Bits, other: Bits) -> None:
    same = all(torch.equal(selected[name], other[name]) for name in SHAPES)
    assert (mask_of(selected).digest == mask_of(other).digest) == same


def test_saved_and_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    selected = {"a": torch.rand(3, 5) < 0.5, "b": torch.ones(8, dtype=torch.bool), "d": torch.rand(2, 3, 4) < 0.5}
    mask = replace(Mask.of(Shapes(SHAPES), selected), about={"localizer": "by hand"})
    mask.save(tmp_path / "mask.safetensors")
    loaded = Mask.load(tmp_path / "mask.safetensors")
    assert_is(loaded, selected | {"c": torch.zeros(1, dtype=torch.bool)})
    assert loaded.digest == mask.digest
    assert loaded.shapes == mask.shapes
    assert loaded.about == {"localizer": "by hand"}
    assert list(loaded.tensors) == list(SHAPES)
    assert [path.name for path in tmp_path.iterdir()] == ["mask.safetensors"]


def test_files_that_are_no_masks(tmp_path: Path) -> None:
    path = tmp_path / "mask.safetensors"
    with pytest.raises(UserError, match="there is no mask"):
        Mask.load(path)
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(UserError, match="cannot read"):
        Mask.load(path)
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(UserError, match="is not a mask"):
        Mask.load(path)


def written(path: Path, tensors: Bits | None = None, **record: str | None) -> Path:
    """A file as `save` writes it (of "a" [4, 5] in part, "b" [3] as a whole, "c" [2] not), but for these changes."""
    held = {"a": torch.tensor([1, 2, 3], dtype=torch.uint8)} if tensors is None else tensors
    about = {"format": "unlearn-mask-1", "shapes": json.dumps({"a": [4, 5], "b": [3], "c": [2]})}
    about |= {"selected": '["b"]', "about": '{"localizer": "snip"}'}
    changed = {**about, **record}
    save_file(held, path, metadata={key: value for key, value in changed.items() if value is not None})
    return path


def test_a_file_written_by_hand(tmp_path: Path) -> None:
    mask = Mask.load(written(tmp_path / "mask.safetensors"))
    assert mask.counts == {"a": 4, "b": 3, "c": 0}
    assert mask.about == {"localizer": "snip"}
    assert Mask.load(written(tmp_path / "mask.safetensors", about=None)).about == {}


def octets(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": octets(1, 2)}, r"'a' has torch\.uint8 \[2\] for the bits of 20 weights"),
        ({"a": octets(1, 2, 3, 4)}, r"'a' has torch\.uint8 \[4\]"),
        ({"a": octets(1, 2, 3)[None]}, r"'a' has torch\.uint8 \[1, 3\]"),
        ({"a": octets(1, 2, 3).view(torch.int8)}, r"'a' has torch\.int8"),
        ({"a": torch.ones(3)}, r"'a' has torch\.float32"),
        ({"a": torch.tensor(1, dtype=torch.uint8)}, r"'a' has torch\.uint8 \[\]"),
        ({"a": octets(1, 2, 0b10000)}, "'a' has bits beyond its last weight"),
        ({"a": octets(0, 0, 0)}, "'a' has bits that are all alike"),
        ({"a": octets(255, 255, 15)}, "'a' has bits that are all alike"),
        ({"d": octets(1)}, "'d' has no shape"),
        ({"b": octets(1)}, "'b' is selected as a whole and in part"),
    ],
)
def test_damaged_bits(tmp_path: Path, tensors: Bits, message: str) -> None:
    path = written(tmp_path / "mask.safetensors", tensors)
    with pytest.raises(UserError, match=rf"^the mask {path} is damaged: {message}"):
        Mask.load(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field in ("shapes", "selected") for value in (None, "", "null", "3", "[", '{"a": "b"}')]
    + [("shapes", json.dumps({"a": shape, "b": [3]})) for shape in ([4, "5"], [4, 5.0], [-4, -5], [True, 20], 20, None)]
    + [("shapes", "{}"), ("shapes", '{"a": [4, 5]}'), ("shapes", '["a", "b"]')]
    + [("selected", '["nowhere"]'), ("selected", '["a", "b"]'), ("selected", "[1]"), ("selected", '"b"')]
    + [("about", "3"), ("about", '["a"]'), ("about", '{"localizer": 3}'), ("about", '{"localizer": null}')],
)
def test_damaged_records(tmp_path: Path, field: str, value: str | None) -> None:
    changed: Any = {field: value}
    path = written(tmp_path / "mask.safetensors", **changed)
    with pytest.raises(UserError, match=rf"^the mask {path} is damaged: ") as raised:
        Mask.load(path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < len(str(path)) + 200


def test_a_damaged_file_is_refused_or_a_mask(tmp_path: Path) -> None:
    """Whatever becomes of one byte, or of the end of the file."""
    whole = written(tmp_path / "mask.safetensors").read_bytes()
    path = tmp_path / "damaged.safetensors"
    for place in range(len(whole)):
        for change in (whole[:place], *(whole[:place] + bytes([byte]) + whole[place + 1 :] for byte in (0, 34, 49))):
            path.write_bytes(change)
            try:
                mask = Mask.load(path)
            except UserError:
                continue
            assert_is(mask, {name: mask.bits(name) for name in mask.shapes})
            assert 0 <= mask.fraction <= 1
            assert len(mask.shares()) > 0
            assert mask.digest
    with pytest.raises(UserError, match="cannot read the mask"):
        Mask.load(tmp_path)


def test_masks_of_different_models_do_not_mix() -> None:
    mask = replace(Mask.of(Shapes({"a": (2,)}), {"a": True}), about={"localizer": "snip", "model": "this one"})
    for other, message in (({"a": (3,)}, r"\[2\] in the mask and \[3\]"), ({"a": (2,), "b": (1,)}, "'b' is nothing")):
        with pytest.raises(UserError, match=message):
            mask.check_fits(Shapes(other))
        with pytest.raises(UserError, match="snip this one"):
            mask.iou(Mask.of(Shapes(other), {}))
    mask.check_fits(Shapes({"a": (2,)}))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layer.weihgt", True, "'layer.weihgt' is no parameter of this model; did you mean 'layer.weight'"),
        ("xyz", True, "'xyz' is no parameter of this model$"),
        ("bias", torch.ones(3), r"'bias' is a tensor of torch\.float32"),
        ("bias", torch.ones(3, dtype=torch.uint8), r"'bias' is a tensor of torch\.uint8"),
        ("bias", 1, "'bias' is a int"),
        ("bias", None, "'bias' is a NoneType"),
        ("bias", torch.ones(4, dtype=torch.bool), r"'bias' is \[4\], and the parameter \[3\]"),
        ("bias", torch.tensor(True), r"'bias' is \[\], and the parameter \[3\]"),
        ("layer.weight", torch.ones(3, 2, dtype=torch.bool), r"'layer\.weight' is \[3, 2\], .* \[2, 3\]"),
    ],
)
def test_selections_that_are_refused(name: str, value: Any, message: str) -> None:
    model = nn.ParameterDict({"bias": torch.zeros(3)})
    model.add_module("layer", nn.Linear(3, 2, bias=False))
    with pytest.raises(UserError, match=message):
        Mask.of(model, {name: value})


def test_nothing_selected_is_a_mask(tmp_path: Path) -> None:
    Mask.of(Shapes(SHAPES), {"a": False}).save(tmp_path / "mask.safetensors")
    mask = Mask.load(tmp_path / "mask.safetensors")
    assert mask.selected == 0
    assert mask.fraction == 0
    assert mask.total == 48


def llama(tied: bool) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=10,
            hidden_size=4,
            intermediate_size=6,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=tied,
        )
    )


def test_shares_by_layer_and_type() -> None:
    """Selected: the MLPs, and one weight of layer 1's o_proj [4, 4]."""
    model = llama(tied=False)
    selected: dict[str, bool | Tensor] = {name: ".mlp." in name for name, _ in model.named_parameters()}
    one = torch.zeros(4, 4, dtype=torch.bool)
    one[2, 1] = True
    selected["model.layers.1.self_attn.o_proj.weight"] = one
    shares = {(s["layer"], s["type"]): (s["selected"], s["total"]) for s in Mask.of(model, selected).shares()}
    expected: dict[tuple[int | None, str], tuple[int, int]] = {(None, "embed"): (0, 40), (None, "norm"): (0, 4)}
    expected[None, "head"] = (0, 40)
    for layer in (0, 1):
        expected |= {(layer, "q"): (0, 16), (layer, "k"): (0, 8), (layer, "v"): (0, 8), (layer, "o"): (layer, 16)}
        expected |= dict.fromkeys([(layer, kind) for kind in ("gate", "up", "down")], (24, 24))
        expected[layer, "norm"] = (0, 8)
    assert shares == expected
    assert list(shares) == list(expected)  # outside the layers first, types in the order of TYPES


def test_tied_weights_count_once() -> None:
    tied, untied = (Mask.where(llama(tied), lambda name: True) for tied in (True, False))
    assert untied.total - tied.total == 40
    assert "lm_head.weight" not in tied.shapes
    assert tied.fraction == 1
    with pytest.raises(UserError, match=r"'lm_head\.weight' is tied: .* under the name 'model\.embed_tokens\.weight'"):
        Mask.of(llama(tied=True), {"lm_head.weight": True})
