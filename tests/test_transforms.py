import numpy as np
import pytest
import torch
from PIL import Image

from chipdemo.vision.transforms import normalize, pixels_of


def test_the_whole_image_is_kept():
    image = Image.new("RGB", (300, 100), "black")
    image.paste("white", (280, 0, 300, 100))  # a defect at the right edge
    pixels = pixels_of(image, 60, "bilinear")
    assert pixels.shape == (60, 60, 3) and pixels.dtype == np.uint8
    assert pixels[:, -1].min() > 240 and pixels[:, 0].max() == 0


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_grey_image_is_scaled_once_to_the_pixels_of_a_colored_one(interpolation):
    gray = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70), np.uint8)).convert("RGB")
    scaled = Image.merge("RGB", [band.copy() for band in gray.split()]).resize(
        (32, 32), getattr(Image.Resampling, interpolation.upper())
    )
    np.testing.assert_array_equal(pixels_of(gray, 32, interpolation), np.asarray(scaled))


def test_pixels_are_normalised_to_channels_first():
    pixels = torch.tensor([[[[0, 128, 255]]]], dtype=torch.uint8)
    batch = normalize(pixels, (0.5, 0.5, 0.0), (0.5, 0.25, 1.0))
    assert batch.shape == (1, 3, 1, 1)
    torch.testing.assert_close(batch[0, :, 0, 0], torch.tensor([-1, (128 / 255 - 0.5) / 0.25, 1.0]))


def test_train_and_serve_see_the_same_tensor():
    """The trainer's array of pixels and the inspector's single image, normalized, are equal."""
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    image = Image.fromarray(noise)
    stacked = np.stack([pixels_of(image, 32, "bicubic")] * 3)
    training = normalize(torch.from_numpy(stacked), (0.5,) * 3, (0.5,) * 3)
    serving = normalize(
        torch.from_numpy(pixels_of(image, 32, "bicubic")[None].copy()), (0.5,) * 3, (0.5,) * 3
    )
    torch.testing.assert_close(training[2:], serving, rtol=0, atol=0)
