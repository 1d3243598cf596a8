import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from chipdemo.errors import CheckpointError
from chipdemo.vision.checkpoint import CONFIG, METRICS, WEIGHTS, read_metrics, read_spec
from chipdemo.vision.weights import HubChipNet, load_checkpoint, load_weights
from tests.pipes import piped
from tests.tiny import SPEC, tiny_checkpoint, tiny_net


@pytest.fixture
def folder(tmp_path):
    return tiny_checkpoint(tmp_path / "tiny")


def test_a_saved_model_comes_back_as_it_was(folder):
    net, spec, info = load_checkpoint(folder)
    batch = torch.randn(2, 3, 64, 64)
    assert spec == SPEC and not net.training
    torch.testing.assert_close(net(batch).logits, tiny_net()(batch).logits, atol=0.02, rtol=0.02)
    assert (info.name, info.data, info.threshold) == ("tiny", "drawn chips", 0.4)


def test_the_revision_changes_with_the_weights_and_not_with_the_place(folder, tmp_path):
    again = tiny_checkpoint(tmp_path / "elsewhere")
    other = tiny_checkpoint(tmp_path / "other", replace(SPEC, threshold=0.6))
    revision = [load_checkpoint(path)[2].revision for path in (folder, again, other)]
    assert revision[0] == revision[1] != revision[2]


def test_matrices_are_stored_in_half_precision_and_statistics_in_single(folder):
    tensors = load_file(folder / WEIGHTS)
    assert tensors["head.weight"].dtype == torch.float16
    assert tensors["backbone.bn1.running_var"].dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("head.bias"), "Missing key.*head.bias"),
        (lambda tensors: tensors.update(spare=torch.zeros(1)), "Unexpected key.*spare"),
        (lambda tensors: tensors.update({"head.bias": torch.zeros(3)}), "size mismatch for head.bias"),
    ],
)
def test_a_missing_extra_or_misshapen_tensor_is_an_error(folder, change, message):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=f"(?s){message}"):
        load_checkpoint(folder)


def test_weights_are_read_and_not_mapped(folder):
    with piped(folder / WEIGHTS):
        net = SPEC.build()
        load_weights(net, folder / WEIGHTS)
    torch.testing.assert_close(net.head.weight, tiny_net().head.weight, atol=1e-3, rtol=1e-3)


def test_damaged_weights_are_an_error(folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(folder)


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was run')",))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt"])
def test_a_malicious_pickle_is_refused_and_never_run(folder, name):
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)
    with pytest.raises(CheckpointError, match="pickle"):
        load_checkpoint(folder / name)
    with pytest.raises(CheckpointError):
        HubChipNet.from_pretrained(folder)


def test_a_pickle_named_safetensors_is_refused_and_never_run(folder):
    (folder / WEIGHTS).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(folder)


def test_a_config_without_a_field_says_which(folder):
    config = json.loads((folder / CONFIG).read_text())
    del config["heat_scale"]
    (folder / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="heat_scale"):
        read_spec(folder)


def test_other_classes_are_refused(folder):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"classes": ["cat", "dog"]}))
    with pytest.raises(CheckpointError, match="cat"):
        load_checkpoint(folder)


def test_metrics_without_validation_say_so(folder):
    metrics = json.loads((folder / METRICS).read_text())
    del metrics["validation"]
    (folder / METRICS).write_text(json.dumps(metrics))
    with pytest.raises(CheckpointError, match="validation"):
        load_checkpoint(folder)


def test_starting_weights_of_earlier_versions_are_read_with_the_words_of_today(folder):
    metrics = json.loads((folder / METRICS).read_text())
    old = metrics | {"starting_weights": "distilled on the training part, no ImageNet"}
    (folder / METRICS).write_text(json.dumps(old))
    assert read_metrics(folder)["starting_weights"] == "distilled on the training split, no ImageNet"


def test_a_config_that_names_no_known_network_is_an_error(folder):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"backbone": "no_such_net"}))
    with pytest.raises(CheckpointError, match="no_such_net"):
        load_checkpoint(folder)


def test_a_name_that_is_neither_folder_nor_hub_id_is_an_error():
    with pytest.raises(CheckpointError, match="nowhere"):
        load_checkpoint("nowhere")


def test_a_hub_id_out_of_reach_says_what_to_check(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="HF_TOKEN"):
        load_checkpoint("nobody/nothing")


def test_the_hub_mixin_reads_and_writes_the_same_files(folder, tmp_path):
    net = HubChipNet.from_pretrained(folder)
    batch = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(net(batch).logits, load_checkpoint(folder)[0](batch).logits)
    net.save_pretrained(tmp_path / "saved")
    assert {WEIGHTS, CONFIG} <= {path.name for path in (tmp_path / "saved").iterdir()}
