"""The options that runs were composed of, so that what lies in a folder is described as a user types it."""

from collections.abc import Iterable, Mapping, Sequence

from hldm.config.options import Options
from hldm.study.cells import is_of_geometry

CLASS = "._target_"


def with_options(own: Sequence[Mapping[str, str]], whole: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """The settings of runs, with an option such as `diffusion=ddpm` before those that it brings along.

    Only groups in which runs have different classes get one: whoever types one setting of an option names that.

    Args:
        own: for each run the settings that others do not share, setting → value.
        whole: all of its settings.
    """
    names = dict.fromkeys(key.partition(".")[0] for of_run in own for key in of_run if _is_class(key))
    options = Options()
    groups = {
        group: {option: _written(options.settings(file)) for option, file in options.of_runs.get(group, {}).items()}
        for group in names
    }
    return [
        {group: option for group, known in groups.items() if (option := option_of(known, settings))} | dict(of_run)
        for of_run, settings in zip(own, whole, strict=True)
    ]


def _is_class(key: str) -> bool:
    return key.endswith(CLASS) and not is_of_geometry(key)


def _written(settings: Mapping[str, object]) -> dict[str, str]:
    """Those that do not refer to other settings, as text."""
    return {
        key: str(value) for key, value in settings.items() if not isinstance(value, dict) and "${" not in str(value)
    }


def option_of(options: Mapping[str, Mapping[str, str]], settings: Mapping[str, str]) -> str | None:
    """The option that has most of the run's classes and otherwise most of its settings; None where none has a class.

    Args:
        options: option → setting → value.
        settings: of the run.
    """

    def differing(option: str) -> tuple[int, int]:
        own = options[option]
        return -sum(key.endswith(CLASS) for key in own), sum(settings.get(key) != value for key, value in own.items())

    fitting = [
        option
        for option, own in options.items()
        if all(settings.get(key) == value for key, value in own.items() if key.endswith(CLASS))
    ]
    return min(fitting, key=differing, default=None)
