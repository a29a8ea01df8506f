"""Every kind of picture is read as its format defines it, or refused by name. Expected pixels are worked by hand."""

import io
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raycnn.data.pictures import SUFFIXES, is_hidden, is_picture, read_picture, read_rgb, shown
from raycnn.errors import DataError

RUNNING_OTHER_PROGRAMS = {".eps", ".ps", ".wmf", ".emf"}


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes) -> bytes:
    """rows: with the filter byte before each. PNG specification, section 11.2.2."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def colours(path: Path) -> list[tuple[int, ...]]:
    """Of the first row."""
    return [tuple(pixel) for pixel in np.asarray(read_rgb(path))[0].tolist()]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as refused:
        read_rgb(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_suffixes_are_all_those_of_formats_with_one_of_them():
    known = Image.registered_extensions()
    formats = {known[suffix] for suffix in SUFFIXES if suffix in known}
    assert {suffix for suffix, form in known.items() if form in formats} == SUFFIXES
    assert not SUFFIXES & RUNNING_OTHER_PROGRAMS


@pytest.mark.parametrize("suffix", sorted(SUFFIXES - {".pfm"}))
def test_a_picture_of_each_suffix_is_read(tmp_path: Path, suffix: str):
    path = tmp_path / f"x{suffix.upper()}"
    form = Image.registered_extensions()[suffix]
    ramp = np.broadcast_to(np.linspace(0, 255, 16).astype(np.uint8)[None, :, None], (16, 16, 3))
    picture = Image.fromarray(np.ascontiguousarray(ramp))
    if form == "AVIF":
        picture.save(path, form, quality=95)
    else:
        picture.save(path, form)
    assert is_picture(path)
    loose = 255 if form == "GIF" else 12 if form in ("JPEG", "AVIF", "WEBP") else 0
    assert np.abs(read_picture(path, 16).astype(int) - ramp).max() <= loose


@pytest.mark.parametrize("suffix", [".pbm", ".pnm", ".ppm"])
def test_a_bitmap_in_text_has_black_ones(tmp_path: Path, suffix: str):
    (tmp_path / f"x{suffix}").write_text("P1\n3 1\n1 0 1\n")
    assert colours(tmp_path / f"x{suffix}") == [(0, 0, 0), (255, 255, 255), (0, 0, 0)]


def test_a_grey_map_is_scaled_from_its_own_white(tmp_path: Path):
    (tmp_path / "x.pgm").write_text("P2\n3 1\n15\n0 5 15\n")
    assert colours(tmp_path / "x.pgm") == [(0, 0, 0), (85, 85, 85), (255, 255, 255)]


def test_of_16_bits_for_each_colour_the_upper_8_are_taken(tmp_path: Path):
    samples = [0x0000, 0x12FF, 0x8001, 0xFFFF, 0x00FF, 0x7F80]
    (tmp_path / "x.png").write_bytes(png(2, 1, 16, 2, b"\0" + struct.pack(">6H", *samples)))
    assert colours(tmp_path / "x.png") == [(0x00, 0x12, 0x80), (0xFF, 0x00, 0x7F)]


def test_few_grey_levels_reach_from_black_to_white(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(png(4, 1, 2, 0, b"\0" + bytes([0b00011011])))
    assert colours(tmp_path / "x.png") == [(0, 0, 0), (85, 85, 85), (170, 170, 170), (255, 255, 255)]


@pytest.mark.parametrize("kind", ["png", "pgm", "tiff", "tiff-32", "tiff-float", "pfm"])
def test_grey_of_more_than_8_bits_is_refused_with_the_mend(tmp_path: Path, kind: str):
    path = tmp_path / f"x.{kind.partition('-')[0]}"
    match kind:
        case "png":
            path.write_bytes(png(2, 1, 16, 0, b"\0" + struct.pack(">2H", 0, 4095)))
        case "pgm":
            path.write_bytes(b"P5\n2 1\n4095\n" + struct.pack(">2H", 0, 4095))
        case "pfm":
            path.write_bytes(b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0, 1))
        case "tiff":
            Image.fromarray(np.full((2, 2), 4095, np.uint16)).save(path)
        case "tiff-32":
            Image.fromarray(np.full((2, 2), 70_000, np.int32)).save(path)
        case _:
            Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(path)
    assert re.fullmatch(
        rf"{path}: not a readable picture \(it is grey with more than 8 bits \(Pillow's mode \S+\); save it with 8\)\. "
        r"Replace or remove it\.",
        refusal(path),
    )


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_inks_become_the_colours_that_they_print(tmp_path: Path, suffix: str):
    """Magenta and yellow are red, half of black alone is mid-grey. A JPEG's inks are stored inverted."""
    inks = {"red": (0, 255, 255, 0), "cyan": (255, 0, 0, 0), "grey": (0, 0, 0, 128), "white": (0, 0, 0, 0)}
    expected = {"red": (255, 0, 0), "cyan": (0, 255, 255), "grey": (127, 127, 127), "white": (255, 255, 255)}
    for name, ink in inks.items():
        path = tmp_path / f"{name}{suffix}"
        Image.new("CMYK", (16, 16), ink).save(path)
        assert np.abs(read_picture(path, 8).astype(int) - expected[name]).max() <= 3


def test_a_palette_becomes_its_colours(tmp_path: Path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 0])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "x.png")
    assert colours(tmp_path / "x.png") == [(10, 20, 30), (200, 100, 0)]


def test_lab_becomes_the_colour_that_is_seen(tmp_path: Path):
    """sRGB's red is L 53.2, a 80.1, b 67.2; mid-grey, 119, is L 50."""
    for lab, expected in (((136, 208, 195), (255, 0, 0)), ((128, 128, 128), (119, 119, 119))):
        Image.new("LAB", (4, 4), lab).save(tmp_path / "x.tif")
        assert np.abs(np.subtract(colours(tmp_path / "x.tif")[0], expected)).max() <= 12


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif", ".avif"])
def test_of_several_frames_the_first_is_read(tmp_path: Path, suffix: str):
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    first.save(tmp_path / f"x{suffix}", save_all=True, append_images=[second])
    assert np.abs(read_picture(tmp_path / f"x{suffix}", 8).astype(int) - (255, 0, 0)).max() <= 4


def test_damaged_notes_of_a_camera_are_nothing_to_a_user(tmp_path: Path):
    notes = Image.Exif()
    notes[0x010E] = "a description of some length"
    content = io.BytesIO()
    Image.new("RGB", (16, 16)).save(content, "JPEG", exif=notes)
    damaged = content.getvalue().replace(b"Exif\0\0MM\0*\0\0\0\x08\0\x01", b"Exif\0\0MM\0*\0\0\0\x08\0\xff")
    assert damaged != content.getvalue()
    (tmp_path / "x.jpg").write_bytes(damaged)
    program = "import sys, pathlib, raycnn.data.pictures as p; p.read_rgb(pathlib.Path(sys.argv[1]), 8); print('read')"
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "x.jpg"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("read\n", "")


def test_a_picture_under_the_suffix_of_another_format_is_read(tmp_path: Path):
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "x.jpg", "PNG")
    assert colours(tmp_path / "x.jpg")[0] == (1, 2, 3)


@pytest.mark.parametrize("name", [".a.png", "._a.png", ".ipynb_checkpoints", "Thumbs.db", "@eaDir", "__MACOSX"])
def test_what_systems_and_programs_leave_is_hidden(name: str):
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["a.png", "__init__", "@home", "thumbs", "lost", "macosx"])
def test_what_a_user_named_is_not_hidden(name: str):
    assert not is_hidden(name)


def test_a_name_is_shown_on_one_line():
    assert shown(Path("a/b\nc\x1b[31m\udcff é.png")) == r"a/b\nc\x1b[31m\udcff é.png"
