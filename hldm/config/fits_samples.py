"""Rules about what is drawn and measured: data sets, extractors, known trees."""

from collections.abc import Iterator

from hldm.config.dataset import Branching, Omniglot, TreeImages
from hldm.config.metrics import (
    DigitClassifier,
    DINOv2Features,
    Hierarchy,
    InceptionFeatures,
    MarginalLikelihood,
    Metrics,
)
from hldm.config.pictures import Folder, Pictures
from hldm.config.schema import RunConfig
from hldm.config.training import Stage
from hldm.console import shown

DIGIT_SIDE = 28
"""Height and width of what the digit classifier sees."""

MOST_IMAGES = 10**6
"""Of a tree whose images are made and kept in memory: 784 MB."""

MOST_NUMBERS = 10**9
"""Of a tree of vectors, which are made and kept in memory: 4 GB."""

MIN_SAMPLES = 10
"""Parts into which the inception score and the classes of a data set cut the samples."""


def data(c: RunConfig) -> Iterator[str]:
    """There are as many images as training and metrics ask for, and they are what the metrics look at."""
    metrics = c.metrics
    yield from amounts(c, c.dataset.training_images, c.dataset.test_images)
    yield from shares(metrics)
    if side := c.dataset.image_side:
        smaller = f"dataset.side={DIGIT_SIDE}, or " if isinstance(c.dataset, Omniglot) else ""
        yield from pictures(metrics, (c.dataset.image_channels, side, side), smaller)
    if not metrics.extractors:
        return
    if metrics.samples < MIN_SAMPLES:
        yield (
            f"metrics.samples={metrics.samples} is too few: the inception score is a mean over {MIN_SAMPLES} parts of "
            f"the samples. Type metrics.samples={MIN_SAMPLES} at least."
        )
    few = list(judged_by(c, c.dataset.test_images))
    yield from few
    most = c.dataset.floor_images
    if most is not None and most < MIN_SAMPLES:
        if not few and not _is_lacking(c):
            yield (
                f"The floor needs {MIN_SAMPLES} training images with classes as often as the test images have them, "
                f"and there are {most}: a class has too few. Add pictures of it, put classes together, or type "
                "metrics.extractors=[], which draws no samples."
            )
    elif most is not None and metrics.samples > most:
        yield (
            f"metrics.samples={metrics.samples} asks for more real images of a class than the training set has, for "
            f"the floor: {most} at most have classes as often as the test images. Try "
            f"metrics.samples={min(5000, most)}."
        )
    if len(set(metrics.sampling_seeds)) < len(metrics.sampling_seeds):
        distinct = list(dict.fromkeys(metrics.sampling_seeds))
        yield (
            f"metrics.sampling_seeds={shown(metrics.sampling_seeds)} has a seed twice, whose samples would be the same "
            f"ones. Type metrics.sampling_seeds={shown(distinct)}."
        )
    yield from extractors(c)


def judged_by(c: RunConfig, images: int | None) -> Iterator[str]:
    """There are as many real images as metrics of samples need, None where that is not known yet; asked again as
    `amounts` is, of what samples are held against."""
    if images is None or images >= MIN_SAMPLES or not c.metrics.extractors or _is_lacking(c):
        return
    share = c.dataset.test_share_for(MIN_SAMPLES, images) if isinstance(c.dataset, Pictures) else None
    remedy = "Add pictures" if share is None else f"Type dataset.test_share={share:g}"
    other = "type metrics.extractors=[], which draws no samples" if images else "put classes together"
    yield (
        f"There are {images} images to judge by, and FID, KID and the inception score need {MIN_SAMPLES} at least. "
        f"{remedy}, or {other}."
    )


def _is_lacking(c: RunConfig) -> bool:
    """Whether the folder itself says why there are so few pictures, in `missing`."""
    return isinstance(c.dataset, Folder) and c.dataset.missing() is not None


def amounts(c: RunConfig, total: int | None, test: int | None, floor: int | None = None) -> Iterator[str]:
    """There are as many images as a run asks for: `total` to train on, `test` to judge by, `floor` to draw real ones
    from; None where not known yet.

    A run asks this again when its data have been read, which may have lost damaged ones.
    """
    metrics = c.metrics
    stages: list[tuple[str, Stage | None]] = [
        ("first_stage", None if c.first_stage else c.training.first_stage),
        ("diffusion", c.training.diffusion if c.has_diffusion else None),
    ]
    for name, stage in stages:
        if stage and total and stage.batch_size > total:
            yield (
                f"training.{name}.batch_size={stage.batch_size} is more than the {total} images there are to train "
                f"on. Try training.{name}.batch_size={min(128, total)}."
            )
    if metrics.extractors and floor is not None and metrics.samples > floor:
        yield (
            f"metrics.samples={metrics.samples} asks for more real images than there are for the floor, {floor}. "
            + (
                f"Try metrics.samples={floor}."
                if floor >= MIN_SAMPLES
                else f"It needs {MIN_SAMPLES}: add pictures, or type metrics.extractors=[], which draws no samples."
            )
        )
    if isinstance(c.dataset, Pictures):  # of one's own there are as many as there are: all of them will do
        return
    asked: list[tuple[str, int]] = [
        ("metrics.first_stage_images", metrics.first_stage_images),
        ("metrics.likelihood_images", c.bound_images),
    ]
    if isinstance(metrics.likelihood, MarginalLikelihood):
        asked.append(("metrics.likelihood.images", metrics.likelihood.images))
    for key, images in asked:
        if test and images > test:
            yield f"{key}={images} is more than the {test} test images there are. Type {key}={test} for all."


def shares(metrics: Metrics) -> Iterator[str]:
    """What looks at a part of some images asks for no more than all of them. The schema's default, and less, may: it is
    all of fewer without a word."""
    hierarchy, likelihood = metrics.hierarchy, metrics.likelihood
    usual, of = Hierarchy(), ("first_stage_images", metrics.first_stage_images)
    asked = [("hierarchy.points", hierarchy.points, usual.points, *of)]
    if hierarchy.draws:
        asked.append(("hierarchy.test_points", hierarchy.test_points, usual.test_points, *of))
    if isinstance(likelihood, MarginalLikelihood):
        checked, most = likelihood.checked_images, MarginalLikelihood().checked_images
        asked.append(("likelihood.checked_images", checked, most, "likelihood.images", likelihood.images))
    for key, part, most, whole_key, whole in asked:
        if part > max(whole, most):
            yield (
                f"metrics.{key}={part} is more than metrics.{whole_key}={whole}, of which it is a part. Type "
                f"metrics.{key}={whole} for all."
            )


def extractors(c: RunConfig) -> Iterator[str]:
    """Every extractor is there once."""
    metrics = c.metrics
    names = [extractor.name for extractor in metrics.extractors]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        yield (
            f"metrics.extractors has {', '.join(twice)} twice, and its metrics would have one name. Type "
            f"metrics.extractors=[{','.join(dict.fromkeys(names))}]."
        )
    if metrics.weights is not None and not any(
        isinstance(e, InceptionFeatures | DINOv2Features) for e in metrics.extractors
    ):
        yield (
            f"metrics.weights={metrics.weights} is the file of Inception or DINOv2, and these metrics use neither. "
            "Type metrics=inception or metrics=dinov2 with it, or leave it out."
        )


def pictures(metrics: Metrics, shape: tuple[int | None, int, int], smaller: str = "") -> Iterator[str]:
    """Extractor and classifier see pictures of this shape (C, H, W); C is None where it is not known yet.

    A run asks this again when its data have been read, which may be of a section that does not know their shape.
    `smaller` is how this data set gives pictures of the size that they see, where it can.
    """
    channels, height, width = shape
    if (height, width) == (DIGIT_SIDE, DIGIT_SIDE) and channels in (None, 1):
        return
    given = f"those of this data set have {height} × {width}" + (
        f" in {channels} channels" if channels not in (None, 1) else ""
    )
    if blind := [extractor.name for extractor in metrics.extractors if extractor.needs_digits]:
        yield (
            f"metrics.extractors={shown(blind)} look at grey pictures of {DIGIT_SIDE} × {DIGIT_SIDE} pixels, and "
            f"{given}. Type {smaller}metrics=pixels, which needs no weights, or metrics=inception or "
            "metrics=dinov2 with metrics.weights=<its file>."
        )
    elif metrics.classifier is not None and metrics.classifier.needs_digits:
        yield (
            f"The classifier judges grey pictures of {DIGIT_SIDE} × {DIGIT_SIDE} pixels, and {given}. Type "
            "metrics.classifier=null, which leaves label_accuracy out, or name one of your own."
        )


def class_samples(metrics: Metrics, classes: int) -> Iterator[str]:
    """Each class has more samples than there are features, where it is judged by itself; asked as `pictures` is."""
    features = max((extractor.features or 0 for extractor in metrics.extractors), default=0)
    if metrics.per_class and metrics.samples // classes <= features:
        yield (
            f"metrics.per_class=true needs more samples of each class than the {features} features that FID looks at, "
            f"and metrics.samples={metrics.samples} are {metrics.samples // classes} of each of {classes} classes. "
            f"Type metrics.samples={(features + 1) * classes} or more, or metrics.per_class=false."
        )


def known_trees(c: RunConfig) -> Iterator[str]:
    """Labels are a level that the tree has, and only digits are judged by the classifier of digits."""
    dataset = c.dataset
    if isinstance(c.metrics.classifier, DigitClassifier) and not dataset.has_digits:
        yield (
            "metrics.classifier tells digits from each other, and the classes of this data set are not digits. Type "
            "metrics=trees, or metrics.classifier=null."
        )
    if not isinstance(dataset, Branching | TreeImages):
        return
    level, depth = dataset.label_level, dataset.depth
    if level is not None and level > depth:
        yield (
            f"dataset.label_level={level} is below the last level of the tree, dataset.depth={depth}. Type "
            "dataset.label_level=null for a class per node, or a level that there is."
        )
    if isinstance(dataset, Branching) and dataset.train_share <= dataset.validation_share:
        yield (
            f"dataset.validation_share={dataset.validation_share:g} is taken from dataset.train_share="
            f"{dataset.train_share:g} and leaves nothing to train on. Type dataset.validation_share=0.1."
        )
    if isinstance(dataset, Branching) and dataset.numbers > MOST_NUMBERS:
        yield (
            f"dataset.depth={depth}, dataset.children={dataset.children}, dataset.siblings={dataset.siblings} and "
            f"dataset.dim={dataset.dim} make more than the {MOST_NUMBERS} numbers that a tree may have. Try "
            "dataset.depth=6 dataset.children=2 dataset.siblings=5 dataset.dim=50."
        )
    if isinstance(dataset, TreeImages) and dataset.nodes(depth) * dataset.siblings > MOST_IMAGES:
        yield (
            f"dataset.depth={depth}, dataset.children={dataset.children} and dataset.siblings={dataset.siblings} make "
            f"more than the {MOST_IMAGES} images that a tree may have. Try dataset.depth=4 dataset.children=2."
        )
