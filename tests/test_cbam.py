import torch

from chipdemo.vision.cbam import CBAM, ChannelAttention, SpatialAttention


def test_channel_attention_adds_the_shared_mlp_of_mean_and_max_as_in_equation_2():
    attention = ChannelAttention(4, reduction=2)
    features = torch.randn(3, 4, 5, 5)
    mean, highest = features.mean((2, 3)), features.amax((2, 3))
    expected = torch.sigmoid(attention.mlp(mean) + attention.mlp(highest))
    torch.testing.assert_close(attention(features), expected)


def test_spatial_attention_convolves_mean_and_max_over_channels_as_in_equation_3():
    attention = SpatialAttention(kernel=7)
    with torch.no_grad():
        attention.conv.weight.zero_()
        attention.conv.weight[0, 1, 3, 3] = 2.0  # twice the maximum over the channels, in place
    features = torch.randn(2, 6, 9, 9)
    torch.testing.assert_close(attention(features), torch.sigmoid(2 * features.amax(1)))


def test_cbam_applies_channels_first_and_hands_both_maps_out():
    cbam = CBAM(32)
    features = torch.randn(2, 32, 7, 7)
    by_channel, channel, spatial = cbam(features)
    torch.testing.assert_close(by_channel, features * cbam.channel(features)[:, :, None, None])
    torch.testing.assert_close(spatial, cbam.spatial(by_channel))
    assert channel.shape == (2, 32) and spatial.shape == (2, 7, 7)
    assert channel.min() > 0 and channel.max() < 1


def test_the_papers_reduction_of_16_and_kernel_of_7_are_the_defaults():
    cbam = CBAM(64)
    assert cbam.channel.mlp[0].out_features == 4
    assert cbam.spatial.conv.kernel_size == (7, 7)
