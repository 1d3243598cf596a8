"""Backbones of the papers' comparisons that timm does not have, registered under timm's names.

chip_resnet50 is ResNet-50 with the strides of its paper. chip_small_cnn and chip_unet are trained from
scratch in the ablation of Ullah et al. (JCDE 2024); chip_vgg16 is the convolutional part of VGG16, as that
paper's public code pools it.
Importing this module makes timm.create_model know them.
"""

from difflib import get_close_matches

import timm
import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONFIG = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "interpolation": "bicubic", "num_classes": 0}


def create_backbone(name: str, image_size: int = 0) -> nn.Module:
    """A timm model without its classifier, with random weights. Raises ValueError for an unknown name.

    image_size: side of its input, pixels, where it is a transformer, which is made for one size.
    """
    try:
        if image_size:
            try:
                return timm.create_model(name, num_classes=0, img_size=image_size)
            except TypeError:  # no transformer: it takes any size
                pass
        return timm.create_model(name, num_classes=0)
    except RuntimeError as error:
        if timm.is_model(name):
            raise
        near = get_close_matches(name, timm.list_models(), cutoff=0.5)
        advice = f"Did you mean {' or '.join(near)}?" if near else "timm.list_models() lists the names."
        raise ValueError(f"timm has no model {name[:80]!r}. {advice}") from error


def double_conv(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    """Two 3x3 convolutions with normalization and ReLU; the first one may shrink."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class SmallCNN(nn.Module):
    """Five blocks of two convolutions, each at half the resolution of the one before."""

    WIDTHS = (16, 32, 64, 128, 256)

    def __init__(self):
        super().__init__()
        widths = (3, *self.WIDTHS)
        self.blocks = nn.Sequential(*(double_conv(a, b, 2) for a, b in zip(widths, widths[1:])))
        self.num_features = self.WIDTHS[-1]
        self.feature_info = [
            {"num_chs": width, "reduction": 2 << i, "module": f"blocks.{i}"}
            for i, width in enumerate(self.WIDTHS)
        ]
        self.pretrained_cfg = CONFIG

    def forward_features(self, batch: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 256, H/32, W/32)."""
        return self.blocks(batch)


class UNet(nn.Module):
    """Encoder-decoder with skip connections (Ronneberger et al., MICCAI 2015), at half resolution.

    A classifier pools the decoder's last features, which are as fine as stride 4.
    """

    WIDTHS = (24, 48, 96, 192)  # at strides 2, 4, 8, 16

    def __init__(self):
        super().__init__()
        widths = (3, *self.WIDTHS)
        self.encoder = nn.ModuleList(double_conv(a, b, 2) for a, b in zip(widths, widths[1:]))
        upwards = self.WIDTHS[::-1]
        self.decoder = nn.ModuleList(
            double_conv(below + skip, skip) for below, skip in zip(upwards, upwards[1:-1])
        )
        self.num_features = self.WIDTHS[1]
        self.feature_info = [{"num_chs": self.num_features, "reduction": 4, "module": "decoder.1"}]
        self.pretrained_cfg = CONFIG

    def forward_features(self, batch: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 48, H/4, W/4)."""
        skips = []
        for block in self.encoder:
            batch = block(batch)
            skips.append(batch)
        for block, skip in zip(self.decoder, skips[-2:0:-1]):
            batch = F.interpolate(batch, skip.shape[2:], mode="bilinear")
            batch = block(torch.cat((skip, batch), 1))
        return batch


class VGG16(nn.Module):
    """The convolutions of VGG16 (Simonyan and Zisserman, ICLR 2015), without its dense layers."""

    def __init__(self, pretrained: bool = False):
        super().__init__()
        vgg16 = timm.create_model("vgg16", pretrained=pretrained, num_classes=0)
        self.features = vgg16.features[:-1]  # stride 16: without the last pooling
        self.num_features = 512
        self.feature_info = [{"num_chs": 512, "reduction": 16, "module": "features.29"}]
        self.pretrained_cfg = CONFIG

    def forward_features(self, batch: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 512, H/16, W/16)."""
        return self.features(batch)

    def group_matcher(self, coarse: bool = False) -> dict[str, str | list]:
        """For --freeze: group 0 is blocks 1 to 4, group 1 is block 5."""
        return {
            "stem": r"^features\.(?:\d|1\d|2[0-3])\.",
            "blocks": [(r"^features\.(?:2[4-9])\.", None)],
        }


@register_model
def chip_resnet50(pretrained: bool = False, **_) -> nn.Module:
    """ResNet-50 as published (He et al., CVPR 2016), a stride in the first convolution of a bottleneck.

    timm and torchvision have it in the second. Weights of one fit the other, but are worse there.
    """
    refuse(pretrained)
    net = timm.create_model("resnet50", num_classes=0)
    for layer in (net.layer2, net.layer3, net.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    return net


@register_model
def chip_small_cnn(pretrained: bool = False, **_) -> SmallCNN:
    refuse(pretrained)
    return SmallCNN()


@register_model
def chip_unet(pretrained: bool = False, **_) -> UNet:
    refuse(pretrained)
    return UNet()


@register_model
def chip_vgg16(pretrained: bool = False, **_) -> VGG16:
    return VGG16(pretrained)


def refuse(pretrained: bool) -> None:
    if pretrained:
        raise ValueError("timm has no ImageNet weights of this backbone. Use --init with a file, or none")
