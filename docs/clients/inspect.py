"""Inspect images by the package requests, over one connection that stays open.

pip install requests
python inspect.py http://127.0.0.1:7860 chip.png ...
With an API key: CHIPDEMO_KEY=chip_... python inspect.py ...
"""

import os
import sys
import time
from pathlib import Path

import requests


def inspect(session: requests.Session, address: str, content: bytes) -> dict:
    """The inspection of the bytes of an image file. Waits where the app says that it is busy."""
    while True:
        answer = session.post(f"{address}/v1/inspect", data=content, timeout=60)
        if answer.status_code != 503:
            break
        time.sleep(float(answer.headers["Retry-After"]))
    if answer.status_code != 200:
        problem = answer.json()  # see RFC 9457
        raise RuntimeError(f"{problem['title']}: {problem.get('detail', '')}")
    return answer.json()


def main(address: str, *paths: str) -> None:
    with requests.Session() as session:
        if key := os.environ.get("CHIPDEMO_KEY"):
            session.headers["Authorization"] = f"Bearer {key}"
        for path in paths:
            found = inspect(session, address, Path(path).read_bytes())
            print(path, found["outcome"], found["abnormal_probability"], sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
