import torch

from training.augment import augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_augmentation_is_reproducible_by_its_generator():
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    drawn = torch.rand(1)
    torch.testing.assert_close(augment(pixels, generator()), augment(pixels, generator()))
    assert not torch.equal(augment(pixels, generator()), augment(pixels, generator(1)))
    torch.manual_seed(0)
    augment(pixels, generator())
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after) and drawn.shape == (1,)  # the global generator is left alone


def test_shape_and_type_stay_and_gray_images_stay_gray():
    colored = torch.randint(0, 256, (3, 40, 40, 3), dtype=torch.uint8)
    gray = colored[..., :1].expand(-1, -1, -1, 3)
    for pixels in (colored, gray):
        out = augment(pixels, generator())
        assert out.shape == (3, 40, 40, 3) and out.dtype == torch.uint8
    assert torch.equal(out[..., 0], out[..., 1]) and torch.equal(out[..., 0], out[..., 2])


def test_without_strength_each_of_the_eight_turns_and_flips_occurs_and_nothing_else():
    pixels = torch.zeros(1, 40, 40, 3, dtype=torch.uint8)
    pixels[0, 4:8, 4:20] = 200  # a bar near the top left corner
    seen = set()
    for seed in range(200):
        bright = augment(pixels, generator(seed), strength=0.0)[0, :, :, 0]
        assert bright.unique().tolist() == [0, 200]
        rows, columns = torch.nonzero(bright, as_tuple=True)
        lying = int(columns.max() - columns.min() > rows.max() - rows.min())
        seen.add((lying, bool(rows.float().mean() < 19.5), bool(columns.float().mean() < 19.5)))
    assert len(seen) == 8


def test_with_strength_light_noise_and_position_change():
    pixels = torch.full((64, 40, 40, 3), 128, dtype=torch.uint8)
    out = augment(pixels, generator()).float()
    means, spread = out.mean((1, 2, 3)), out.std((1, 2, 3))
    assert means.min() < 120 and means.max() > 136
    assert (spread > 2).any() and (spread < 0.5).any()


def test_a_defect_is_not_shifted_out():
    pixels = torch.zeros(64, 50, 50, 3, dtype=torch.uint8)
    pixels[:, 3:7, 3:7] = 255
    assert (augment(pixels, generator()).amax((1, 2, 3)) > 60).all()
