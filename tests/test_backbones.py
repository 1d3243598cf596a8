import pytest
import timm
import torch

from chipdemo.vision.backbones import create_backbone
from chipdemo.vision.model import ChipNet
from training.trunk import FrozenTrunk

NAMES = {
    "chip_resnet50": (2048, 4),
    "chip_small_cnn": (256, 4),
    "chip_unet": (48, 32),
    "chip_vgg16": (512, 8),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("attention", ["none", "cbam"])
def test_a_baseline_is_a_backbone_like_any_other(name, attention):
    channels, side = NAMES[name]
    output = ChipNet(name, attention).eval()(torch.randn(2, 3, 128, 128))
    assert output.features.shape == (2, channels, side, side)
    log_odds = output.logits[:, 1] - output.logits[:, 0]
    assert log_odds.requires_grad and log_odds.shape == (2,)


def test_vgg16_keeps_its_first_four_blocks_and_tunes_the_fifth():
    net = ChipNet("chip_vgg16", "none")
    FrozenTrunk(net, 1)
    tuned = [name for name, parameter in net.backbone.named_parameters() if parameter.requires_grad]
    assert tuned == [f"features.{i}.{part}" for i in (24, 26, 28) for part in ("weight", "bias")]


def test_the_published_resnet50_has_its_strides_in_the_first_convolution_of_a_bottleneck():
    net = create_backbone("chip_resnet50")
    strides = [
        (layer[0].conv1.stride, layer[0].conv2.stride) for layer in (net.layer2, net.layer3, net.layer4)
    ]
    assert strides == [((2, 2), (1, 1))] * 3
    FrozenTrunk(ChipNet("chip_resnet50", "none"), 4)  # raises unless the first blocks can be cut off


@pytest.mark.parametrize("name", ["chip_resnet50", "chip_small_cnn", "chip_unet"])
def test_weights_that_do_not_exist_are_not_pretended(name):
    with pytest.raises(ValueError, match="no ImageNet weights"):
        timm.create_model(name, pretrained=True)


@pytest.mark.parametrize("name, near", [("resnet5", "resnet50"), ("no such network at all", "list_models")])
def test_an_unknown_name_is_an_error_with_the_names_that_are_near(name, near):
    with pytest.raises(ValueError, match=f"{name}.*{near}"):
        create_backbone(name)
