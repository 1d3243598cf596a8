import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from training.linear import chosen_regularization, logistic


def drawn(count=200, channels=30, noise=0.0):
    """One view of `count` images whose class depends on the first channel, and the truth."""
    generator = np.random.default_rng(0)
    features = generator.normal(5, 3, (1, count, channels)).astype(np.float32)
    return features, (features[0, :, 0] + noise * generator.normal(size=count) > 5).astype(np.float32)


def test_the_weights_are_those_of_a_regression_on_standardized_features():
    features, target = drawn()
    scaled = StandardScaler().fit_transform(features[0])
    expected = LogisticRegression(C=0.01).fit(scaled, target).decision_function(scaled)
    weights, bias = logistic(features, target, 0.01)
    np.testing.assert_allclose(features[0] @ weights + bias, expected, atol=1e-3)


def test_views_of_an_image_count_as_one():
    features, target = drawn()
    one, four = logistic(features, target, 0.01), logistic(np.repeat(features, 4, 0), target, 0.01)
    np.testing.assert_allclose(four[0], one[0], atol=1e-4)


def test_an_image_that_annotators_disagree_on_counts_for_both_classes():
    features, target = drawn()
    unsure = np.where(target > 0.5, 0.7, 0.3).astype(np.float32)
    sure, less = logistic(features, target, 1.0), logistic(features, unsure, 1.0)
    probability = 1 / (1 + np.exp(-(features[0] @ less[0] + less[1])))
    assert np.mean(probability[target > 0.5]) == pytest.approx(0.7, abs=0.1)
    assert np.linalg.norm(less[0]) < 0.5 * np.linalg.norm(sure[0])


def test_groups_are_held_out_together():
    """Four copies of each image: by itself each would be recognized, and weak regularization look best."""
    features, target = drawn(40, 100, noise=6)
    features, target = np.tile(features, (1, 4, 1)), np.tile(target, 4)
    names = [str(row) for row in range(len(target))]
    assert chosen_regularization(features, target, names) > chosen_regularization(
        features, target, names[:40] * 4
    )
