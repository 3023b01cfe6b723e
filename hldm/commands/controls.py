"""What `hldm generate` lets a user choose beside number, seed and label, and what is refused before any work.

Nothing that is typed is ignored: where a key can have no effect it is refused, with what to type instead.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hldm import console
from hldm.config.base import Guidance, NotNegative
from hldm.config.diffusion import FlowSampler, Sampler
from hldm.config.explain import must_be
from hldm.config.schema import RunConfig
from hldm.errors import UserError

SHOWS = ("radius", "between", "mean_of", "neighbours")
"""What there is to see, one thing at a time."""

DIGITS = 10
"""Classes of digits."""


def usual_number(shows: str | None) -> int:
    """n where it is not typed: what fits a row of a picture with rows; else 100, of which between= names two."""
    return 100 if shows in (None, "between") else 10


def factor(text: str) -> float:
    """A number ≥ 0."""
    return _number(text, NotNegative, "a number ≥ 0")


def scale(text: str) -> float:
    """A scale of guidance."""
    return _number(text, Guidance, "a number from 0 to 1000")


def _number(text: str, kind: Any, words: str) -> float:
    try:
        return float(TypeAdapter(kind).validate_python(text))
    except ValidationError:
        raise ValueError(f"{text!r} is not {words}, such as 1.5.") from None


def factors(text: str) -> list[float]:
    """Different numbers ≥ 0 with commas between them."""
    found = [factor(part.strip()) for part in text.strip("[]").split(",")]
    if len(set(found)) < len(found):
        raise ValueError("one factor is there twice; each makes one row.")
    return found


def pair(text: str) -> tuple[int, int]:
    """The numbers of two samples."""
    parts = text.strip("[]").split(",")
    if len(parts) != 2:
        raise ValueError("a path has two ends: the numbers of two samples, such as between=3,8.")
    a, b = (console.whole(part.strip()) for part in parts)
    if a == b:
        raise ValueError(f"a path has two ends, and sample {a} is there twice. Give another one, such as {a},{a + 1}.")
    return a, b


KEYS = {
    "guidance": scale,
    "steps": console.whole,
    "radius": factors,
    "around": console.whole,
    "between": pair,
    "mean_of": console.whole,
    "neighbours": console.whole,
}
"""Key → what makes a value of its text, for `console.key_values`."""


def check_controls(config: RunConfig, name: str, arguments: Mapping[str, Any], typed: Mapping[str, str]) -> None:
    """Raise a UserError where something that was asked of the run `name` can have no effect.

    Args:
        arguments: key → value.
        typed: key → its text.
    """
    shows = [key for key in SHOWS if key in arguments]
    if len(shows) > 1:
        raise UserError(
            f"{' and '.join(f'{key}={typed[key]}' for key in shows)} exclude each other: each makes a picture of its "
            "own. Type a command for each."
        )
    if "around" in arguments and "radius" not in arguments:
        raise UserError(
            f"around={typed['around']} says where radius= is measured from, and there is none. Add it, such as "
            "radius=0.5, or leave around= out."
        )
    if "mean_of" in arguments:
        idle = [key for key in ("seed", "label", "prompt", "guidance", "steps") if key in arguments]
        if idle:
            raise UserError(
                f"{idle[0]}={typed[idle[0]]} has no effect with mean_of={typed['mean_of']}, which averages training "
                f"images and draws nothing. Leave {idle[0]}= out."
            )
    data = str(config.dataset.target).rpartition(".")[2]
    check_neighbours(arguments.get("neighbours"), data, config.dataset.training_images)
    if "between" in arguments:
        n, last = arguments["n"], max(arguments["between"])
        if last >= n:
            raise UserError(
                f"between={typed['between']} names sample {last}, and n={n} draws samples 0 to {n - 1}. Type "
                f"n={last + 1} at least."
            )
    if config.dataset.has_digits:  # other data have to be read before their classes are known
        for key in ("label", "around", "mean_of"):
            check_class(key, arguments.get(key), data, DIGITS)
    _check_guidance(config, name, arguments, typed)
    _check_steps(config, name, arguments, typed)


def check_class(key: str, label: int | None, data: str, classes: int) -> None:
    """Raise a UserError where the data have no such class."""
    if label is not None and label >= classes:
        raise UserError(f"{key}={label} is not a class of {data}: it has 0 to {classes - 1}.")


def check_neighbours(asked: int | None, data: str, images: int | None) -> None:
    """Raise a UserError where no training image is asked for, or more than there are, None where that is not known."""
    if asked == 0:
        raise UserError("neighbours=0 asks for no training image. Give their number, such as neighbours=3.")
    if asked is not None and images is not None and asked > images:
        raise UserError(
            f"neighbours={asked} are more than the {images} training images of {data}. Type neighbours={images} at "
            "most."
        )


def _check_guidance(config: RunConfig, name: str, arguments: Mapping[str, Any], typed: Mapping[str, str]) -> None:
    if "guidance" not in arguments:
        return
    asked = f"guidance={typed['guidance']}"
    if not config.has_guidance:
        if not config.has_diffusion:
            why = "it has no diffusion model, and its samples come from the prior"
        elif not config.conditioning.takes_labels:
            why = "it was trained without labels and text, so there is nothing to guide towards"
        else:
            why = "conditioning.dropout=0 left it without a prediction to guide away from"
        raise UserError(f"{asked} has no effect on {name}: {why}. Leave guidance= out.")
    if arguments["guidance"] == 0 and (key := next((k for k in ("label", "prompt") if k in arguments), None)):
        raise UserError(
            f"{key}={typed[key]} has no effect at {asked}, which follows the prediction without a condition. Leave "
            f"{key}= out, or type guidance=1 for the prediction with it alone."
        )
    if "prompt" in arguments and not arguments["prompt"].strip():
        raise UserError(f'{asked} has no effect with prompt="", which says nothing to guide towards. Leave one out.')


def _check_steps(config: RunConfig, name: str, arguments: Mapping[str, Any], typed: Mapping[str, str]) -> None:
    if "steps" not in arguments:
        return
    asked, sampler = f"steps={typed['steps']}", config.diffusion.sampler
    if not config.has_diffusion or sampler is None:
        raise UserError(
            f"{asked} has no effect on {name}: it has no diffusion model, and its samples come from the prior. Leave "
            "steps= out."
        )
    if isinstance(sampler, FlowSampler) and sampler.method == "adaptive":
        raise UserError(
            f"{asked} does not decide about the steps of {name}: its sampler (method=adaptive) chooses them by its "
            "tolerance. Leave steps= out."
        )
    if (allowed := _allowed(sampler, arguments["steps"])) is not None:
        raise UserError(f"{asked} is no number of steps for the sampler of {name}. It must be {allowed}.")


def _allowed(sampler: Sampler, steps: int) -> str | None:
    """What the number of steps must be where it is not; None where it is."""
    field = type(sampler).model_fields.get("steps")
    if field is None:
        return "left out: this sampler has no steps to set"
    try:
        type(sampler)(**{name: value for name, value, _ in sampler.fields()} | {"steps": steps})
    except ValidationError:
        return must_be(field)
    return None
