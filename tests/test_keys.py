"""API keys: made once, kept as hashes, read again when the file changes."""

import stat

import pytest

from chipdemo.__main__ import main
from chipdemo.errors import SettingsError
from chipdemo.keys import ApiKeys, add_key


def test_a_key_is_printed_once_and_its_hash_alone_is_kept(tmp_path, capsys):
    path = tmp_path / "keys"
    assert main(["api-key", "line-3", "--api-keys-file", str(path)]) == 0
    key = capsys.readouterr().out.strip()
    assert key.startswith("chip_") and len(key) > 40
    assert key not in path.read_text() and path.read_text().startswith("line-3 ")
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    keys = ApiKeys(path)
    assert keys.name(key) == "line-3"
    assert keys.name(key[:-1]) is None and keys.name("") is None


def test_a_name_is_used_once_and_has_to_be_one(tmp_path, capsys):
    add_key("line-3", tmp_path / "keys")
    with pytest.raises(SettingsError, match="has a key called line-3"):
        add_key("line-3", tmp_path / "keys")
    with pytest.raises(SettingsError, match="no name of a key"):
        add_key("line 3", tmp_path / "keys")
    assert main(["api-key", "line-3"]) == 2
    assert "--api-keys-file" in capsys.readouterr().err


def test_a_key_that_is_added_or_deleted_counts_at_once(tmp_path, caplog):
    path = tmp_path / "keys"
    first = add_key("line-3", path)
    keys = ApiKeys(path)
    second = add_key("line-4", path)
    assert keys.name(second) == "line-4"
    path.write_text("# all but line-3\nno key\n" + path.read_text().splitlines()[1] + "\n")
    assert (keys.name(first), keys.name(second)) == (None, "line-4")
    assert "line 2 of" in caplog.text
    path.unlink()
    assert keys.name(second) is None


@pytest.mark.parametrize("content", [None, "line-3 abc\n", b"\xff\xfe"])
def test_a_file_without_usable_keys_is_refused_at_the_start(tmp_path, content):
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError, match="keys"):
        ApiKeys(path)
