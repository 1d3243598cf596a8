"""Small photographs as the bytes of a file, each with content of its own."""

from io import BytesIO

from PIL import Image


def picture(number: int, size: tuple[int, int] = (12, 8), format: str = "PNG", **options) -> bytes:
    """A photograph of one colour with a dark corner; another for each number."""
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
