"""API keys: what programs sign in with. The file holds their hashes alone.

A line for each key: a name, white space, and the SHA-256 of the key in hex. A key has 256 random bits, so
that a fast hash is enough: there is nothing to guess.
"""

import hashlib
import hmac
import logging
import re
import secrets
import threading
from pathlib import Path

from chipdemo.errors import SettingsError

PREFIX = "chip_"  # so that scanners of source code find a key that was committed
NAME = r"[\w.-]{1,64}"
LINE = re.compile(rf"({NAME})\s+([0-9a-f]{{64}})")

log = logging.getLogger(__name__)


class ApiKeys:
    """The keys of a file, which is read again when it changes. Safe to use from several threads."""

    def __init__(self, path: Path):
        """Raises SettingsError where the file cannot be read or has a line that is no key."""
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The API keys cannot be read from {path}: {error}. Make the first one with "
                f"python -m chipdemo api-key NAME --api-keys-file {path}."
            ) from error
        self._hashes, wrong = parsed(text)
        if wrong:
            raise SettingsError(f"Line {wrong[0]} of {path} is no API key. It has to be: NAME SHA256.")
        self._lock, self._seen = threading.Lock(), self._state()

    def name(self, key: str) -> str | None:
        """The name of a key; None for one that is not in the file. All are compared, in constant time."""
        with self._lock:
            self._read_again()
            hashes = self._hashes
        digest, found = digest_of(key), None
        for name, known in hashes:
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _state(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _read_again(self) -> None:
        """Where the file has changed. Without the file no key is valid; a line that is no key is none."""
        state = self._state()
        if state == self._seen:
            return
        try:
            self._hashes, wrong = parsed(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._hashes, wrong = (), ()
            log.warning("no API key is valid: %s cannot be read: %s", self.path, error)
        for number in wrong:
            log.warning("line %d of %s is no API key", number, self.path)
        self._seen = state


def parsed(text: str) -> tuple[tuple[tuple[str, str], ...], tuple[int, ...]]:
    """((name, hash) of each key, numbers of the lines that are none); empty lines and comments are passed."""
    hashes, wrong = [], []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if match := LINE.fullmatch(line.strip()):
            hashes.append((match[1], match[2]))
        else:
            wrong.append(number)
    return tuple(hashes), tuple(wrong)


def digest_of(key: str) -> str:
    """64 hex digits."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def add_key(name: str, path: Path) -> str:
    """A new key, whose hash is added to the file. Raises SettingsError."""
    if not re.fullmatch(NAME, name, re.ASCII):
        raise SettingsError(f"{name!r} is no name of a key. Use up to 64 letters, digits, '-', '_' and '.'.")
    try:
        path.touch(0o600)
        hashes, _ = parsed(path.read_text(encoding="utf-8"))
        if name in dict(hashes):
            raise SettingsError(f"{path} has a key called {name}. Delete its line, or choose another name.")
        key = PREFIX + secrets.token_urlsafe(32)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{name} {digest_of(key)}\n")
    except OSError as error:
        raise SettingsError(f"The key cannot be written to {path}: {error.strerror}.") from error
    return key
