import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from chipdemo.vision.checkpoint import WEIGHTS
from chipdemo.vision.model import ChipNet
from chipdemo.vision.transforms import normalize
from tests.tiny import BACKBONE, draw_chips
from training.augment import augment
from training.options import Options
from training.train import train
from training.trunk import FrozenTrunk, cached_views, gather

MEAN = STD = (0.5, 0.5, 0.5)


def views_of(trunk, pixels, cache, views=2):
    return cached_views(trunk, pixels, MEAN, STD, views, 1.0, cache, lambda it, **_: it)


@pytest.mark.parametrize(
    "backbone", [BACKBONE, "tf_efficientnet_lite0", "mobilenetv2_100", "resnet18", "vgg11_bn"]
)
def test_trunk_and_rest_are_the_whole_network(backbone):
    net = ChipNet(backbone, stages=2).eval()
    trunk = FrozenTrunk(net, 2)
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = trunk(batch)
        with trunk.skipped(net):
            cut = net(features).logits
        torch.testing.assert_close(cut, net(batch).logits, atol=1e-4, rtol=1e-4)


def test_the_network_is_whole_again_afterwards():
    net = ChipNet(BACKBONE)
    names = list(net.state_dict())
    trunk = FrozenTrunk(net, 2)
    with trunk.skipped(net):
        assert len(net.state_dict()) < len(names)
    assert list(net.state_dict()) == names


def test_frozen_blocks_do_not_learn_while_the_others_do(tmp_path):
    data = draw_chips(tmp_path / "chips", normal=20, abnormal=16)
    options = Options(
        data=str(data),
        out=str(tmp_path / "out"),
        cache=str(tmp_path / "cache"),
        backbone=BACKBONE,
        init="none",
        image_size=64,
        epochs=2,
        batch_size=8,
        freeze=2,
        views=2,
        linear="off",
    )
    torch.manual_seed(0)
    start = ChipNet(BACKBONE, stages=2, dropout=options.dropout).state_dict()
    end = load_file(train(options) / WEIGHTS)
    half = start["backbone.conv_stem.weight"].half()
    assert torch.equal(end["backbone.conv_stem.weight"], half)
    assert torch.equal(end["backbone.bn1.running_mean"], start["backbone.bn1.running_mean"])
    assert not torch.equal(end["backbone.conv_head.weight"], start["backbone.conv_head.weight"].half())


def test_a_network_in_training_does_not_wake_the_trunk_up():
    net = ChipNet(BACKBONE, stages=2).train()
    trunk = FrozenTrunk(net, 2)
    batch = torch.rand(8, 3, 64, 64) * 5  # far from the statistics at hand
    features = trunk(batch)
    with trunk.skipped(net):
        net.train()
    torch.testing.assert_close(trunk(batch)[:1], trunk(batch[:1]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(trunk(batch), features)
    assert net.training and not any(unit.training for unit in trunk.units)


def test_a_cached_view_is_the_trunks_output_of_an_augmented_image(tmp_path):
    trunk = FrozenTrunk(ChipNet(BACKBONE).eval(), 2)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    views = views_of(trunk, pixels, tmp_path)
    augmented = augment(torch.from_numpy(pixels), torch.Generator().manual_seed(1))
    expected = trunk(normalize(augmented, MEAN, STD))[3]
    given = gather(views, torch.tensor([1]), torch.tensor([3]), torch.device("cpu"))[0]
    torch.testing.assert_close(given, expected, atol=1e-2, rtol=1e-2)  # kept in half precision


def test_finished_views_are_used_again_and_other_images_get_their_own(tmp_path):
    trunk = FrozenTrunk(ChipNet(BACKBONE).eval(), 2)
    pixels = np.zeros((3, 32, 32, 3), np.uint8)
    views_of(trunk, pixels, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    views_of(trunk, pixels, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == written
    views_of(trunk, pixels + 1, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
