"""The rows of an ablation: the systems of the two papers, and how each is trained."""

from dataclasses import dataclass, field

SCRATCH = {"init": "none", "freeze": 0, "learning_rate": 2e-3, "head_rate": 1.0}
KIM, ULLAH = "Kim et al., Table 1", "Ullah et al."
TUNED = {"views": 12, "epochs": 24, "learning_rate": 2e-4, "averaging": 0.4}  # as benchmarks/recipe.py found
# Flags for distilling the starting weights of a backbone without ImageNet weights
START = SCRATCH | {"attention": "none", "stages": 1, "image_size": 160, "epochs": 10}


@dataclass(frozen=True)
class Plan:
    """A row before it is trained.

    source: the paper that it follows. flags: of training/train.py. baseline: id of the same row without
    attention. learner: of training/classical.py. members: ids of the rows whose networks of the same seed
    an ensemble averages. start: flags that replace those of START. seeds: how many are trained.
    """

    id: str
    name: str
    source: str
    flags: dict = field(default_factory=dict)
    baseline: str | None = None
    learner: str = ""
    members: tuple[str, ...] = ()
    start: dict = field(default_factory=dict)
    seeds: int = 1


def pair(backbone: str, name: str, id: str, source: str, seeds: int = 3, **flags) -> tuple[Plan, Plan]:
    """A network without and with CBAM, trained with the same flags."""
    flags |= {"backbone": backbone}
    plain = Plan(id, name, source, flags | {"attention": "none"}, seeds=seeds)
    with_cbam = flags | {"attention": "cbam"}
    return plain, Plan(f"{id}-cbam", f"{name} + CBAM", source, with_cbam, id, seeds=seeds)


PLANS = (
    *pair("mobilenetv2_100", "MobileNetV2", "mobilenetv2", KIM, stages=1),
    *pair("chip_resnet50", "ResNet-50", "resnet50", KIM, seeds=5, **TUNED),
    *pair("tf_efficientnet_lite0", "EfficientNet-Lite0", "lite0", "not in the papers", seeds=5),
    Plan(
        "vgg16",
        "VGG16, block 5 tuned",
        f"{ULLAH}, public code",
        {"backbone": "chip_vgg16", "attention": "none", "stages": 1, "freeze": 1},
        start={"image_size": 96, "epochs": 4},  # it takes four times as long as ResNet-50
    ),
    Plan(
        "small-cnn",
        "Small CNN",
        ULLAH,
        SCRATCH | {"backbone": "chip_small_cnn", "attention": "none", "stages": 1, "epochs": 40},
    ),
    Plan(
        "unet",
        "U-Net encoder-decoder",
        ULLAH,
        SCRATCH
        | {"backbone": "chip_unet", "attention": "none", "stages": 1, "image_size": 160, "epochs": 16},
    ),
    Plan("svm", "SVM, deep features", ULLAH, learner="svm"),
    Plan("random-forest", "Random forest, deep features", ULLAH, learner="random_forest"),
    Plan("knn", "k-nearest neighbors, deep features", ULLAH, learner="knn"),
    Plan("logistic", "Logistic regression, deep features", ULLAH, learner="logistic_regression"),
    Plan("boosting", "Gradient boosting, deep features", ULLAH, learner="gradient_boosting"),
    Plan("svm-hog", "SVM, HOG", ULLAH, learner="svm_hog"),
    Plan(
        "ensemble",
        "MobileNetV2, EfficientNet-Lite0 and ResNet-50, each + CBAM",
        "the ensemble of lowest validation loss",
        members=("mobilenetv2-cbam", "lite0-cbam", "resnet50-cbam"),
    ),
)
SHIPPED = ("mobilenetv2-cbam", "lite0-cbam")  # rows whose checkpoints come with the app
DEFAULT = "resnet50-cbam"  # the row of the app's default model, which is its first seed
