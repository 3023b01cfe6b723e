"""`hldm train --help` and `hldm train --help GROUP`: made from conf/ and from the fields of the schema."""

import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

from hldm.config.options import PRESETS, Options, description
from hldm.errors import UserError

ORDER = (
    "geometry", "curvature", "dataset", "latent", "autoencoder", "denoiser", "diffusion", "conditioning", "training",
    "metrics", "tracking", "hardware",
)  # fmt: skip
"""Groups in the order of a run; those of extensions follow, and presets come last."""

EXAMPLES = """\
Examples
  python train.py -m geometry=poincare,euclidean curvature=0.1,1.0
  python train.py geometry=hybrid curvature=learnable hardware=cpu seed=3
  python train.py -m seed=0,1,2 hardware=slurm_gpu plan=true
  python train.py experiment=smoke"""

OFTEN = """\
Settings that people change first
  seed=3                                 training.first_stage.steps=400
  study=mine                             training.diffusion.steps=900
  curvature=0.37                         training.diffusion.batch_size=128
  conditioning.guidance_scale=1.5        training.diffusion.learning_rate=1e-3
  metrics.samples=5000                   autoencoder.latent_channels=6"""


def help_text(options: Options, topics: list[str]) -> str:
    """Usage, groups with their options and examples; with a group's or setting's name, all about that."""
    return "\n".join([topic(options, name) for name in topics] or [overview(options)])


def overview(options: Options) -> str:
    """What `--help` prints. Hydra's own takes twice as long, as it reads every group."""
    lines = ["Usage: python train.py [-m] [GROUP=OPTION …] [KEY=VALUE …]", ""]
    lines += ["  -m             a grid: every combination of a,b or range(a,b,step)"]
    lines += ["  plan=true      say which runs there are, how long they take, and do nothing"]
    lines += ["  wait=true      with hardware=slurm_…: stay until all jobs have ended; compare"]
    lines += ["  --help GROUP   the settings of a group, with their ranges and defaults"]
    lines += ["  --cfg job      print the configuration and do nothing", "", "Groups and options (* is the default)"]
    groups = options.of_runs
    usual = defaults(options)
    known = [name for name in ORDER if name in groups]
    others = [name for name in groups if name not in (*ORDER, *PRESETS)]
    for group in [*known, *others, *reversed(PRESETS)]:
        for name, file in groups.get(group, {}).items():
            mark = "*" if usual.get(group) == name else " "
            lines += _row(f"{mark} {group}={name}", description(file))
        if group == "curvature":
            lines += _row("  curvature=0.37", "Any number ≥ 0; several with -m: curvature=0.1,1.0")
    return "\n".join([*lines, "", OFTEN, "", EXAMPLES])


def defaults(options: Options) -> dict[str, str]:
    """Group → the option that is chosen where none is typed."""
    import yaml

    from hldm.paths import CONF

    listed = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    return {group: option for entry in listed if isinstance(entry, dict) for group, option in entry.items() if option}


def topic(options: Options, name: str) -> str:
    """All settings whose name begins so, option by option.

    Raises:
        UserError: nothing is called that.
    """
    group = name.partition("=")[0].partition(".")[0]
    if group not in options.of_runs and group not in ("seed", "study", "first_stage", "paths"):
        from hldm.config.habits import habit
        from hldm.console import closest

        if sentence := habit(name):
            raise UserError(sentence)
        guess = closest(group, options.of_runs)
        hint = f" Did you mean --help {guess}?" if guess else ""
        raise UserError(f"There is no group {group}.{hint} Groups: {', '.join(options.of_runs)}.")
    lines: list[str] = []
    only, inside = name.partition("=")[2], name if "." in name else ""
    for option, file in options.of_runs.get(group, {}).items():
        rows = [row for row in rows_of(options, group, option) if row[0].strip().startswith(inside)]
        if (only and option != only) or (inside and not rows):
            continue
        mark = "*" if defaults(options).get(group) == option else " "
        lines += ["", *_row(f"{mark} {group}={option}", description(file))]
        lines += [line for row in rows for line in row]
    if not lines and group not in options.of_runs:  # what has no options
        section = section_of(group, {})
        rows = list(_rows_of_section(section, group, {}) if section else _rows(_root_field(group), group, None))
        lines = [line for row in rows if row[0].strip().startswith(inside) for line in row]
    if not lines:
        raise UserError(f"There is no {name}. `python train.py --help {group}` shows all of that group.")
    return "\n".join(lines).lstrip("\n")


def rows_of(options: Options, group: str, option: str) -> Iterator[list[str]]:
    """The settings of an option: name and value in conf/, range, sentence."""
    written = options.settings(options.of_runs[group][option])
    section = section_of(group, written)
    if section is None:
        for key, value in written.items():
            if not isinstance(value, dict):
                yield _row(f"    {key}", f"= {_shown(value)}")
        return
    yield from _rows_of_section(section, group, written)


def section_of(group: str, written: dict[str, Any]) -> Any:
    """The section that describes an option, by the class that its file names; None for presets."""
    from hldm.config.explain import section_of_field
    from hldm.config.schema import RunConfig

    field = RunConfig.model_fields.get(group)
    if field is None:
        return None
    section = section_of_field(field)
    return section and section.members().get(str(written.get(f"{group}._target_")), section)


def _rows_of_section(section: Any, prefix: str, written: dict[str, Any]) -> Iterator[list[str]]:
    from hldm.config.explain import section_of_field

    for name, field in section.model_fields.items():
        key = f"{prefix}.{name}"
        inner = section_of_field(field)
        if inner is None:
            yield from _rows(field, key, written.get(key))
        else:
            chosen = inner.members().get(str(written.get(f"{key}._target_")), inner)
            yield from _rows_of_section(chosen, key, written)


def _rows(field: Any, key: str, value: Any) -> Iterator[list[str]]:
    from hldm.config.explain import must_be

    default = value if value is not None else field.get_default(call_default_factory=True)
    sentence = (field.description or "").rstrip(".")
    shown = "" if "PydanticUndefined" in str(default) else f" = {_shown(default)}"
    yield [
        f"    {key}{shown}",
        *textwrap.wrap(
            f"{sentence} [{must_be(field)}]".lstrip(), _width(), initial_indent=" " * 8, subsequent_indent=" " * 8
        ),
    ]


def _root_field(name: str) -> Any:
    from hldm.config.schema import RunConfig

    return RunConfig.model_fields[name]


def _shown(value: Any) -> str:
    from hldm.console import shown

    return shown(value)


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 120)


def _row(name: str, text: str) -> list[str]:
    """A name of up to 29 characters beside its text, or above it."""
    indent = " " * 32
    if len(name) > 29:
        return [f"  {name}", *textwrap.wrap(text, _width(), initial_indent=indent, subsequent_indent=indent)]
    return textwrap.wrap(text, _width(), initial_indent=f"  {name:30}", subsequent_indent=indent) or [f"  {name}"]
