import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM

from chipdemo.regions import regions_of
from chipdemo.vision.cam import GRADIENT_METHODS, fixed_scale_heatmap, strongest_channels
from chipdemo.vision.gradients import gradient_heat
from chipdemo.vision.runtimes.engine import EngineOutput
from chipdemo.vision.runtimes.pytorch import maps_of
from tests.tiny import tiny_net


def test_heat_has_a_fixed_scale():
    cam = np.array([[-1.0, 0.0], [2.0, 8.0]], np.float32)
    np.testing.assert_allclose(fixed_scale_heatmap(cam, heat_scale=2), [[0, 0], [0.5, 1]])


def test_a_normal_chip_shows_no_red():
    faint = np.array([[0.1, 0.3], [0.2, 0.0]], np.float32)
    assert fixed_scale_heatmap(faint, heat_scale=2).max() < 0.5
    assert regions_of(fixed_scale_heatmap(faint, heat_scale=2), (100, 100)) == ()


def test_a_region_is_found_where_the_heat_is_in_pixels_of_the_image():
    heat = np.zeros((10, 10), np.float32)
    heat[2, 7] = 1.0
    (region,) = regions_of(heat, (400, 200))
    assert region.score == pytest.approx(1, abs=0.15)
    assert abs(region.x + region.width / 2 - 7.5 * 40) < 5
    assert abs(region.y + region.height / 2 - 2.5 * 20) < 3
    assert 0 < region.area <= region.width * region.height


def test_separate_places_are_separate_regions_hottest_first():
    heat = np.zeros((10, 10), np.float32)
    heat[1, 1], heat[8, 8] = 0.7, 0.9
    regions = regions_of(heat, (100, 100))
    assert [round(region.x, -1) for region in regions] == [80, 10]


def test_a_region_at_the_edge_stays_in_the_image():
    (region,) = regions_of(np.ones((4, 4), np.float32), (37, 53))
    assert (region.x, region.y, region.width, region.height) == (0, 0, 37, 53)
    assert region.area == 37 * 53


def test_the_strongest_channels_are_those_with_the_highest_weight():
    net = tiny_net()
    output = net(torch.randn(2, 3, 64, 64))
    maps = {name: tensor.detach().numpy() for name, tensor in maps_of(output).items()}
    channels = strongest_channels(EngineOutput(**maps).of(1))
    weights = output.channel_attention[1].detach()
    assert [channel.index for channel in channels] == weights.argsort(descending=True)[:6].tolist()
    assert [channel.weight for channel in channels] == weights.sort(descending=True).values[:6].tolist()
    features = output.features[1, channels[0].index].detach().relu()
    np.testing.assert_allclose(channels[0].heatmap, features / features.max(), atol=1e-6)


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_every_method_of_the_library_gives_a_map_on_the_grid(method):
    net = tiny_net()
    features = net(torch.randn(1, 3, 64, 64)).features
    heat = gradient_heat(net, features, method)
    assert heat.shape == features.shape[2:] and heat.dtype == np.float32
    assert heat.min() >= 0 and heat.max() <= 1


def test_evidence_equals_grad_cam_up_to_relu_and_scaling():
    """The library runs on the whole network here, hooked at the CBAM output, as it is published."""
    net = tiny_net()

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.cbam_output = net, torch.nn.Identity()

        def forward(self, batch):
            by_channel, _, spatial = net.attend(net.backbone_features(batch))
            return net.classify(self.cbam_output(by_channel * spatial[:, None]))

    whole = Whole()
    for seed in range(5):
        batch = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
        with GradCAM(whole, [whole.cbam_output]) as cam:
            theirs = cam(batch, targets=[lambda logits: logits[1] - logits[0]])[0]
        ours = np.maximum(net(batch).cam[0].detach().numpy(), 0)
        repeated = theirs.reshape(ours.shape[0], -1, ours.shape[1], theirs.shape[1] // ours.shape[1])
        if ours.max() > 0:
            shrunk = gradient_heat(net, net(batch).features, "Grad-CAM")
            assert np.corrcoef(ours.ravel(), shrunk.ravel())[0, 1] > 0.999
            assert np.corrcoef(ours.ravel(), repeated.mean((1, 3)).ravel())[0, 1] > 0.9


def test_an_unknown_method_is_refused_by_name():
    net = tiny_net()
    with pytest.raises(ValueError, match="'guess'; choose one of Grad-CAM"):
        gradient_heat(net, net(torch.randn(1, 3, 64, 64)).features, "guess")
