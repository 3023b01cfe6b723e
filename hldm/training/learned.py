"""The curvatures that a stage learns: their learning rates, their path, and whether they have settled."""

from torch import nn

from hldm.geometry import Leaf, LearnableCurvature, Manifold, PoincareBall


class LearnedCurvatures:
    """Those of a stage's model that are trained; one that was learned by an earlier stage is frozen, and none of them.

    Args:
        model: the model of a stage.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.names = [
            name
            for name, part in model.named_modules()
            if isinstance(part, LearnableCurvature) and part.raw.requires_grad
        ]

    def of(self, model: nn.Module) -> list[LearnableCurvature]:
        """The same ones in a copy of the model, such as its average."""
        parts = [model.get_submodule(name) for name in self.names]
        return [part for part in parts if isinstance(part, LearnableCurvature)]

    @property
    def rates(self) -> dict[nn.Parameter, float]:
        """Parameter → its own peak learning rate, of those that have one."""
        return {c.raw: c.learning_rate for c in self.of(self.model) if c.learning_rate is not None}

    def figures(self) -> dict[str, float]:
        """c, for the log: "curvature", and "curvature_1" for a second one."""
        return {f"curvature_{i}" if i else "curvature": float(c().detach()) for i, c in enumerate(self.of(self.model))}

    def begin_late(self, peak: float, shares: float, *models: nn.Module) -> None:
        """Let each c note where it is, and how far it can go in what is left of the training.

        Args:
            peak: the stage's peak learning rate, for a c without its own.
            shares: of the peak, with which the steps that are left are taken, added up.
            models: the model, and its average where there is one.
        """
        for c in (c for model in models for c in self.of(model)):
            c.begin_late(shares * (c.learning_rate or peak))

    def end(self, *models: nn.Module) -> None:
        """Let each c note that it is as training left it."""
        for c in (c for model in models for c in self.of(model)):
            c.is_last = True


def settling(manifold: Manifold) -> dict[str, float]:
    """Of each factor whose curvature is learned: `curvature_<factor>_start` and `curvature_<factor>_settled`.

    Factors are counted as `Manifold.curvatures` has them. 1 says that c has settled, 0 that training ended on the way.
    """
    figures: dict[str, float] = {}
    factors = [part for part in manifold.modules() if isinstance(part, Leaf)]
    for i, leaf in enumerate(factors):
        if isinstance(leaf, PoincareBall) and isinstance(leaf.curvature, LearnableCurvature):
            figures |= settled(f"curvature_{i}", leaf.curvature)
    return figures


def settled(name: str, c: LearnableCurvature) -> dict[str, float]:
    """Where c started and whether it has settled, as results.json has it; no second where `has_settled` is None."""
    figures = {f"{name}_start": c.value}
    if (has_settled := c.has_settled) is not None:
        figures[f"{name}_settled"] = float(has_settled)
    return figures
