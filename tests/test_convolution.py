"""Convolution: pictures to vectors, rows and maps, by kernels that stay where they should."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqtoolkit.flow.convolution import Convolution
from seqtoolkit.flow.encoder import Embed, Project
from seqtoolkit.flow.spec import Spec, SpecError
from seqtoolkit.host.registry import discover
from seqtoolkit.host.schema import schema

VIEW = Spec.parse("u8[T B 5 5 3]")


def pictures(spec=VIEW, steps=2, rows=3):
    """Random pictures of a spec."""
    generator = torch.Generator().manual_seed(0)
    made = torch.randint(0, 256, (steps, rows, *spec.axes[2:]), generator=generator, dtype=torch.uint8)
    return made if spec.dtype == "u8" else made / 255


def picture_by_hand(encoder, picture, strides, padding):
    """The last layer's map [Y X C] of one picture [Y X C], place by place."""
    for layer, stride in zip(encoder.layers, strides, strict=True):
        kernel, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
        size = kernel.shape[2]
        counts = [
            -(-side // stride) if padding == "same" else (side - size) // stride + 1 for side in picture.shape[:2]
        ]
        missing = [max((n - 1) * stride + size - side, 0) for n, side in zip(counts, picture.shape, strict=False)]
        picture = np.pad(picture, [(more // 2, more - more // 2) for more in missing] + [(0, 0)])
        made = np.zeros((*counts, len(kernel)))
        for y, x in np.ndindex(*counts):
            patch = picture[y * stride : y * stride + size, x * stride : x * stride + size]
            made[y, x] = [(patch.transpose(2, 0, 1) * each).sum() for each in kernel] + bias
        picture = np.maximum(made, 0)
    return picture


@pytest.mark.parametrize(
    ("size", "kernels", "strides", "padding"),
    [
        ("5 5 3", [3, 3], [1, 1], "valid"),
        ("5 6 3", [2, 2], [1, 1], "valid"),
        ("7 4 2", [3, 2], [2, 1], "same"),
        ("6 5 1", [4, 1], [3, 2], "same"),
        ("8 9 3", [4, 2], [2, 1], "valid"),
    ],
)
def test_it_is_a_convolution(size, kernels, strides, padding):
    """What comes out is what kernels laid on the picture by hand give, divided by 255 before."""
    spec = Spec.parse(f"u8[T B {size}]")
    options = {"kernel_size": kernels, "stride": strides, "padding": padding}
    encoder = Convolution(spec, [4, 5], coordinates=False, layout="map", **options).double()
    inputs = pictures(spec)
    got = encoder(inputs).detach()
    assert f"f32[T B {' '.join(map(str, got.shape[2:]))}]" == encoder.writes
    for step, row in np.ndindex(2, 3):
        wanted = picture_by_hand(encoder, inputs[step, row].numpy() / 255, strides, padding)
        np.testing.assert_allclose(got[step, row].permute(1, 2, 0), wanted, rtol=1e-10, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.integers(3, 9)] * 2),
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from(["valid", "same"]),
    st.sampled_from(["flat", "rows", "map"]),
    st.booleans(),
)
def test_it_writes_what_it_says(sides, channels, kernel, stride, padding, layout, coordinates):
    """The spec is that of what comes out, or the pictures are too small, which is said of the kernels."""
    spec = Spec("u8", ("T", "B", *sides, 2))
    try:
        encoder = Convolution(spec, channels, kernel, stride, padding, coordinates, layout)
    except ValueError as error:
        assert str(error).startswith("kernel_size: wanted kernels no greater than the picture")  # noqa: PT017  others pass
        assert padding == "valid"
        return
    made = encoder(pictures(spec))
    assert Spec.parse(encoder.writes).axes == ("T", "B", *made.shape[2:])
    assert made.shape[:2] == (2, 3)
    if padding == "same" and layout == "map" and stride == 1:
        assert made.shape[3:] == sides


def test_layouts_are_one_thing():
    """Rows and the flat vector are the map's numbers: a row a place, from left to right and from top to bottom."""
    encoders = {name: Convolution(VIEW, kernel_size=2, layout=name) for name in ("flat", "rows", "map")}
    for each in encoders.values():
        each.load_state_dict(encoders["map"].state_dict())
    maps, rows, flat = (encoders[name](pictures()) for name in ("map", "rows", "flat"))
    assert (maps.shape, rows.shape, flat.shape) == ((2, 3, 34, 3, 3), (2, 3, 9, 34), (2, 3, 306))
    assert torch.equal(rows, maps.flatten(3).transpose(2, 3))
    assert torch.equal(flat, maps.flatten(2))
    assert torch.equal(rows[0, 0, 5], maps[0, 0, :, 1, 2])


def test_coordinates():
    """The last two maps are x and y from -1 to 1, in every picture alike; they are no weights, and a side of 1 has 0."""
    encoder = Convolution(Spec.parse("u8[T B 4 6 3]"), [2], 2, layout="map")
    made = encoder(pictures(Spec.parse("u8[T B 4 6 3]")))
    torch.testing.assert_close(made[:, :, 2], torch.tensor([-1, -0.5, 0, 0.5, 1]).expand(2, 3, 3, 5))
    torch.testing.assert_close(made[:, :, 3], torch.tensor([[-1.0], [0], [1]]).expand(2, 3, 3, 5))
    assert list(encoder.state_dict()) == ["layers.0.weight", "layers.0.bias"]
    assert not Convolution(VIEW, [2], 5, layout="map")(pictures())[:, :, 2:].any()
    without = Convolution(Spec.parse("u8[T B 4 6 3]"), [2], 2, coordinates=False, layout="map")
    without.load_state_dict(encoder.state_dict())
    assert torch.equal(without(pictures(Spec.parse("u8[T B 4 6 3]"))), made[:, :, :2])


def test_bytes_and_numbers():
    """Bytes are divided by 255; pictures of numbers are read as they are, and change nothing of what was given."""
    encoder, other = Convolution(VIEW), Convolution(Spec.parse("f32[T B 5 5 3]"))
    other.load_state_dict(encoder.state_dict())
    assert (encoder.reads, other.reads) == ("u8[T B Y X C]", "f32[T B Y X C]")
    inputs = pictures()
    kept = inputs.clone()
    torch.testing.assert_close(encoder(inputs), other(inputs / 255))
    numbers = inputs / 255
    other(numbers)
    assert torch.equal(numbers, kept / 255)
    assert encoder.double()(inputs).dtype == torch.float64


def test_pictures_do_not_see_each_other():
    """A picture's vector is its own, at whatever step and row, and in whatever layout in memory it comes."""
    encoder = Convolution(VIEW, size=7)
    inputs = pictures()
    made = encoder(inputs)
    assert (encoder.writes, made.shape) == ("f32[T B 7]", (2, 3, 7))
    for step, row in np.ndindex(2, 3):
        alone = encoder(inputs[step : step + 1, row : row + 1])
        torch.testing.assert_close(alone[0, 0], made[step, row])
    torch.testing.assert_close(encoder(inputs.transpose(0, 1)), made.transpose(0, 1))
    scattered = inputs.permute(4, 0, 2, 1, 3).contiguous().permute(1, 3, 2, 4, 0)
    torch.testing.assert_close(encoder(scattered), made)


def test_the_linear_layer():
    """`size` is a linear layer with ReLU over the flat features, and every parameter learns."""
    torch.manual_seed(0)
    encoder, flat = Convolution(VIEW, size=7), Convolution(VIEW)
    flat.load_state_dict({name: each for name, each in encoder.state_dict().items() if not name.startswith("map")})
    made = encoder(pictures())
    torch.testing.assert_close(made, encoder.map(flat(pictures())).relu())
    made.square().sum().backward()
    assert all(each.grad.any() for each in encoder.parameters())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"channels": []}, "channels: wanted at least one layer, got none"),
        ({"channels": [4, 0]}, "channels: wanted at least 1, got 0"),
        ({"kernel_size": 0}, "kernel_size: wanted at least 1, got 0"),
        ({"kernel_size": [3]}, "kernel_size: wanted one number, or 2, as many as channels, got 1"),
        ({"kernel_size": [3, 3, 3]}, "kernel_size: wanted one number, or 2, as many as channels, got 3"),
        (
            {"kernel_size": 6},
            "kernel_size: wanted kernels no greater than the picture, got 6 for a layer that reads 5 by 5",
        ),
        (
            {"channels": [4, 4, 4]},
            "kernel_size: wanted kernels no greater than the picture, got 3 for a layer that reads 1 by 1",
        ),
        ({"stride": 0}, "stride: wanted at least 1, got 0"),
        ({"stride": [1]}, "stride: wanted one number, or 2, as many as channels, got 1"),
        ({"size": -1}, "size: wanted at least 0, got -1"),
        ({"size": 8, "layout": "rows"}, "size: wanted 0 with the layout rows, got 8"),
    ],
)
def test_an_encoder_that_cannot_be(options, says):
    """What is wrong is said under the parameter's name."""
    with pytest.raises(ValueError, match=f"^{says}"):
        Convolution(VIEW, **options)


@pytest.mark.parametrize("spec", ["f32[T B 7]", "i64<9>[T B]", "u8[T B 5 5]", "i32[T B 5 5 3]"])
def test_what_is_no_picture(spec):
    """It is refused with what was wanted."""
    with pytest.raises(SpecError, match=r"gets .*; it wants pictures of height, width and channels"):
        Convolution(Spec.parse(spec))
    with pytest.raises(ValueError, match="the height is not known here"):
        Convolution(Spec.parse("u8[T B Y X 3]"))


@pytest.mark.parametrize("encoder", [Embed, Project])
def test_pictures_want_convolutions(encoder):
    """Encoders of ids and of vectors refuse pictures, and say of what dtype they are."""
    with pytest.raises(SpecError, match=r"gets pictures, u8\[T B 5 5 3\]: use the encoder conv"):
        encoder(VIEW)


def test_it_is_a_part():
    """`use: conv` finds it, with a pipeline's parameters; it can be made of shapes alone."""
    encoder = discover().resolve("encoder", "conv")
    assert encoder is Convolution
    fields = schema(encoder).fields
    assert list(fields) == ["channels", "kernel_size", "stride", "padding", "coordinates", "layout", "size"]
    assert fields["kernel_size"].type == "int | list[int]"
    with torch.device("meta"):
        assert sum(each.numel() for each in encoder(VIEW, [2], 5, coordinates=False).parameters()) == 152


@pytest.mark.slow
def test_exported_it_takes_any_batch():
    """What `torch.export` makes of it takes other numbers of steps and rows than those it was exported with."""
    encoder, any_size = Convolution(VIEW, layout="rows"), torch.export.Dim.DYNAMIC
    exported = torch.export.export(encoder, (pictures(),), dynamic_shapes=({0: any_size, 1: any_size},)).module()
    other = pictures(steps=4, rows=7)
    torch.testing.assert_close(exported(other), encoder(other))
