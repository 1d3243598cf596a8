"""Label events as Parquet files, of which the shared dataset consists.

They contain their `datasets` features, so that load_dataset and the Hub's viewer show the images. An event
is a row; a field without a value is empty, or null where its type has no empty value.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features, Image, List, Value
from datasets.table import table_cast

from chipdemo.labeling.label import Label

FEATURES = Features(
    {
        "event_id": Value("string"),  # UUID
        "image": Image(),
        "image_sha256": Value("string"),  # images.content_sha256
        "label": Value("string"),  # normal, abnormal, unsure; empty for a retraction
        "defect_type": Value("string"),
        "boxes": List(  # pixels
            {name: Value("int32") for name in ("x", "y", "width", "height")}
            | {"defect_type": Value("string")}
        ),
        "mask": Image(),
        "annotator": Value("string"),
        "created_at": Value("timestamp[us, tz=UTC]"),
        "note": Value("string"),
        "model_name": Value("string"),
        "model_revision": Value("string"),
        "model_probability": Value("float64"),  # of being abnormal, 0-1
        "retracts": Value("string"),  # event_id
        "decides": Value("bool"),
        "polygons": List({"points": List(List(Value("int32"))), "defect_type": Value("string")}),  # x, y
        "mask_type": Value("string"),
    }
)
SCHEMA = FEATURES.arrow_schema
# What the consensus needs; no column that older shards lack
SMALL_COLUMNS = [
    name for name in FEATURES if name not in ("image", "boxes", "polygons", "mask", "mask_type", "note")
]
ROWS = 100  # of a row group; the viewer reads one group to show a page


def table_of(labels: Sequence[Label], content: Callable[[str], bytes]) -> pa.Table:
    """One row an event. content: returns the image's file by its sha256."""
    return pa.Table.from_pylist([_row(label, content(label.image_sha256)) for label in labels], SCHEMA)


def _row(label: Label, image: bytes) -> dict:
    prediction = label.prediction
    return {
        "event_id": label.event_id,
        "image": {"bytes": image, "path": None},
        "image_sha256": label.image_sha256,
        "label": label.label,
        "defect_type": label.defect_type,
        "boxes": [asdict(box) for box in label.boxes],
        "mask": {"bytes": label.mask, "path": None} if label.mask else None,
        "annotator": label.annotator,
        "created_at": label.created_at,
        "note": label.note,
        "model_name": prediction.name if prediction else "",
        "model_revision": prediction.revision if prediction else "",
        "model_probability": prediction.abnormal_probability if prediction else None,
        "retracts": label.retracts,
        "decides": label.decides,
        "polygons": [asdict(polygon) for polygon in label.polygons],
        "mask_type": label.mask_type,
    }


def parquet_of(table: pa.Table) -> bytes:
    """A Parquet file. Equal tables give equal bytes."""
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=ROWS)
    return file.getvalue()


def no_events() -> bytes:
    """A Parquet file of all columns without a row; nor a row group, as `datasets` refuses an empty one."""
    file = io.BytesIO()
    pq.ParquetWriter(file, SCHEMA).close()
    return file.getvalue()


def merged(tables: Sequence[pa.Table], without: Iterable[str] = ()) -> pa.Table:
    """The rows of all tables, each event once, without those whose event_id is in `without`.

    A table of an older version lacks columns and fields, which are null here.
    """
    table = pa.concat_tables(table_cast(one, SCHEMA) for one in tables)
    seen, kept = set(without), []
    for index, event_id in enumerate(table["event_id"].to_pylist()):
        if event_id not in seen:
            kept.append(index)
            seen.add(event_id)
    return table.take(kept)
