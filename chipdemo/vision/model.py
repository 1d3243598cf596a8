"""ChipNet: the last convolutional features of any timm backbone -> CBAM -> mean -> two classes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chipdemo.inspection import CLASSES
from chipdemo.vision.backbones import create_backbone
from chipdemo.vision.cbam import CBAM
from chipdemo.vision.ood import OODDetector

ATTENTIONS = ("cbam", "none")


class ChipNetOutput(NamedTuple):
    """What one forward gives. N images, C channels, (h, w) patches.

    logits: (N, 2), in the order of CLASSES, before calibration.
    cam: (N, h, w), the class activation map: each patch's share in the log-odds. Its mean plus the
        difference of the biases is logits[:, 1] - logits[:, 0] exactly, because the pooled head is linear.
    abnormal_map: (N, h, w), the share of the class "abnormal" alone.
    pooled: (N, C), the mean of the features.
    by_channel: (N, C, h, w), the features before the spatial attention, where there is one.
    channel_attention: (N, C), 0-1; None without attention.
    spatial_attention: (N, h, w), 0-1; None without attention.
    embedding: (N, C), the backbone's pooled features before the attention.
    distance: (N,), of the embedding from those of the training images.
    intermediates: the backbone's features of the stages that were asked for, each (N, C, h, w).
    """

    logits: Tensor
    cam: Tensor
    abnormal_map: Tensor
    pooled: Tensor
    by_channel: Tensor
    channel_attention: Tensor | None
    spatial_attention: Tensor | None
    embedding: Tensor
    distance: Tensor
    intermediates: tuple[Tensor, ...]

    @property
    def features(self) -> Tensor:
        """(N, C, h, w), what the head pools (behind the attention, where there is one)."""
        if self.spatial_attention is None:
            return self.by_channel
        return self.by_channel * self.spatial_attention[:, None]


def patches_of(features: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h w, C), the same memory where it is channels last."""
    return features.permute(0, 2, 3, 1).flatten(1, 2)


class ChipNet(nn.Module):
    """A chip classifier with an exact class activation map.

    backbone: any timm convolutional model's name. attention: "cbam" or "none".
    stages: how many of the backbone's last resolutions are joined; with 2, the finer one
        (stride 16) sees small cracks that the last one (stride 32) has averaged away, and
        the maps have its grid.
    dropout: of the pooled features while training, fraction; no effect afterwards.
    image_size: side of the input, pixels, which a transformer is made for.
    Weights are random; weights.py loads trained ones, training/ starts from ImageNet's.
    """

    def __init__(
        self,
        backbone: str = "tf_efficientnet_lite0",
        attention: str = "cbam",
        stages: int = 1,
        dropout: float = 0.0,
        image_size: int = 0,
    ):
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"attention is {attention!r}; choose one of {', '.join(ATTENTIONS)}")
        self.name = backbone
        self.backbone = create_backbone(backbone, image_size)
        info = self.backbone.feature_info
        if not 1 <= stages <= len(info):
            raise ValueError(f"stages is {stages}; {backbone} has 1 to {len(info)}")
        self.finer = list(range(len(info) - stages, len(info) - 1))  # stages joined to the last
        channels = self.backbone.num_features + sum(info[stage]["num_chs"] for stage in self.finer)
        self.attention = CBAM(channels) if attention == "cbam" else None
        self.ood = OODDetector(channels)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, len(CLASSES))

    def backbone_features(self, batch: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images -> (N, C, h, w) convolutional features."""
        return self._features(batch, ())[0]

    @property
    def patch_stages(self) -> tuple[int, ...]:
        """The layers whose features describe a patch, finest first: those of strides 8 and 16.

        Of a transformer, whose layers are all as fine, those at half and three quarters of its depth.
        Raises ValueError for a backbone without such layers.
        """
        strides = self.strides
        if hasattr(self.backbone, "forward_intermediates"):
            if {8, 16} <= set(strides):
                return strides.index(8), strides.index(16)
            if len(strides) >= 4 and len(set(strides)) == 1:
                return len(strides) // 2 - 1, 3 * len(strides) // 4 - 1
        raise ValueError(f"{self.name} has no layers of strides 8 and 16, and is no transformer of patches")

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between neighboring patches of each layer of feature_info."""
        return tuple(info["reduction"] for info in self.backbone.feature_info)

    def _features(self, batch: Tensor, stages: Sequence[int]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What the head's side gets, and the features of further stages, in one pass."""
        wanted = sorted({*self.finer, *stages})
        if not wanted:
            return self._on_grid(self.backbone.forward_features(batch), batch), ()
        last, maps = self.backbone.forward_intermediates(batch, indices=wanted)
        last = self._on_grid(last, batch)
        by_stage = dict(zip(wanted, maps))
        intermediates = tuple(by_stage[stage] for stage in stages)
        if not self.finer:
            return last, intermediates
        maps = [by_stage[stage] for stage in self.finer]
        size = maps[0].shape[2:]  # the finest grid
        maps = [F.interpolate(m, size, mode="bilinear") if m.shape[2:] != size else m for m in maps]
        return torch.cat((*maps, F.interpolate(last, size, mode="bilinear")), 1), intermediates

    def _on_grid(self, features: Tensor, batch: Tensor) -> Tensor:
        """Tokens of a transformer (N, T, C) -> (N, C, h, w); the features of other networks as they are."""
        if features.ndim == 4:
            return features
        height, width = (side // self.strides[-1] for side in batch.shape[2:])
        return features[:, -height * width :].transpose(1, 2).unflatten(2, (height, width))

    def intermediates(self, batch: Tensor, stages: Sequence[int]) -> tuple[Tensor, ...]:
        """(N, 3, H, W) normalized images -> the features of these stages alone; what follows is not run."""
        return tuple(
            self.backbone.forward_intermediates(
                batch, indices=list(stages), intermediates_only=True, stop_early=True
            )
        )

    def attend(self, features: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(N, C, h, w) -> features by channel, channel weights (N, C), spatial weights (N, h, w)."""
        return (features, None, None) if self.attention is None else self.attention(features)

    def classify(self, features: Tensor) -> Tensor:
        """(N, C, h, w) refined features -> (N, 2) logits."""
        return self.head(self.dropout(features.mean((2, 3))))

    def forward(self, batch: Tensor, stages: Sequence[int] = ()) -> ChipNetOutput:
        """(N, 3, H, W) normalized images -> logits, maps and features.

        stages: of feature_info, whose features are wanted too, such as patch_stages.
        """
        raw, intermediates = self._features(batch, stages)
        features, channel, spatial = self.attend(raw)
        normal, abnormal = self.head.weight[0], self.head.weight[1]  # (C,) each, constants of a graph
        directions = torch.stack((abnormal - normal, abnormal))
        maps = F.conv2d(features, directions[:, :, None, None])  # (N, C, h, w) -> (N, 2, h, w)
        if spatial is None:
            pooled = features.mean((2, 3))  # (N, C, h, w) -> (N, C)
        else:
            maps = maps * spatial[:, None]
            by_patch = patches_of(features)
            pooled = (spatial.flatten(1)[:, None] @ by_patch)[:, 0] / by_patch.shape[
                1
            ]  # (N, h w, C) -> (N, C)
        embedding = raw.mean((2, 3))
        return ChipNetOutput(
            logits=self.head(self.dropout(pooled)),
            cam=maps[:, 0],
            abnormal_map=maps[:, 1],
            pooled=pooled,
            by_channel=features,
            channel_attention=channel,
            spatial_attention=spatial,
            embedding=embedding,
            distance=self.ood(embedding),
            intermediates=intermediates,
        )
