"""python -m chipdemo, as it is typed."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import datasets
import pytest

from chipdemo.__main__ import main
from chipdemo.cli.labels import EXPORTS, IMPORTS
from chipdemo.images import read_image
from chipdemo.labeling.formats import READERS, WRITERS
from chipdemo.labeling.journal import Journal
from tests.drawn import picture
from tests.hub import Account, Hub
from tests.tiny import tiny_checkpoint
from training.sources import read_data

ROOT = Path(__file__).parent.parent


@pytest.fixture
def journal(tmp_path, monkeypatch):
    path = tmp_path / "data" / "labels.db"
    monkeypatch.setenv("CHIPDEMO_JOURNAL", str(path))
    return path


@pytest.fixture
def chips(tmp_path):
    for number, name in enumerate(("normal/a", "normal/b", "abnormal/crack/c")):
        path = tmp_path / "chips" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    (tmp_path / "chips" / "normal" / "notes.txt").write_text("no image")
    return tmp_path / "chips"


def test_images_are_added_and_what_was_not_taken_is_listed(journal, chips, capsys):
    assert main(["labels", "add", str(chips)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == ["3 images added, 0 known before.", "Not taken: 1"]
    assert out[2].startswith("  normal/notes.txt: ")
    assert main(["labels", "add", str(chips)]) == 0
    assert capsys.readouterr().out.startswith("0 images added, 3 known before.")


def test_one_image_is_no_plural(journal, chips, capsys):
    assert main(["labels", "add", str(next(chips.rglob("*.png")))]) == 0
    assert capsys.readouterr().out == "1 image added, 0 known before.\n"


def test_labels_are_imported_and_exported_and_counted(journal, chips, tmp_path, capsys):
    assert main(["labels", "import", str(chips), "--annotator", "ann"]) == 0
    assert capsys.readouterr().out.startswith("3 labels added, 0 known before.")
    for format in EXPORTS:
        assert main(["labels", "export", str(tmp_path / format), "--format", format]) == 0
        assert "2 normal" in capsys.readouterr().out
    assert (tmp_path / "coco" / "annotations.json").exists()
    assert main(["labels", "status"]) == 0
    out = capsys.readouterr().out
    assert f"journal        {journal}\n" in out and "3, 3 of them labeled" in out
    assert "agreed         2 normal, 1 abnormal, 0 unsure" in out
    assert "new            3 (" in out and "unpublished    3 events" in out


def test_status_shows_no_command_while_there_is_nothing_to_train_from(journal, chips, capsys):
    main(["labels", "add", str(chips)])
    assert main(["labels", "status"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("There is nothing to train from yet. Add images and label them first.\n")
    assert "train.py" not in out
    (chips.parent / "unsure.csv").write_text(
        "image,label\n" + "".join(f"{one},unsure\n" for one in chips.rglob("*.png"))
    )
    assert main(["labels", "import", str(chips.parent / "unsure.csv"), "--annotator", "ann"]) == 0
    capsys.readouterr()
    main(["labels", "status"])
    out = capsys.readouterr().out
    assert "3 unsure" in out and "train.py" not in out


def test_the_training_command_that_status_shows_can_be_typed(journal, chips, tmp_path, capsys, monkeypatch):
    other = str(tmp_path / "other labels.db")
    main(["labels", "import", str(chips), "--annotator", "ann", "--journal", other])
    capsys.readouterr()
    main(["labels", "status", "--journal", other])
    shown = capsys.readouterr().out.splitlines()
    export, train = [shlex.split(line) for line in shown if line.startswith("  ")]
    monkeypatch.chdir(tmp_path)
    assert export[:3] == ["python", "-m", "chipdemo"] and main(export[3:]) == 0
    assert train[:3] == ["python", "training/train.py", "--data"]
    assert [sample.label for sample in read_data(train[3]).samples] == ["abnormal", "normal", "normal"]


def test_status_counts_what_the_model_has_not_seen_and_the_next_training_starts_from_it(
    journal, chips, tmp_path, capsys
):
    main(["labels", "import", str(chips), "--annotator", "ann"])
    model = tiny_checkpoint(tmp_path / "my model")
    for seen in ([], [read_image(picture(0)).sha256]):
        (model / "split.json").write_text(json.dumps({"train": [], "val": [], "test": seen}))
        capsys.readouterr()
        main(["labels", "status", "--model", str(model)])
        out = capsys.readouterr().out
        assert re.search(rf"train.py --data labels-[\d-]+ --init '{re.escape(str(model))}'\n$", out)
        assert f"new            {3 - len(seen)} (" in out


def test_a_flag_beats_the_variable(journal, chips, tmp_path):
    other = tmp_path / "other.db"
    assert main(["labels", "add", str(chips), "--journal", str(other)]) == 0
    assert other.exists() and not journal.exists()
    with Journal(other) as added:
        assert added.counts().images == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["add", "nowhere"], "nowhere"),
        (["export", "out"], "labels.db"),
        (["import", "nowhere", "--annotator", "ann"], "nowhere"),
        (["import", "lots", "--annotator", "ann"], "lot1/"),
        (["import", "lots", "--annotator", "ann", "--normal", "lot2"], "lot2"),
        (["import", ".", "--annotator", " "], "annotator"),
        (
            ["status", "--journal", "/dev/null/labels.db"],
            "/dev/null/labels.db",
        ),
    ],
)
def test_an_error_ends_in_one_line_and_status_2(journal, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lots" / "lot1").mkdir(parents=True)
    assert main(["labels", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("chipdemo: ") and message in error and error.count("\n") == 1


def test_class_folders_may_be_named_and_replaced_labels_are_counted(journal, tmp_path, capsys):
    for number, folder in enumerate(("lot1", "lot2", "lot3")):
        (tmp_path / "chips" / folder).mkdir(parents=True)
        (tmp_path / "chips" / folder / "a.png").write_bytes(picture(number))
    command = ["labels", "import", str(tmp_path / "chips"), "--annotator", "ann", "--normal", "lot1"]
    assert main([*command, "--abnormal", "lot2", "--abnormal", "lot3"]) == 0
    assert capsys.readouterr().out.startswith("3 labels added, 0 known before.\n")
    assert main([*command, "--normal", "lot3", "--abnormal", "lot2"]) == 0
    assert "\n1 of them " in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["labels"], ["labels", "export", "out", "--format", "voc"]])
def test_what_is_no_command_ends_with_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_every_format_can_be_asked_for():
    assert set(EXPORTS) == set(WRITERS) and set(IMPORTS) == set(READERS)


@pytest.mark.parametrize("arguments", [["--help"], ["labels", "--help"], ["labels", "import", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    script = (
        "import sys\nfrom chipdemo.__main__ import main\n"
        f"try: main({arguments})\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'gradio', 'numpy', 'PIL', 'sqlite3'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_labels_are_exported_without_torch(journal, chips, tmp_path):
    script = (
        "import sys\nfrom chipdemo.__main__ import main\n"
        f"assert main(['labels', 'import', {str(chips)!r}, '--annotator', 'ann']) == 0\n"
        f"assert main(['labels', 'export', {str(tmp_path / 'out')!r}]) == 0\n"
        "sys.exit(bool({'torch', 'gradio', 'datasets', 'pyarrow', 'scipy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_labels_are_published_and_their_files_made_one(journal, chips, tmp_path, monkeypatch, capsys):
    assert main(["labels", "publish"]) == 2
    assert "CHIPDEMO_DATASET" in capsys.readouterr().err
    with Hub({"hf_ada": Account("ada")}) as hub:
        hub.serve(monkeypatch, tmp_path / "home", "hf_ada")
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.address)
        monkeypatch.setenv("CHIPDEMO_DATASET", "ada/chips")
        for annotator in ("ann", "bob"):
            assert main(["labels", "import", str(chips), "--annotator", annotator]) == 0
            assert main(["labels", "publish"]) == 0
            assert "3 labels published to ada/chips." in capsys.readouterr().out
        assert main(["labels", "compact"]) == 0
        assert capsys.readouterr().out == "ada/chips: 2 files before, 1 now.\n"
        assert hub.repository("ada/chips", "dataset").private
    assert main(["labels", "status"]) == 0
    assert "python training/train.py --data hf:ada/chips" in capsys.readouterr().out
