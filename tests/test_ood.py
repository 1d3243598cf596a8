import torch

from chipdemo.vision.ood import OODDetector


def training_embeddings(count: int = 400, channels: int = 200) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(10, channels, generator=generator)
    noise = 0.1 * torch.randn(count, channels, generator=generator)
    return torch.randn(count, 10, generator=generator) @ mixing + noise + 3


def test_a_fresh_module_finds_nothing_unfamiliar():
    assert OODDetector(8)(torch.full((2, 8), 100.0)).tolist() == [0, 0]


def test_training_embeddings_are_about_the_root_of_the_channels_away():
    detector = OODDetector(200)
    detector.fit(training_embeddings())
    distance = detector(training_embeddings())
    assert abs(distance.mean().item() - 200**0.5) < 1


def test_an_embedding_off_the_learned_directions_is_far():
    detector = OODDetector(200)
    embeddings = training_embeddings()
    detector.fit(embeddings)
    odd = embeddings[:5] + 2 * torch.randn(5, 200, generator=torch.Generator().manual_seed(1))
    assert detector(odd).min() > 3 * detector(embeddings).max()


def test_few_images_are_enough_to_fit():
    detector = OODDetector(200)
    detector.fit(training_embeddings(count=6))
    assert torch.isfinite(detector(training_embeddings())).all()
