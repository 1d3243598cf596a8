import torch

from training.augment import augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_augmentation_is_reproducible_by_its_generator():
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    torch.testing.assert_close(augment(pixels, generator()), augment(pixels, generator()))
    assert not torch.equal(augment(pixels, generator()), augment(pixels, generator(1)))


def test_values_stay_in_range_and_shapes_as_they_were():
    out = augment(torch.full((8, 20, 20, 3), 250, dtype=torch.uint8), generator())
    assert out.shape == (8, 20, 20, 3) and out.dtype == torch.float32
    assert out.min() >= 0 and out.max() <= 255


def test_each_of_the_eight_turns_and_flips_occurs_and_nothing_is_interpolated():
    pixels = torch.zeros(1, 40, 40, 3, dtype=torch.uint8)
    pixels[0, 4:8, 4:20] = 200  # a bar near the top left corner
    seen = set()
    for seed in range(200):
        bright = augment(pixels, generator(seed))[0, :, :, 0]
        assert len(bright.unique()) == 2  # bar and ground: no blurred edge
        rows, columns = torch.nonzero(bright == bright.max(), as_tuple=True)
        lying = int(columns.max() - columns.min() > rows.max() - rows.min())
        seen.add((lying, bool(rows.float().mean() < 19.5), bool(columns.float().mean() < 19.5)))
    assert len(seen) == 8


def test_a_defect_is_not_shifted_out():
    pixels = torch.zeros(64, 50, 50, 3, dtype=torch.uint8)
    pixels[:, 2:5, 2:5] = 255
    assert (augment(pixels, generator()).amax((1, 2, 3)) > 100).all()
