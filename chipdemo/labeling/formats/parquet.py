"""One Parquet file with the images in it, as load_dataset reads it."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from chipdemo.labeling.formats.entry import Entry
from chipdemo.labeling.label import LABELS

FILE = "labels.parquet"
GROUP, GROUP_BYTES = 100, 32_000_000  # images, and bytes of them, of one row group


def write(folder: Path, entries: Iterable[Entry]) -> dict[str, int]:
    """Columns image, label (a ClassLabel), defect_type, probability, votes, note, ... Nothing is left out."""
    import pyarrow as pa  # here, since importing datasets takes a second or two
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Features, Image, List, Value

    text, number = Value("string"), Value("int32")
    features = Features(
        {
            "image": Image(),
            "label": ClassLabel(names=list(LABELS)),
            "defect_type": text,
            "probability": Value("float64"),
            "votes": dict.fromkeys(LABELS, number),
            "note": text,
            "name": text,
            "sha256": text,
            "width": number,
            "height": number,
            "boxes": List({"x": number, "y": number, "width": number, "height": number, "defect_type": text}),
            "polygons": List({"points": List(List(number)), "defect_type": text}),
            "mask": Image(),
            "mask_type": text,
        }
    )
    schema, rows = features.arrow_schema, []  # its metadata tells datasets which columns are images

    with pq.ParquetWriter(folder / FILE, schema) as file:
        for entry in entries:
            rows.append(
                entry.fields
                | {
                    "image": {"bytes": entry.content, "path": entry.file_name},
                    "label": LABELS.index(entry.consensus.label),
                    "boxes": [asdict(box) for box in entry.boxes],
                    "polygons": [asdict(polygon) for polygon in entry.polygons],
                    "mask_type": entry.mask_type,
                    "mask": {"bytes": entry.mask, "path": entry.mask_name} if entry.mask else None,
                }
            )
            if len(rows) == GROUP or sum(len(row["image"]["bytes"]) for row in rows) > GROUP_BYTES:
                file.write_table(pa.Table.from_pylist(rows, schema))
                rows.clear()
        file.write_table(pa.Table.from_pylist(rows, schema))
    return {}
