"""A picture's file: which names are taken for one, and what is read of it."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from raycnn.errors import DataError

# Pillow's names of formats, and the suffixes that it knows them by. It knows more formats: some run other programs
# (EPS), some have no mark by which a damaged file would be told from them (TGA, PCX), some are no single picture (ICO).
_FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "DIB": (".dib",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".rgb", ".rgba", ".bw"),
}
SUFFIXES = frozenset(suffix for suffixes in _FORMATS.values() for suffix in suffixes)
_LEFT_BY_SYSTEMS = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"}  # Windows
    | {"__macosx", "lost+found", "@eadir", "#recycle", "@recycle"}  # macOS, Linux, network storage
)
# Pillow warns of a picture that, by its header, takes some hundred MB to decode, and refuses twice as much.
warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
# A picture is read or refused; that a camera's notes in it are damaged is nothing to a user.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def is_picture(path: Path) -> bool:
    """By its name."""
    return path.suffix.lower() in SUFFIXES and not is_hidden(path.name)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of that name is not for the user's eyes: .ipynb_checkpoints, Thumbs.db, @eaDir, …"""
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


def shown(name: object) -> str:
    """A name or path on one line: what cannot be printed, as in Python's notation."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(name))


def read_picture(path: Path, side_px: int) -> np.ndarray:
    """(side_px, side_px, 3) uint8: the largest square in the middle, resized with antialiasing.

    Read as by `read_rgb`.
    """
    picture = read_rgb(path, 2 * side_px)
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    # Cut first: a picture of 1 x 60,000 pixels would not fit in memory once its shorter side is enlarged.
    square = picture.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((side_px, side_px), Image.Resampling.BICUBIC))


def read_rgb(path: Path, least_px: int | None = None) -> Image.Image:
    """The picture in RGB, 8 bits. least_px: a JPEG may come smaller, with sides of at least that.

    Grey, palette, CMYK and transparent pictures become RGB; transparency is dropped. Of several frames or pages the
    first is read, of 16 bits per colour the upper 8. As in the usual ImageNet readers, a camera's note on orientation
    is ignored. Raises DataError for a damaged picture, for a grey one of more than 8 bits, and, before it is decoded,
    for one of too many pixels.
    """
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        with Image.open(path, formats=tuple(_FORMATS)) as opened:
            # Such files often hold measurements, and do not say which of their values is white.
            if opened.mode[0] in "IF":
                raise ValueError(f"it is grey with more than 8 bits (Pillow's mode {opened.mode}); save it with 8")
            if least_px:
                opened.draft("RGB", (least_px, least_px))  # JPEG: decodes large pictures at a fraction of their size
            # Through RGBA, because Pillow warns where a palette's transparency is dropped directly.
            return opened.convert("RGBA").convert("RGB") if "transparency" in opened.info else opened.convert("RGB")
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        words = f"it claims to have more than {Image.MAX_IMAGE_PIXELS:,} pixels"
        raise DataError(f"{shown(path)}: not a readable picture ({words}). Shrink or remove it.") from error
    except Exception as error:  # a damaged file can raise nearly anything
        words = "Pillow does not know it as one" if isinstance(error, UnidentifiedImageError) else shown(error)
        raise DataError(f"{shown(path)}: not a readable picture ({words}). Replace or remove it.") from error
