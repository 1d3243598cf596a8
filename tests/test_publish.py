"""Publishing labels, with the real client, to a Hub on this machine."""

import io
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime, timezone

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import CommitOperationAdd, CommitScheduler, DatasetCard, HfApi

from chipdemo.errors import HubError
from chipdemo.images import content_sha256
from chipdemo.labeling.hub.compaction import compact
from chipdemo.labeling.hub.publish import CARD, COLUMNS, SHARD, Publisher
from chipdemo.labeling.hub.shards import table_of
from chipdemo.labeling.journal import Journal
from chipdemo.labeling.label import Box, Label, ModelPrediction, Polygon, retraction_of
from tests.hub import CUT, LOST, Account, Hub
from tests.tiny import draw_chip
from training.sources import read_data

TOKEN, NAME = "hf_ada_secret", "ada/labels"
ACCOUNTS = {
    TOKEN: Account("ada", orgs=("acme",)),
    "hf_read": Account("ada", role="read"),
    "hf_bob": Account("bob"),
}
HOSTILE = "<script>alert(1)</script> =1+1 \u202e\x00\x1b[31m \U0001f4a5 " + "x" * 9_000


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with Hub(ACCOUNTS) as hub:
        hub.serve(monkeypatch, tmp_path / "home", TOKEN)
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.address)
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        datasets.disable_progress_bars()
        yield hub


def image(journal: Journal, seed: int = 0) -> str:
    """A drawn chip in the journal; gives its sha256."""
    image, file = draw_chip(seed), io.BytesIO()
    image.save(file, "PNG")
    sha256 = content_sha256(image)
    journal.add_image(sha256, image.size, f"{seed}.png", file.getvalue())
    return sha256


def labeled(journal: Journal, count: int, annotator: str = "ann") -> list[Label]:
    """So many new labels, of ten images."""
    shas = [image(journal, seed) for seed in range(min(count, 10))]
    labels = [Label(shas[n % 10], "normal", annotator) for n in range(count)]
    journal.append(*labels)
    return labels


def files(hub: Hub) -> dict[str, bytes]:
    return dict(hub.repository(NAME, "dataset").files)


def card(hub: Hub) -> str:
    return files(hub)[CARD].decode()


def shards(hub: Hub) -> list[str]:
    return [path for path in files(hub) if SHARD.fullmatch(path)]


def published(hub: Hub) -> list[str]:
    """The event ids of all rows of the dataset."""
    tables = [pq.read_table(io.BytesIO(files(hub)[path])) for path in shards(hub)]
    return [event_id for table in tables for event_id in table["event_id"].to_pylist()]


def ids(labels: list[Label]) -> list[str]:
    return sorted(label.event_id for label in labels)


def publish_as_before(labels: list[Label], name: str, content) -> None:
    """A shard as versions without polygons and types of boxes wrote it, and nothing else."""
    table = table_of(labels, content).drop_columns(["polygons", "mask_type"])
    index = table.column_names.index("boxes")
    numbers = pa.struct([(side, pa.int32()) for side in ("x", "y", "width", "height")])
    plain = [[{side: box[side] for side in ("x", "y", "width", "height")} for box in boxes]
             for boxes in table["boxes"].to_pylist()]  # fmt: skip
    table = table.set_column(index, "boxes", pa.array(plain, pa.list_(numbers))).replace_schema_metadata(None)
    file = io.BytesIO()
    pq.write_table(table, file)
    HfApi().create_repo(NAME, repo_type="dataset", exist_ok=True)
    shard = CommitOperationAdd(f"data/labels-{name}.parquet", file.getvalue())
    HfApi().create_commit(NAME, [shard], commit_message="before", repo_type="dataset")


# What is published


def test_an_event_is_in_the_dataset_exactly_with_its_image(hub, journal):
    sha256 = image(journal)
    mask = io.BytesIO()
    draw_chip(1).convert("L").save(mask, "PNG")
    label = Label(
        sha256,
        "abnormal",
        HOSTILE[:200],
        defect_type="a\u202eb",
        boxes=(Box(0, 1, 20, 30), Box(5, 6, 1, 1, "dent")),
        polygons=(Polygon(((0, 0), (20, 0), (20, 30)), "scratch"),),
        mask=mask.getvalue(),
        mask_type="stain",
        note=HOSTILE,
        prediction=ModelPrediction("model", "abc", 0.125),
        decides=True,
        created_at=datetime(2026, 1, 1, 12, 0, 0, 123457, timezone.utc),
    )
    journal.append(label, retraction_of(label, label.annotator))
    assert Publisher(journal, NAME).flush() == 2
    row, undo = datasets.load_dataset(NAME, split="train")
    assert row.pop("image").tobytes() == draw_chip(0).tobytes()
    assert row.pop("mask").tobytes() == draw_chip(1).convert("L").tobytes()
    assert row == {
        "event_id": label.event_id,
        "image_sha256": sha256,
        "label": "abnormal",
        "defect_type": "a\u202eb",
        "boxes": [
            {"x": 0, "y": 1, "width": 20, "height": 30, "defect_type": ""},
            {"x": 5, "y": 6, "width": 1, "height": 1, "defect_type": "dent"},
        ],
        "polygons": [{"points": [[0, 0], [20, 0], [20, 30]], "defect_type": "scratch"}],
        "mask_type": "stain",
        "annotator": HOSTILE[:200],
        "created_at": datetime(2026, 1, 1, 12, 0, 0, 123457, timezone.utc),
        "note": HOSTILE,
        "model_name": "model",
        "model_revision": "abc",
        "model_probability": 0.125,
        "retracts": "",
        "decides": True,
    }
    assert (undo["label"], undo["retracts"], undo["mask"]) == ("", label.event_id, None)
    assert (undo["boxes"], undo["model_probability"]) == ([], None)


@pytest.mark.parametrize("days", [("20200101", "20200102"), ("20200101", "20990101")])
def test_old_files_and_new_ones_are_read_together_before_and_after_a_compaction(hub, journal, days):
    """Old files come before the new one, and after it, from an app that was not updated."""
    shas = [image(journal, seed) for seed in range(3)]
    old = [Label(sha256, "abnormal", "ann", "crack", (Box(1, 2, 3, 4),)) for sha256 in shas[:2]]
    for label, day in zip(old, days):
        publish_as_before([label], f"{day}T000000Z-0123456789ab", journal.content)
    polygon = Polygon(((0, 0), (20, 0), (20, 30)), "scratch")
    new = Label(shas[2], "abnormal", "ann", "crack", (Box(5, 6, 7, 8, "dent"),), polygons=(polygon,))
    journal.append(new)
    assert Publisher(journal, NAME).flush() == 1 and Publisher(journal, NAME).flush() == 0
    for files_left in (3, 1):
        rows = {row["event_id"]: row for row in datasets.load_dataset(NAME, split="train")}
        assert rows.keys() == {label.event_id for label in (*old, new)} and len(shards(hub)) == files_left
        row = rows[new.event_id]
        assert row["polygons"] == [{"points": [[0, 0], [20, 0], [20, 30]], "defect_type": "scratch"}]
        assert [box["defect_type"] for box in row["boxes"]] == ["dent"]
        assert [(box["x"], box["height"], box["defect_type"]) for box in rows[old[0].event_id]["boxes"]] == [
            (1, 4, None)
        ]
        assert {sample.defect_type for sample in read_data(f"hf:{NAME}").samples} == {"crack"}
        compact(NAME)


def test_training_reads_the_consensus_and_leaves_out_disputed_images(hub, journal):
    good, bad, disputed, undone = (image(journal, seed) for seed in range(4))
    mistake = Label(undone, "abnormal", "ann")
    journal.append(
        Label(good, "abnormal", "ann"),  # changes her mind
        Label(bad, "abnormal", "ann", defect_type="crack"),
        Label(bad, "abnormal", "bob", defect_type="crack"),
        Label(bad, "normal", "cy"),
        Label(disputed, "normal", "ann"),
        Label(disputed, "abnormal", "bob"),
        mistake,
    )
    publisher = Publisher(journal, NAME)
    publisher.flush()
    journal.append(Label(good, "normal", "ann"), retraction_of(mistake, "ann"))
    publisher.flush()
    data = read_data(f"hf:{NAME}")
    assert {(sample.path.name, sample.label, sample.defect_type) for sample in data.samples} == {
        (good, "normal", ""),
        (bad, "abnormal", "crack"),
    }
    assert len(data.left_out) == 1 and disputed in data.left_out[0] and "disputed" in data.left_out[0]


def test_each_flush_is_one_commit_with_one_new_file_of_a_private_dataset(hub, journal):
    publisher = Publisher(journal, NAME)
    first = labeled(journal, 3)
    assert publisher.flush() == 3 and publisher.flush() == 0
    second = labeled(journal, 2)
    publisher.flush()
    repository = hub.repository(NAME, "dataset")
    assert repository.private
    assert [commit.message for commit in repository.commits] == ["initial commit", "3 labels", "2 labels"]
    assert set(repository.files) == {".gitattributes", CARD, COLUMNS, *shards(hub)} and len(shards(hub)) == 2
    assert sorted(published(hub)) == ids(first + second)
    assert journal.counts().pending == 0 and publisher.status.published_at


def test_a_public_dataset_is_created_only_on_request(hub, journal):
    labeled(journal, 1)
    Publisher(journal, "acme/open", public=True).flush()
    assert not hub.repository("acme/open", "dataset").private


def test_many_pending_labels_take_several_commits(hub, journal):
    labels = labeled(journal, 25)
    assert Publisher(journal, NAME, shard_labels=10).flush() == 25
    assert len(shards(hub)) == 3 and sorted(published(hub)) == ids(labels)


def test_large_images_make_smaller_batches_and_a_batch_never_changes(journal):
    labels = labeled(journal, 5)
    size = len(journal.content(labels[0].image_sha256))
    assert journal.batch("one", 10, size * 2 + size // 2) == ("one", labels[:2])
    labeled(journal, 1)
    assert journal.batch("other", 10, 10**9) == ("one", labels[:2])
    journal.mark_published([label.event_id for label in labels[:2]], "one")
    assert journal.batch("two", 10, 1) == ("two", labels[2:3])


# Exactly once, whatever happens

FAILURES = [
    ("POST /api/repos/create", 403, 1, "may not write"),
    ("GET /api/datasets/", 500, 9, "trouble of its own"),
    ("GET /api/datasets/", 401, 9, "does not accept the token"),
    ("POST .*/preupload/", 404, 1, "no such repository"),
    ("POST .*/preupload/", 500, 9, "trouble of its own"),
    ("POST .*/commit/", 401, 1, "does not accept the token"),
    ("POST .*/commit/", 413, 1, "no room"),
    ("POST .*/commit/", 429, 9, "too many requests"),
    ("POST .*/commit/", 500, 9, "trouble of its own"),
    ("POST .*/commit/", 507, 9, "no room"),
    ("POST .*/commit/", 412, 9, "Someone else is changing"),
    ("POST .*/commit/", CUT, 9, "Check the network"),
    ("POST .*/commit/", LOST, 1, "Check the network"),
    ("PUT /lfs/", 507, 99, "no room"),
    ("PUT /lfs/", CUT, 99, "Check the network"),
]


@pytest.mark.parametrize(("request_line", "answer", "times", "message"), FAILURES)
def test_labels_stay_pending_after_a_failure_and_are_published_once(
    hub, journal, pauses, monkeypatch, request_line, answer, times, message
):
    publisher = Publisher(journal, NAME)
    labels = labeled(journal, 3)
    monkeypatch.setattr("chipdemo.labeling.hub.publish.CONFLICTS", 5)
    hub.fail(request_line, answer, times)
    with pytest.raises(HubError, match=message):
        publisher.flush()
    status = publisher.status
    assert status.pending == 3 and message in status.error and TOKEN not in status.error
    assert status.next_try_at > datetime.now(timezone.utc) and status.published_at is None
    hub.faults.clear()
    labels += labeled(journal, 2)
    publisher.flush()
    assert sorted(published(hub)) == ids(labels)
    assert publisher.status.pending == 0 and publisher.status.error == ""
    assert "| normal | 5 |" in card(hub)


@pytest.mark.parametrize(
    "token, message",
    [
        ("", "token"),
        ("hf_unknown", "does not accept"),
        ("hf_read", "may not"),
        ("hf_bob", "may not"),
    ],
)
def test_a_wrong_token_is_an_error_and_the_right_one_works_without_a_restart(
    hub, journal, monkeypatch, token, message
):
    publisher = Publisher(journal, NAME)
    labels = labeled(journal, 2)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=message) as failure:
        publisher.flush()
    assert not token or token not in str(failure.value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    publisher.flush()
    assert sorted(published(hub)) == ids(labels)


def test_without_a_network_labels_wait(hub, journal, monkeypatch, pauses):
    labels = labeled(journal, 2)
    with monkeypatch.context() as offline, pytest.raises(HubError, match="Check the network"):
        offline.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
        Publisher(journal, NAME).flush()
    Publisher(journal, NAME).flush()
    assert sorted(published(hub)) == ids(labels)


def test_pauses_grow_and_follow_retry_after(hub, journal, pauses):
    publisher = Publisher(journal, NAME, first_pause_s=2)
    labeled(journal, 1)

    def pause_s():
        with pytest.raises(HubError):
            publisher.flush()
        return (publisher.status.next_try_at - datetime.now(timezone.utc)).total_seconds()

    hub.fail("POST .*/commit/", 500, times=12)
    assert 0.5 < pause_s() <= 2 and 1.5 < pause_s() <= 4 and 3.5 < pause_s() <= 8
    assert max(pause_s() for _ in range(9)) <= 600
    hub.fail("POST .*/commit/", 429, retry_after_s="900")
    assert 890 < pause_s() <= 900
    publisher.flush()
    hub.fail("POST .*/commit/", 500)
    labeled(journal, 1)
    assert pause_s() <= 2


def test_a_crash_after_the_commit_duplicates_nothing_even_after_a_compaction(hub, journal):
    Publisher(journal, NAME).flush()
    before = labeled(journal, 2)
    Publisher(journal, NAME).flush()
    lost = labeled(journal, 3)

    class Crash(BaseException):
        pass

    def crash(*_):
        raise Crash

    crashing = Publisher(journal, NAME)
    journal.mark_published, kept = crash, journal.mark_published
    with pytest.raises(Crash):
        crashing.flush()
    journal.mark_published = kept
    assert journal.counts().pending == 3 and len(published(hub)) == 5
    compact(NAME)
    assert len(shards(hub)) == 1
    later = labeled(journal, 1)
    assert Publisher(journal, NAME).flush() == 4
    assert sorted(published(hub)) == ids(before + lost + later) and journal.counts().pending == 0


def test_writers_with_one_journal_and_with_others_publish_every_label_once(hub, journal, tmp_path, pauses):
    labels = labeled(journal, 12)

    def publish(path, shard_labels):
        with Journal(path) as own, suppress(HubError):  # as another process would
            Publisher(own, NAME, shard_labels=shard_labels).flush()

    with Journal(tmp_path / "other.db") as other:
        labels += labeled(other, 8, "bob")
        hub.fail("POST .*/commit/", LOST, times=1)
        hub.fail("POST .*/commit/", CUT, times=1)
        writers = [
            threading.Thread(target=publish, args=arguments)
            for arguments in ((journal.path, 4), (journal.path, 2), (other.path, 4), (other.path, 2))
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        for one in (journal, other):  # after a fault
            Publisher(one, NAME).flush()
            assert one.counts().pending == 0
    assert sorted(published(hub)) == ids(labels)
    assert Counter(datasets.load_dataset(NAME, split="train")["label"]) == {"normal": 20}
    assert "| normal | 20 |" in card(hub)


# In the background


def until(condition, timeout_s: float = 60) -> None:
    """Wait for what another thread does."""
    deadline, again = time.monotonic() + timeout_s, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        again.wait(0.01)


def test_unlike_commit_scheduler_it_makes_no_early_requests_and_drops_nothing_at_its_end(
    hub, journal, tmp_path
):
    publisher = Publisher(journal, NAME, flush_every_s=0.1)
    assert hub.requests == [] and hub.repositories == {}
    assert "label publisher" not in [thread.name for thread in threading.enumerate()]
    publisher.start()
    labels = labeled(journal, 2)
    until(lambda: journal.counts().pending == 0)  # within seconds
    publisher.stop()
    publisher = Publisher(journal, NAME, flush_every_s=3600)
    publisher.start()
    labels += labeled(journal, 2)
    publisher.stop()
    assert sorted(published(hub)) == ids(labels)

    scheduler = CommitScheduler(
        repo_id="ada/theirs", repo_type="dataset", folder_path=tmp_path / "theirs", every=60
    )
    assert not hub.repository("ada/theirs", "dataset").private
    until(lambda: hasattr(scheduler, "last_future"))
    scheduler.last_future.result()
    (tmp_path / "theirs" / "label.json").write_text("{}")
    scheduler.stop()
    scheduler.trigger().result()  # what would have been its next, and is at the end of the process
    assert set(hub.repository("ada/theirs", "dataset").files) == {".gitattributes"}


def test_enough_labels_are_published_before_the_time_is_up(hub, journal):
    publisher = Publisher(journal, NAME, flush_labels=3, flush_every_s=3600)
    publisher.start()
    labeled(journal, 2)
    assert journal.counts().pending == 2
    labeled(journal, 1)
    until(lambda: journal.counts().pending == 0)
    publisher.stop()
    assert len(published(hub)) == 3


def test_the_thread_outlives_failures_and_waits_between_them(hub, journal):
    publisher = Publisher(journal, NAME, flush_every_s=0.04, first_pause_s=0.2)
    hub.fail("POST .*/commit/", 401, times=2)
    publisher.start()
    labels = labeled(journal, 2)
    until(lambda: "does not accept the token" in publisher.status.error)
    until(lambda: journal.counts().pending == 0)
    publisher.stop()
    assert hub.count("POST .*/commit/") == 3
    assert sorted(published(hub)) == ids(labels) and publisher.status.error == ""


def test_a_journal_that_cannot_be_read_is_tried_again(hub, tmp_path):
    journal = Journal(tmp_path / "none" / "labels.db")
    publisher = Publisher(journal, NAME, flush_every_s=0.04, first_pause_s=0.04)
    publisher.start()
    (tmp_path / "none").mkdir()
    journal.open()
    labels = labeled(journal, 1)
    until(lambda: journal.counts().pending == 0)
    publisher.stop()
    assert published(hub) == ids(labels)


def test_stopping_does_not_wait_for_a_hub_that_does_not_answer(hub, journal):
    hub.fail("PUT /lfs/", 500, times=99)
    publisher = Publisher(journal, NAME, flush_every_s=3600)
    publisher.start()
    labeled(journal, 1)
    started = time.monotonic()
    publisher.stop(timeout_s=0.2)
    assert time.monotonic() - started < 5 and journal.counts().pending == 1
    hub.faults.clear()
    until(lambda: journal.counts().pending == 0)  # the process did not end, so its last try goes on


# The card


def test_the_card_has_the_numbers_the_training_command_and_the_license(hub, journal):
    labels = labeled(journal, 4)
    journal.append(retraction_of(labels[0], "ann"), Label(labels[1].image_sha256, "unsure", "bob"))
    Publisher(journal, NAME).flush()
    text = card(hub)
    for row in ("| normal | 4 |", "| abnormal | 0 |", "| unsure | 1 |", "| retracted | 1 |"):
        assert row in text
    assert f"python training/train.py --data hf:{NAME}" in text
    data = DatasetCard(text).data
    assert data.license == "unknown" and "chip-inspection" in data.tags
    assert data.configs[0]["data_files"][0]["path"] == "data/*.parquet"
    compact(NAME)
    assert "images 3 (2 normal, 0 abnormal, 0 unsure, 1 disputed); annotators 2;" in card(hub)
    assert "labeled by two or more 1, unanimous 0." in card(hub)


def test_a_card_with_the_older_word_for_retractions_is_migrated(hub, journal):
    labels = labeled(journal, 2)
    journal.append(retraction_of(labels[0], "ann"))
    Publisher(journal, NAME).flush()
    amend_card(card(hub).replace("| retracted | 1 |", "| taken back | 7 |") + "\n| taken back | mine |")
    journal.append(retraction_of(labels[1], "ann"))
    Publisher(journal, NAME).flush()
    assert "| retracted | 8 |" in card(hub) and "| normal | 2 |" in card(hub)
    assert card(hub).count("taken back") == 1 and card(hub).endswith("| taken back | mine |")


def amend_card(text: str) -> None:
    HfApi().create_commit(
        NAME,
        [CommitOperationAdd(CARD, text.encode("utf-8", "surrogateescape"))],
        commit_message="by hand",
        repo_type="dataset",
    )


def test_text_of_the_owner_in_the_card_stays(hub, journal):
    publisher = Publisher(journal, NAME)
    labeled(journal, 1)
    publisher.flush()
    mine = (
        card(hub).replace("license: unknown", "license: mit").replace("# Labels", "# My labels") + "\nBye \\1"
    )
    amend_card(mine)
    labeled(journal, 2)
    publisher.flush()
    assert card(hub) == mine.replace("| normal | 1 |", "| normal | 3 |")
    compact(NAME)
    assert card(hub).startswith("---\nlicense: mit\n") and card(hub).endswith("\nBye \\1")


def test_a_card_without_our_part_gets_it_with_all_numbers(hub, journal):
    publisher = Publisher(journal, NAME)
    labeled(journal, 2)
    publisher.flush()
    amend_card("---\nlicense: mit\n---\nMine\r\n")
    labeled(journal, 3)
    publisher.flush()
    assert files(hub)[CARD].startswith(b"---\nlicense: mit\n---\nMine\r\n")
    assert "| normal | 5 |" in card(hub)
    assert len(datasets.load_dataset(NAME, split="train")) == 5  # found without our front matter too


def test_labels_are_published_without_a_card_that_the_hub_refuses(hub, journal):
    publisher = Publisher(journal, NAME)
    labeled(journal, 1)
    publisher.flush()
    repository = hub.repository(NAME, "dataset")
    broken = b"---\nlicense: [mit\n---\n"  # as git pushes it, unlike the client
    hub.add_commit(repository, "by git", {**repository.files, CARD: broken}, repository.commits[-1].large)
    labeled(journal, 1)
    publisher.flush()
    assert len(published(hub)) == 2 and files(hub)[CARD] == broken


# Compaction


def test_shards_are_merged_and_every_event_stays_once(hub, journal):
    labels = labeled(journal, 12)
    Publisher(journal, NAME, shard_labels=3).flush()
    (first, *_) = shards(hub)
    copy = CommitOperationAdd("data/labels-20260101T000000Z-0123456789ab.parquet", files(hub)[first])
    other = CommitOperationAdd("data/more.parquet", b"not ours")
    HfApi().create_commit(NAME, [copy, other], commit_message="a copy", repo_type="dataset")
    done = compact(NAME)
    assert (done.before, done.after) == (5, 1)
    assert sorted(published(hub)) == ids(labels)
    assert "| normal | 12 |" in card(hub) and files(hub)["data/more.parquet"] == b"not ours"
    assert journal.counts().pending == 0 and Publisher(journal, NAME).flush() == 0
    commits = len(hub.repository(NAME, "dataset").commits)
    assert compact(NAME).before == 1 and len(hub.repository(NAME, "dataset").commits) == commits


def test_large_shards_stay_as_they_are(hub, journal):
    labels = labeled(journal, 12)
    Publisher(journal, NAME, shard_labels=3).flush()
    size = max(len(files(hub)[path]) for path in shards(hub))
    before = set(shards(hub))
    assert compact(NAME, shard_bytes=size - 1).after > 1
    compact(NAME, shard_bytes=size * 5 // 2)
    assert 1 < len(shards(hub)) < len(before) and sorted(published(hub)) == ids(labels)


@pytest.mark.parametrize("answer", [500, 507, CUT, LOST])
def test_a_failed_compaction_loses_nothing_and_can_be_repeated(hub, journal, pauses, answer):
    labels = labeled(journal, 6)
    Publisher(journal, NAME, shard_labels=2).flush()
    hub.fail("POST .*/commit/", answer)
    with pytest.raises(HubError, match=NAME):
        compact(NAME)
    assert sorted(published(hub)) == ids(labels)
    assert compact(NAME).after == 1
    assert sorted(published(hub)) == ids(labels)


def test_compaction_and_writers_at_once_lose_and_duplicate_nothing(hub, journal):
    labels = labeled(journal, 6)
    publisher = Publisher(journal, NAME, shard_labels=1)
    publisher.flush()
    labels += labeled(journal, 10)
    writer = threading.Thread(target=publisher.flush)
    writer.start()
    compact(NAME)
    writer.join()
    compact(NAME)
    assert sorted(published(hub)) == ids(labels) and len(shards(hub)) == 1
    assert "| normal | 16 |" in card(hub)


def test_a_missing_dataset_is_not_created_by_compaction(hub):
    with pytest.raises(HubError, match="no such repository"):
        compact("ada/nowhere")
    assert hub.repositories == {}
