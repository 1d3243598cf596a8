import pytest
import torch

from chipdemo.vision.model import ChipNet

TINY = "test_efficientnet"


@pytest.mark.parametrize("attention", ["cbam", "none"])
@pytest.mark.parametrize("stages", [1, 2])
def test_evidence_and_bias_add_up_to_the_log_odds(attention, stages):
    net = ChipNet(TINY, attention, stages).eval()
    torch.nn.init.normal_(net.head.bias)
    output = net(torch.randn(4, 3, 96, 96))
    log_odds = output.logits[:, 1] - output.logits[:, 0]
    bias = net.head.bias[1] - net.head.bias[0]
    torch.testing.assert_close(output.cam.mean((1, 2)) + bias, log_odds, atol=1e-4, rtol=0)


def test_one_forward_hands_out_logits_evidence_and_both_attention_maps():
    output = ChipNet(TINY, "cbam").eval()(torch.randn(2, 3, 96, 96))
    channels, (height, width) = output.features.shape[1], output.features.shape[2:]
    assert output.logits.shape == (2, 2)
    assert output.cam.shape == output.spatial_attention.shape == (2, height, width)
    assert output.channel_attention.shape == output.embedding.shape == (2, channels)
    assert output.distance.shape == (2,)


def test_without_attention_there_are_no_attention_maps():
    net = ChipNet(TINY, "none").eval()
    output = net(torch.randn(1, 3, 96, 96))
    assert output.channel_attention is None and output.spatial_attention is None
    assert not any("attention" in name for name in net.state_dict())


def test_two_stages_see_on_the_finer_grid():
    batch = torch.randn(1, 3, 128, 128)
    coarse = ChipNet(TINY, stages=1).eval()(batch).cam
    fine = ChipNet(TINY, stages=2).eval()(batch).cam
    assert fine.shape[-1] == 2 * coarse.shape[-1]


@pytest.mark.parametrize("backbone", ["mobilenetv2_100", "resnet18", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("stages", [1, 2])
def test_any_convolutional_backbone_of_timm_serves(backbone, stages):
    output = ChipNet(backbone, "cbam", stages).eval()(torch.randn(1, 3, 64, 64))
    assert output.logits.shape == (1, 2)


def test_an_unknown_attention_is_refused_by_name():
    with pytest.raises(ValueError, match="'se'; choose one of cbam, none"):
        ChipNet(TINY, "se")


def test_too_many_stages_are_refused():
    with pytest.raises(ValueError, match="has 1 to 5"):
        ChipNet(TINY, stages=9)


def test_the_network_is_one_graph_of_tensors():
    net = ChipNet(TINY, stages=2).eval()
    batch = torch.randn(1, 3, 96, 96)
    exported = torch.export.export(net, (batch,)).module()
    torch.testing.assert_close(tuple(exported(batch)), tuple(net(batch)))
