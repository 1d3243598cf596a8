"""The journal of labels with 100,000 photographs and a million events, against an empty one.

    python benchmarks/journal.py

Times of what labelers wait for, and of what runs beside them; then writers that are killed (kill -9)
at random moments, twenty times, and whether every label that was acknowledged is there. Writes
journal.json.
"""

import argparse
import datetime
import json
import os
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from chipdemo.labeling.label import Label, Said  # noqa: E402
from chipdemo.labeling.queue import ORDERS, Queue  # noqa: E402
from chipdemo.labeling.ranking import rank, set_scores  # noqa: E402
from chipdemo.labeling.statistics import (  # noqa: E402
    agreement,
    against_the_model,
    disagreements,
    likely_errors,
)
from chipdemo.labeling.store import Journal  # noqa: E402

PEOPLE = 3  # wanted on each photograph
ANNOTATORS = tuple(f"annotator {number:02}" for number in range(20))
BUSY, NEW = ANNOTATORS[0], "somebody new"
# photographs by who labelled them: everyone, the busy one alone, the busy one and another, nobody
EVERYONE, ALONE, TWO, NOBODY = 0.45, 0.40, 0.10, 0.05
MODEL, CHANNELS = "model", 1280
THRESHOLD = 0.5
KILLS, WRITERS = 20, 4


def sha_of(number: int) -> str:
    return f"{number:064x}"


def voters_of(number: int, photographs: int) -> tuple[str, ...]:
    """Who labelled a photograph."""
    place = number / photographs
    if place < EVERYONE:
        return ANNOTATORS
    if place < EVERYONE + ALONE:
        return ANNOTATORS[:1]
    return (BUSY, ANNOTATORS[1 + number % 19]) if place < EVERYONE + ALONE + TWO else ()


def fill(journal: Journal, photographs: int) -> None:
    """Ten events a photograph, written past the journal's own methods, which would take an hour."""
    generator, panels, seq = random.Random(0), {"[]": 1}, 0
    now = time.time_ns() // 1000
    for first in range(0, photographs, 1000):
        rows, events, votes = [], [], []
        for number in range(first, min(first + 1000, photographs)):
            sha256, voters = sha_of(number), voters_of(number, photographs)
            said, labels = said_of(generator, len(voters))
            for annotator, label in zip(voters, labels):
                seq += 1
                events.append((seq, new_id(generator), sha256, label, annotator, said, ""))
                votes.append((sha256, annotator, seq, label, 0, json.loads(said)[2]))
            for _ in range(0 if voters else 4):  # said and undone
                seq += 2
                undone = new_id(generator)
                events.append((seq - 1, undone, sha256, "unsure", BUSY, said, ""))
                events.append((seq, new_id(generator), sha256, "", BUSY, "", undone))
            panel = panels.setdefault(json.dumps(voters), len(panels) + 1)
            rows.append((sha256, f"chip {number}.png", len(voters), panel, truth_of(labels)))
        with journal.write() as database:
            database.executemany(
                "INSERT INTO panels VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                [(id, annotators, len(json.loads(annotators))) for annotators, id in panels.items()],
            )
            database.executemany(
                "INSERT INTO photographs (sha256, name, path, width, height, added_at, votes, panel, truth) "
                "VALUES (?, ?, '', 300, 300, 0, ?, ?, ?)",
                rows,
            )
            database.executemany("INSERT INTO contents VALUES (?, x'89504e47')", [row[:1] for row in rows])
            database.executemany(
                "INSERT INTO events (seq, event_id, image_sha256, label, annotator, said, retracts, defect_type, "
                f"boxes, decides, created_at, note, mask) VALUES (?, ?, ?, ?, ?, ?, ?, '', '[]', 0, {now} - "
                f"({10 * photographs} - ?1) * 60000, '', x'')",
                events,
            )
            database.executemany("INSERT INTO votes VALUES (?, ?, ?, ?, ?, ?)", votes)


def said_of(generator: random.Random, people: int) -> tuple[str, list[str]]:
    """What a model says of a photograph, as the journal keeps it, and what so many people do."""
    abnormal = generator.random() < 0.3
    probability = min(max(generator.gauss(0.3 + 0.4 * abnormal, 0.15), 0), 1)
    labels = [("normal", "abnormal")[abnormal != (generator.random() < 0.1)] for _ in range(people)]
    return json.dumps([MODEL, "abc", probability]), labels


def truth_of(labels: list[str]) -> str:
    abnormal = labels.count("abnormal")
    if 2 * abnormal == len(labels):
        return "disagreement" if labels else ""
    return "abnormal" if 2 * abnormal > len(labels) else "normal"


def new_id(generator: random.Random) -> str:
    return str(uuid.UUID(int=generator.getrandbits(128), version=4))
