"""Small images as the bytes of a file, each with content of its own."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


def picture(number: int, size: tuple[int, int] = (12, 8), format: str = "PNG", **options) -> bytes:
    """An image of one color with a dark corner; another for each number."""
    image = Image.new("RGB", size, (number % 256, number // 256 % 256, 200))
    image.putpixel((0, 0), (0, 0, 0))
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def mask(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> bytes:
    """A PNG that is 255 in boxes, (left, top, right, bottom), and 0 elsewhere."""
    image = Image.new("L", size)
    for box in boxes:
        image.paste(255, box)
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def chip(seed: int, defect: str = "", size: int = 96) -> Image.Image:
    """A gray board with a dark chip on three leads, a little different each time.

    defect: "scratch", "missing lead" or "turned".
    """
    generator = np.random.default_rng(seed)
    board = generator.integers(140, 160, (size, size, 3), np.uint8)
    image = Image.fromarray(board)
    draw = ImageDraw.Draw(image)
    left, top = (int(x) for x in size * 0.3 + generator.integers(-1, 2, 2))
    side = round(size * 0.4)
    for lead in range(3):
        if not (defect == "missing lead" and lead == 1):
            x = left + 4 + lead * (side // 3)
            draw.rectangle((x, top + side - 2, x + 4, top + round(1.5 * side)), fill=(225, 225, 225))
    draw.rectangle((left, top, left + side, top + side), fill=(40, 40, 45))
    if defect == "scratch":
        draw.line((left + 6, top + 6, left + side - 8, top + side - 10), fill=(220, 210, 200), width=3)
    return image.rotate(180) if defect == "turned" else image


def chips(folder: Path, count: int, defect: str = "", first: int = 0) -> Path:
    """A folder of so many chips."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        chip(seed, defect).save(folder / f"{seed:03}.png")
    return folder
