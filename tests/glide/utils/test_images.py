"""Pictures survive their files, files are written whole, and odd picture files are read as a viewer shows them."""

import resource
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from glide.utils.errors import InputError
from glide.utils.images import (
    BrokenImageError,
    from_uint8,
    grid,
    load_image,
    read_recipe,
    save_gif,
    save_png,
    to_uint8,
)

EVERY_VALUE = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(1, 16, 16, 3)


def test_pixels_go_to_the_network_and_back_unchanged():
    x = from_uint8(EVERY_VALUE)
    assert x.shape == (1, 3, 16, 16) and x.dtype == torch.float32 and x.is_contiguous()
    assert (x.min(), x.max()) == (-1, 1)
    assert torch.equal(to_uint8(x), EVERY_VALUE)
    assert torch.equal(to_uint8(from_uint8(EVERY_VALUE.numpy()).double()), EVERY_VALUE)


def test_values_outside_the_range_are_clamped_and_others_rounded():
    x = torch.tensor([-9.0, -1, 1, 9, 0.6 / 127.5 - 1, 0.4 / 127.5 - 1]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    pixels = to_uint8(x.requires_grad_())
    assert pixels.shape == (1, 1, 6, 3) and pixels.dtype == torch.uint8
    assert pixels[0, 0, :, 1].tolist() == [0, 0, 255, 255, 1, 0]


@pytest.mark.parametrize("prompt", ["a red ring", "コーギー 🐶 “quoted”\nline", "half \udcff of a pair"])
def test_a_png_carries_its_recipe(tmp_path, prompt):
    recipe = {"prompt": prompt, "seed": 2**63, "scale": 0.1, "steps": [1, 2], "null": None}
    save_png(tmp_path / "new" / "x.png", EVERY_VALUE[0], recipe)
    assert read_recipe(tmp_path / "new" / "x.png") == recipe
    assert torch.equal(load_image(tmp_path / "new" / "x.png"), EVERY_VALUE[0])
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["x.png"]


def test_a_file_without_our_recipe_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*missing\.png \(No such file"):
        read_recipe(tmp_path / "missing.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "x.jpg")
    (tmp_path / "text.png").write_text("no picture")
    for name in ("x.jpg", "text.png"):
        with pytest.raises(InputError, match=f"{name} is not a PNG"):
            read_recipe(tmp_path / name)
    save_png(tmp_path / "bare.png", EVERY_VALUE[0])
    with pytest.raises(InputError, match="carries no recipe"):
        read_recipe(tmp_path / "bare.png")
    for value, said in {"no json": "the recipe in .*foreign.png is not JSON", "[1]": "holds a list"}.items():
        info = PngImagePlugin.PngInfo()
        info.add_text("glide", value)
        Image.new("RGB", (2, 2)).save(tmp_path / "foreign.png", pnginfo=info)
        with pytest.raises(InputError, match=said):
            read_recipe(tmp_path / "foreign.png")


def test_a_grid_places_pictures_row_by_row_on_white():
    images = torch.stack([torch.full((2, 3, 3), i, dtype=torch.uint8) for i in range(5)])
    sheet = grid(images, columns=2, pad=1)
    assert sheet.shape == (3 * 3 + 1, 2 * 4 + 1, 3)
    for i in range(5):
        y, x = 1 + i // 2 * 3, 1 + i % 2 * 4
        assert bool((sheet[y : y + 2, x : x + 3] == i).all())
    covered = 5 * 2 * 3 * 3
    assert int((sheet == 255).sum()) == sheet.numel() - covered
    assert grid(images, pad=0).shape == (2 * 2, 3 * 3, 3)  # three columns: about square
    assert torch.equal(grid(images[:1].numpy(), pad=0), images[0])
    assert grid(images, columns=9, pad=0).shape == (2, 5 * 3, 3)


def test_a_gif_shows_its_frames_for_their_time(tmp_path):
    frames = torch.zeros(3, 4, 4, 3, dtype=torch.uint8)
    frames[1, ..., 0] = 255
    frames[2, ..., 1] = 255
    save_gif(tmp_path / "x.gif", frames, [50, 60, 1000])
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.n_frames == 3 and gif.info["loop"] == 0
        for i, ms in enumerate([50, 60, 1000]):
            gif.seek(i)
            assert gif.info["duration"] == ms
            assert np.array_equal(np.asarray(gif.convert("RGB")), frames[i].numpy())


@pytest.mark.parametrize("save", [save_png, lambda path, image: save_gif(path, [image])])
def test_a_failed_write_leaves_the_old_file(tmp_path, save):
    target = tmp_path / "x"
    target.write_text("before")
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # as when the disk is full
    try:
        with pytest.raises(InputError, match=r"was not written .* an earlier file of this name is unchanged"):
            save(target, noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and target.read_text() == "before"
    with pytest.raises(InputError, match="was not written"):
        save(target / "below a file.png", noise)
    assert target.read_text() == "before"


def test_pictures_of_every_mode_are_read_as_a_viewer_shows_them(tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    grey = np.repeat(ramp[..., None], 3, axis=2)

    def shown(image: Image.Image, name: str = "x.png", **options) -> np.ndarray:
        image.save(tmp_path / name, **options)
        pixels = load_image(tmp_path / name)
        assert pixels.dtype == torch.uint8 and pixels.shape[2] == 3
        return pixels.numpy()

    assert np.array_equal(shown(Image.fromarray(ramp)), grey)
    assert np.array_equal(shown(Image.fromarray(ramp.astype(np.uint16) * 257)), grey)
    assert np.array_equal(shown(Image.fromarray(ramp).convert("P"), "x.gif"), grey)
    assert np.array_equal(shown(Image.fromarray(grey).convert("CMYK"), "x.tif"), grey)
    assert np.array_equal(shown(Image.fromarray(ramp > 99), "bits.png"), np.where(grey > 99, 255, 0))

    half = Image.new("RGBA", (2, 1), (255, 0, 0, 128))
    half.putpixel((1, 0), (9, 9, 9, 0))
    assert shown(half).tolist() == [[[255, 127, 127], [255, 255, 255]]]
    keyed = Image.new("P", (2, 1))
    keyed.putpalette([1, 2, 3, 200, 0, 0])
    keyed.putpixel((1, 0), 1)
    assert shown(keyed, transparency=0).tolist() == [[[255, 255, 255], [200, 0, 0]]]

    turned = Image.new("RGB", (4, 2))
    exif = turned.getexif()
    exif[0x112] = 6  # a quarter turn
    assert shown(turned, "x.jpg", exif=exif).shape == (4, 2, 3)


def test_a_file_that_is_no_whole_picture_is_refused_by_name(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    noise.save(tmp_path / "cut.png")
    noise.save(tmp_path / "cut.jpg")
    for name in ("cut.png", "cut.jpg"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    Image.new("F", (2, 2)).save(tmp_path / "float.tif")
    for name in ("cut.png", "cut.jpg", "empty.png", "text.png", "float.tif"):
        with pytest.raises(BrokenImageError, match=f"{name} is not a readable picture"):
            load_image(tmp_path / name)
    with pytest.raises(InputError, match=r"cannot read .*missing\.png"):
        load_image(tmp_path / "missing.png")


@pytest.mark.parametrize("side", [10_000, 20_000])  # Pillow warns of the first and refuses the second
def test_a_decompression_bomb_is_refused_by_name(tmp_path, side):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    for action in ("error", "ignore"):
        with warnings.catch_warnings(), pytest.raises(BrokenImageError, match=r"bomb\.png .*pixels"):
            warnings.simplefilter(action)
            load_image(tmp_path / "bomb.png")
