import re
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from app import check_port, main
from chipdemo.errors import SettingsError
from chipdemo.settings import Settings, command_line, flag, variable
from chipdemo.threshold import Target

ROOT = Path(__file__).parent.parent


def settings(*arguments: str, **environ: str) -> Settings:
    return Settings.from_env(environ).with_flags(command_line().parse_args(arguments))


def test_without_flags_and_variables_the_app_listens_on_this_machine_alone():
    assert settings() == Settings()
    assert (Settings().host, Settings().port, Settings().share) == ("127.0.0.1", 7860, False)


def test_a_flag_beats_its_variable():
    assert settings("--port", "8001", CHIPDEMO_PORT="8000").port == 8001
    assert settings(CHIPDEMO_PORT="8000").port == 8000


def test_no_share_beats_a_variable_that_shares():
    assert settings(CHIPDEMO_SHARE="yes").share is True
    assert settings("--no-share", CHIPDEMO_SHARE="yes").share is False


def test_the_address_of_a_space_is_used_unless_we_have_our_own():
    assert settings(GRADIO_SERVER_NAME="0.0.0.0").host == "0.0.0.0"
    assert settings(GRADIO_SERVER_NAME="0.0.0.0", CHIPDEMO_HOST="10.0.0.1").host == "10.0.0.1"


def test_several_accounts_may_sign_in_and_a_password_may_hold_a_colon():
    assert settings(CHIPDEMO_AUTH="ada:a:b,bob:c").auth == (("ada", "a:b"), ("bob", "c"))


def test_nothing_is_watched_unless_told_how_often():
    assert settings().hot_reload == 0
    assert settings("--hot-reload", "60").hot_reload == settings(CHIPDEMO_HOT_RELOAD="60").hot_reload == 60


def test_the_shipped_models_are_used_unless_others_are_named():
    assert [Path(one).name for one in settings().model_sources] == ["elpv-resnet50-cbam", "mvtec-transistor"]
    assert settings().model_source.endswith("elpv-resnet50-cbam")
    assert settings("--model", "owner/name").model_sources == ("owner/name",)


def test_several_models_are_named_by_a_flag_each_or_with_commas():
    named = ("owner/name", "runs/chips")
    assert settings("--model", "owner/name", "--model", "runs/chips").model_sources == named
    assert settings(CHIPDEMO_MODEL="owner/name, runs/chips").model_sources == named


def test_labels_are_kept_in_the_home_folder_unless_a_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert settings().journal_path == tmp_path / ".chipdemo" / "labels.db"
    assert settings(CHIPDEMO_JOURNAL="~/a.db").journal_path == tmp_path / "a.db"
    assert settings("--journal", "b.db", CHIPDEMO_JOURNAL="a.db").journal_path == Path.cwd() / "b.db"


def test_labels_are_published_nowhere_unless_a_data_set_is_named():
    assert settings().dataset == "" and not settings().dataset_public
    assert settings("--dataset", " ada/chips ").dataset == settings(CHIPDEMO_DATASET="ada/chips").dataset
    flush = settings("--flush-labels", "20", CHIPDEMO_FLUSH_EVERY_S="2.5")
    assert (flush.dataset, flush.flush_labels, flush.flush_every_s) == ("", 20, 2.5)


def test_types_of_defects_have_letters_and_names_may_have_spaces_around_them():
    assert settings(CHIPDEMO_DEFECTS="c:crack, K:edge chip").defects == (("c", "crack"), ("k", "edge chip"))
    assert settings("--labelers", "ada, acme").labelers == ("ada", "acme")
    assert settings().labelers == settings().reviewers == () and settings().annotators_per_image == 1


def test_the_threshold_has_one_target_at_most_and_a_flag_beats_the_variable_of_either():
    assert settings().target is None
    assert settings("--target-recall", "0.95").target == Target("recall", 0.95)
    assert settings(CHIPDEMO_TARGET_FPR="0.02").target == Target("fpr", 0.02)
    assert settings("--target-recall", "0.9", CHIPDEMO_TARGET_FPR="0.02").target == Target("recall", 0.9)
    with pytest.raises(SettingsError, match="--target-recall .* and --target-fpr .* are both set"):
        settings("--target-recall", "0.9", "--target-fpr", "0.02")
    with pytest.raises(SettingsError, match="CHIPDEMO_TARGET_RECALL.* are both set"):
        settings(CHIPDEMO_TARGET_RECALL="0.9", CHIPDEMO_TARGET_FPR="0.02")


@pytest.mark.parametrize(
    "name, text",
    [
        ("CHIPDEMO_TARGET_RECALL", "95"),
        ("CHIPDEMO_TARGET_RECALL", "95 %"),
        ("CHIPDEMO_TARGET_FPR", "0"),
        ("CHIPDEMO_TARGET_FPR", "nan"),
        ("CHIPDEMO_DATASET", "chips"),
        ("CHIPDEMO_DATASET", "https://hub.example/ada/chips"),
        ("CHIPDEMO_DATASET", "ada/../chips"),
        ("CHIPDEMO_FLUSH_LABELS", "0"),
        ("CHIPDEMO_FLUSH_EVERY_S", "-1"),
        ("CHIPDEMO_PORT", "eighty"),
        ("CHIPDEMO_PORT", "70000"),
        ("CHIPDEMO_PORT", "-1"),
        ("CHIPDEMO_SHARE", "perhaps"),
        ("CHIPDEMO_MAX_MEGAPIXELS", "0"),
        ("CHIPDEMO_MAX_MEGAPIXELS", "nan"),
        ("CHIPDEMO_CONCURRENCY", "0"),
        ("CHIPDEMO_HOT_RELOAD", "often"),
        ("CHIPDEMO_HOT_RELOAD", "-1"),
        ("CHIPDEMO_ANNOTATORS_PER_IMAGE", "0"),
        ("CHIPDEMO_DEFECTS", "crack"),
        ("CHIPDEMO_DEFECTS", "z:crack"),
        ("CHIPDEMO_DEFECTS", "c:crack,c:chip"),
        ("CHIPDEMO_DEFECTS", "cr:crack"),
        ("CHIPDEMO_DEFECTS", "c:"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_by_what_was_found(name, text):
    with pytest.raises(SettingsError, match=f"{name} is {re.escape(repr(text))}"):
        settings(**{name: text})


def test_passwords_show_neither_in_a_printed_setting_nor_in_a_complaint():
    assert "secret" not in repr(settings(CHIPDEMO_AUTH="ada:secret"))
    with pytest.raises(SettingsError) as complaint:
        settings(CHIPDEMO_AUTH="secret-without-a-user")
    assert "secret-without-a-user" not in str(complaint.value)


def test_every_setting_has_a_flag_and_a_variable_in_the_help():
    text = command_line().format_help()
    for setting in fields(Settings):
        assert flag(setting.name) in text
        assert variable(setting.name) in " ".join(text.split())


def test_help_imports_nothing_heavy():
    script = (
        "import sys, app\n"
        "try: app.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'gradio', 'numpy', 'PIL'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_a_bad_flag_ends_in_one_line_and_status_2(capsys):
    assert main(["--port", "none"]) == 2
    assert capsys.readouterr().err.startswith("app.py: --port is 'none'")


def test_a_missing_model_ends_in_one_line_and_status_2(capsys, tmp_path):
    assert main(["--model", str(tmp_path / "nowhere" / "at all")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("app.py: ") and message.count("\n") == 1


def test_a_journal_that_cannot_be_made_ends_in_one_line_and_status_2(capsys, tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert main(["--journal", str(tmp_path / "file" / "labels.db")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("app.py: ") and message.count("\n") == 1


def test_an_address_that_cannot_be_listened_on_is_named_with_the_flag_to_change():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"{port}.*--port"):
            check_port("127.0.0.1", port)
    for host in ("nohost.invalid", "192.0.2.1"):
        with pytest.raises(SettingsError, match=rf"{host}.*--host"):
            check_port(host, 0)
