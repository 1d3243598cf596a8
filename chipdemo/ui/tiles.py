"""Pieces of large images for the zoom of the page: from the original pixels, and no more than are looked at.

An image is offered under a key that cannot be guessed; whoever was given it may ask for pieces of the image.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chipdemo.errors import ChipDemoError

SIDE = 512  # pixels of a tile, as viewer.js has it
QUALITY = 95
KEPT_MEGAPIXELS = 130  # of decoded images, together; the newest one is kept whatever its size
OFFERED = 20_000  # images
KEEP = {"Cache-Control": "private, max-age=3600"}


class Copies:
    """A decoded image and its smaller copies, each half as large as the one before; made when needed."""

    def __init__(self, image: Image.Image):
        self._levels = [image]
        self._lock = threading.Lock()

    @property
    def megapixels(self) -> float:
        return self._levels[0].width * self._levels[0].height / 1e6

    def tile(self, halved: int, column: int, row: int) -> Image.Image:
        """The tile of the copy that was halved so many times. Raises IndexError for one outside of it."""
        with self._lock:
            while len(self._levels) <= halved and max(self._levels[-1].size) > 1:
                self._levels.append(self._levels[-1].reduce(2))
        level = self._levels[halved]
        left, top = column * SIDE, row * SIDE
        if not (0 <= left < level.width and 0 <= top < level.height):
            raise IndexError(f"There is no tile {column}, {row}.")
        return level.crop((left, top, min(left + SIDE, level.width), min(top + SIDE, level.height)))


class Tiles:
    """The images on offer. read: of an image, called when its first tile is asked for."""

    def __init__(self):
        self._keys: dict[str, str] = {}
        self._offered: OrderedDict[str, tuple[str, Callable[[], Image.Image]]] = OrderedDict()
        self._copies: OrderedDict[str, Copies] = OrderedDict()
        self._lock, self._reading = threading.Lock(), threading.Lock()

    def offer(self, name: str, read: Callable[[], Image.Image]) -> str:
        """The key of an image, the same for the same name. read raises ChipDemoError where it is gone."""
        with self._lock:
            key = self._keys.setdefault(name, secrets.token_urlsafe(16))
            self._offered[key] = (name, read)
            self._offered.move_to_end(key)
            if len(self._offered) > OFFERED:
                _, (oldest, _) = self._offered.popitem(last=False)
                del self._keys[oldest]
            return key

    def tile(self, key: str, halved: int, column: int, row: int) -> bytes:
        """A JPEG file without subsampling. Raises KeyError, IndexError, ChipDemoError."""
        piece = self._of(key).tile(halved, column, row)
        piece.save(stream := BytesIO(), "JPEG", quality=QUALITY, subsampling=0)
        return stream.getvalue()

    def _of(self, key: str) -> Copies:
        with self._reading:  # one at a time: decoding is what takes memory
            if key not in self._copies:
                _, read = self._offered[key]
                self._copies[key] = Copies(read())
            self._copies.move_to_end(key)
            while len(self._copies) > 1 and self._megapixels() > KEPT_MEGAPIXELS:
                self._copies.popitem(last=False)
            return self._copies[key]

    def _megapixels(self) -> float:
        return sum(one.megapixels for one in self._copies.values())

    def route(self) -> Route:
        """GET /tiles/{key}/{times that the image was halved}/{column}/{row}."""

        async def answer(request: Request) -> Response:
            place = request.path_params
            try:
                content = await run_in_threadpool(
                    self.tile, place["key"], place["halved"], place["column"], place["row"]
                )
            except (LookupError, ChipDemoError):
                return Response(status_code=404)
            return Response(content, media_type="image/jpeg", headers=KEEP)

        return Route("/tiles/{key}/{halved:int}/{column:int}/{row:int}", answer)
