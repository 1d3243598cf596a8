import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import spearmanr

from chipdemo.ablation.format import read_ablation
from chipdemo.errors import DataError
from chipdemo.settings import DEFAULT_MODEL
from tests.tiny import BACKBONE, draw_chips, tiny_checkpoint
from training.ablate import main
from training.ablation import results, seeds
from training.ablation.plans import PLANS, Plan, pair
from training.classical import LEARNERS, Fitted, hog_features
from training.uncertainty import interval, resampled, two_sided_p

QUICK = {"init": "none", "freeze": 0, "image_size": 64, "epochs": 1, "batch_size": 8, "stages": 1}


@pytest.fixture(scope="module")
def chips(tmp_path_factory):
    return draw_chips(tmp_path_factory.mktemp("data") / "chips", normal=50, abnormal=40)


@pytest.fixture
def small(monkeypatch):
    """Rows of a tiny network and one learner; few resamples."""
    monkeypatch.setattr(results, "RESAMPLES", 20)
    monkeypatch.setattr(seeds, "TIMED", 4)
    svm = Plan("svm-hog", "SVM, HOG", "a test", learner="svm_hog")
    return (*pair(BACKBONE, "Tiny", "tiny", "a test", **QUICK), svm)


def test_every_row_is_measured_on_the_same_test_split_and_resumed_row_by_row(small, chips, tmp_path, capfd):
    flags = ["--data", str(chips), "--out", str(tmp_path), "--seeds", "2"]
    main([*flags, "--rows", "tiny", "svm-hog"], small)
    assert [row.id for row in read_ablation(tmp_path / "ablation.json").rows] == ["tiny", "svm-hog"]
    capfd.readouterr()
    main(flags, small)
    assert "Tiny, seed" not in capfd.readouterr().out  # only what is missing is trained

    ablation = read_ablation(tmp_path / "ablation.json")
    plain, with_cbam, svm = ablation.rows
    assert [len(row.seeds) for row in ablation.rows] == [2, 2, 1]
    assert with_cbam.baseline == "tiny" and with_cbam.versus_baseline.metric == "auroc"
    assert plain.versus_baseline is None and svm.summary["accuracy"].sd is None
    assert plain.parameters < with_cbam.parameters and plain.macs > 0 and svm.macs == 0
    assert json.loads((tmp_path / "tiny-0.json").read_text())["trained_on"] == "CPU"
    assert plain.starting_weights == "none (random)" and svm.starting_weights == "none"
    assert (tmp_path / plain.checkpoint / "model.safetensors").exists()
    assert ablation.images.sha256 == tuple(json.loads((tmp_path / "split.json").read_text())["test"])
    table = (tmp_path / "ablation.md").read_text()
    assert "Tiny + CBAM" in table and "private" in table and ablation.command in table
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "latency.png",
        "roc.png",
        "reliability.png",
        "confusion.png",
    }


def test_an_ensemble_is_the_mean_of_its_finished_members(small, chips, tmp_path):
    ensemble = Plan("both", "Both", "a test", members=("tiny", "tiny-cbam"))
    plans = (*small[:2], ensemble)
    flags = ["--data", str(chips), "--out", str(tmp_path), "--seeds", "1"]
    with pytest.raises(DataError, match="tiny-0, tiny-cbam-0"):
        main([*flags, "--rows", "both"], plans)
    main(flags, plans)
    plain, with_cbam, both = read_ablation(tmp_path / "ablation.json").rows
    means = (
        logit(plain.probabilities.clip(1e-5, 1 - 1e-5)) + logit(with_cbam.probabilities.clip(1e-5, 1 - 1e-5))
    ) / 2
    assert spearmanr(both.probabilities, means).statistic > 0.95
    assert both.parameters == plain.parameters + with_cbam.parameters and both.checkpoint == ""
    assert both.latency_ms == pytest.approx(plain.latency_ms + with_cbam.latency_ms)
    assert both.throughput < min(plain.throughput, with_cbam.throughput)


def test_a_backbone_without_imagenet_weights_learns_from_the_teacher_once(
    small, chips, tmp_path, monkeypatch, capfd
):
    def out_of_reach(*_):
        raise DataError("no network")

    flags = {name: value for name, value in QUICK.items() if name != "init"}
    plans = pair(BACKBONE, "Tiny", "tiny", "a test", **flags)
    monkeypatch.setattr(seeds, "load_starting_weights", out_of_reach)
    monkeypatch.setattr(seeds, "START", QUICK | {"attention": "none"})
    teacher = tiny_checkpoint(tmp_path / "teacher")
    out = tmp_path / "out"
    main(["--data", str(chips), "--out", str(out), "--seeds", "1", "--teacher", str(teacher)], plans)
    assert capfd.readouterr().out.count("starting weights: {") == 1
    rows = read_ablation(out / "ablation.json").rows
    assert {row.starting_weights for row in rows} == {
        "distilled from teacher on the training split, no ImageNet"
    }
    learned = json.loads((out / f"{BACKBONE}-start" / "metrics.json").read_text())["training"]["options"]
    assert learned["teacher"] == str(teacher)


def test_what_is_shipped_is_the_report_with_the_checkpoints_of_a_few_rows(
    small, chips, tmp_path, monkeypatch
):
    monkeypatch.setattr(results, "SHIPPED", ("tiny-cbam",))
    monkeypatch.setattr(results, "DEFAULT", "tiny")
    out, app = tmp_path / "chips", tmp_path / "app" / "ablation"
    flags = ["--data", str(chips), "--out", str(out), "--seeds", "1", "--rows", "tiny", "tiny-cbam"]
    main([*flags, "--ship", str(app)], small)
    shipped = read_ablation(app / "chips.json")
    default, with_cbam = shipped.rows
    assert (
        app / with_cbam.checkpoint / "model.safetensors"
    ).exists() and with_cbam.checkpoint == "chips/tiny-cbam"
    assert (app / default.checkpoint).resolve() == DEFAULT_MODEL.resolve()
    assert default.seeds == read_ablation(out / "ablation.json").rows[0].seeds


def test_rows_that_are_not_trained_anew_stay_with_their_checkpoints(small, chips, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "SHIPPED", ("tiny-cbam",))
    app = tmp_path / "app"
    first = ["--data", str(chips), "--out", str(tmp_path / "first" / "chips"), "--seeds", "1"]
    main([*first, "--rows", "tiny", "tiny-cbam", "--ship", str(app)], small)
    before = read_ablation(app / "chips.json")
    second = ["--data", str(chips), "--out", str(tmp_path / "second" / "chips"), "--rows", "svm-hog"]
    main([*second, "--keep", str(app / "chips.json"), "--ship", str(app)], small)
    after = read_ablation(app / "chips.json")
    plain, with_cbam, svm = after.rows
    assert (plain, with_cbam) == before.rows and svm.id == "svm-hog"
    assert after.machine.endswith(f" (new: svm-hog); the other rows: {before.date}, {before.machine}")
    assert (app / with_cbam.checkpoint / "model.safetensors").exists()
    others = draw_chips(tmp_path / "others", normal=40, abnormal=30)
    with pytest.raises(DataError, match="other test images"):
        flags = ["--data", str(others), "--out", str(tmp_path / "third"), "--rows", "svm-hog"]
        main([*flags, "--keep", str(app / "chips.json")], small)


def test_an_ablation_says_which_seeds_were_trained_on_a_gpu(small, chips, tmp_path):
    run = ["--data", str(chips), "--out", str(tmp_path), "--rows", "svm-hog"]
    main(run, small)
    file = tmp_path / "svm-hog-0.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"trained_on": "NVIDIA H100"}))
    main([*run, "--report"], small)
    machine = read_ablation(tmp_path / "ablation.json").machine
    assert machine.endswith("; trained on one NVIDIA H100: 1 seed of svm-hog")


def test_rows_of_another_division_are_not_mixed(small, chips, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps({"train": [], "val": [], "test": []}))
    with pytest.raises(DataError, match="split.json"):
        main(["--data", str(chips), "--out", str(tmp_path)], small)


def test_a_report_of_nothing_says_so(small, chips, tmp_path):
    with pytest.raises(DataError, match=tmp_path.name):
        main(["--data", str(chips), "--out", str(tmp_path), "--report"], small)


def test_a_row_that_cannot_be_trained_ends_the_run_and_leaves_no_result(small, chips, tmp_path):
    broken = Plan(
        "broken",
        "Broken",
        "a test",
        QUICK | {"backbone": BACKBONE, "attention": "none", "init": "no_such_folder"},
    )
    with pytest.raises(DataError, match="no_such_folder"):
        main(["--data", str(chips), "--out", str(tmp_path)], (broken,))
    assert not (tmp_path / "broken-0.json").exists()


def test_a_row_and_its_baseline_differ_in_attention_only():
    by_id = {plan.id: plan for plan in PLANS}
    for plan in PLANS:
        if plan.baseline:
            baseline = by_id[plan.baseline]
            assert plan.flags | {"attention": "none"} == baseline.flags and plan.seeds == baseline.seeds >= 3


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_tells_separable_classes_apart_with_calibrated_probabilities(name, monkeypatch):
    if name == "random_forest":  # as it is, but with fewer trees, which are grown 11 times
        forest = LEARNERS[name].build(0).set_params(n_estimators=30)
        monkeypatch.setitem(LEARNERS, name, replace(LEARNERS[name], build=lambda seed: forest))
    generator = np.random.default_rng(0)

    def draw(count):
        abnormal = np.arange(count) % 3 == 0
        return generator.normal(0, 1, (count, 8)) + 3 * abnormal[:, None], abnormal

    (features, abnormal), (val, val_abnormal), (test, test_abnormal) = draw(90), draw(60), draw(60)
    fitted = Fitted(name, 0, features, abnormal, val, val_abnormal)
    probability = fitted.probability(test)
    assert probability[test_abnormal].min() > probability[~test_abnormal].mean()
    assert ((probability >= fitted.threshold) == test_abnormal).mean() > 0.9


def test_one_wild_score_among_the_held_out_ones_does_not_turn_the_verdicts_around(monkeypatch):
    learner = replace(LEARNERS["logistic_regression"], grid={"logisticregression__C": [1.0]})
    monkeypatch.setitem(LEARNERS, "logistic_regression", learner)
    abnormal = np.arange(40) % 3 == 0
    features = np.random.default_rng(0).normal(0, 1, (40, 4)) + 6 * abnormal[:, None]
    val = features.copy()
    val[0] = -500
    fitted = Fitted("logistic_regression", 0, features, abnormal, val, abnormal)
    probability = fitted.probability(features)
    assert probability[abnormal].min() > fitted.threshold > probability[~abnormal].max()


def test_hog_sees_a_crack_and_not_the_brightness():
    flat = np.full((1, 64, 64, 3), 90, np.uint8)
    cracked = flat.copy()
    cracked[0, 20:24, 5:60] = 0
    assert np.abs(hog_features(flat) - hog_features(flat + 60)).max() < 1e-3
    assert np.abs(hog_features(cracked) - hog_features(flat)).max() > 0.1


def test_resamples_are_paired_hold_both_classes_and_give_an_interval():
    abnormal = np.array([True] + [False] * 9)
    first, second = (resampled(lambda rows: rows, abnormal, 50) for _ in range(2))
    assert (first == second).all() and all(0 < abnormal[rows].sum() < 10 for rows in first)
    low, high = interval(np.stack((np.arange(1001), np.zeros(1001)), 1))
    assert low.tolist() == [25, 0] and high.tolist() == [975, 0]


def test_p_is_small_where_the_difference_has_one_sign_and_large_where_it_has_both():
    assert two_sided_p(np.full(1000, 0.1)) == 0.001
    assert two_sided_p(np.linspace(-1, 1, 1000)) == pytest.approx(1.0)
