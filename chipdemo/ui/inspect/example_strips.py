"""The images to try below the input, as HTML. Every text that comes from outside is escaped here."""

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from itertools import accumulate
from pathlib import Path

from chipdemo.examples import ELPV_CREDIT, ExampleSet
from chipdemo.images import read_image
from chipdemo.inspection import Model, is_taught
from chipdemo.overlay import data_uri

SIDE = 112  # pixels, of a small picture
PICTURES = 256  # that are kept: the strips are made anew whenever another model judges
SHOWN = 6  # small copies of good images
NO_EXAMPLES = (
    "No examples are installed. For images of solar cells, install <code>elpv-dataset</code> "
    f"({escape(ELPV_CREDIT)}) and restart the app."
)


def examples_html(model: Model, sets: Sequence[ExampleSet]) -> str:
    """Buttons with small pictures, those of this model first; the server knows each by its number alone.

    Of a taught model without examples, pictures of its part. They are no buttons: a small copy is not what
    a camera sees.
    """
    starts = [0, *accumulate(len(one.examples) for one in sets)]
    strips = [(one.model != model.info.name, _strip(one, start)) for one, start in zip(sets, starts)]
    shown = "".join(strip for _, strip in sorted(strips, key=lambda pair: pair[0]))
    if is_taught(model) and model.examples is None:
        shown = _taught_html(model.copies) + shown
    return f"<section class='examples'>{shown or f'<p>{NO_EXAMPLES}</p>'}</section>"


def _strip(shown: ExampleSet, start: int) -> str:
    """start: the number of the first example."""
    if not shown.examples:
        return ""
    buttons = "".join(
        f"<button type='button' data-index='{index}' title='{escape(example.caption)}'>"
        f"<img src='{_small(example.path)}' alt='{escape(example.caption)}'></button>"
        for index, example in enumerate(shown.examples, start)
    )
    about = escape(" · ".join(filter(None, (shown.title, shown.credit))))
    return f"<h2>Examples <small>{about}</small></h2><div class='strip'>{buttons}</div>"


def _taught_html(copies: Sequence[bytes]) -> str:
    """Some of the small copies that a model keeps; "" where it keeps none."""
    if not copies:
        return ""
    rows = sorted({round(i * (len(copies) - 1) / (SHOWN - 1)) for i in range(SHOWN)})
    pictures = "".join(f"<img src='{_small(copies[row])}' alt='good image {row + 1}'>" for row in rows)
    return (
        "<h2>Good images <small>small copies of some that the model was taught "
        f"with</small></h2><div class='strip'>{pictures}</div>"
    )


@lru_cache(PICTURES)
def _small(source: Path | bytes) -> str:
    image = read_image(source).image
    image.thumbnail((SIDE, SIDE))
    return data_uri(image, "JPEG")
