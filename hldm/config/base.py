"""What a section is: a frozen pydantic model, told from its siblings by `_target_`, the class that it describes.

A schema default is the behaviour before the setting existed and never changes (tests/config/defaults.json holds them):
a run's identity is the difference from the defaults, so a new setting leaves earlier identities alone. What is
recommended stands in conf/.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, GetCoreSchemaHandler, model_serializer
from pydantic_core import PydanticCustomError, core_schema

from hldm.errors import UserError
from hldm.paths import expanded

_C = TypeVar("_C", bound="Section")


class Section(BaseModel):
    """A part of the configuration.

    A class that is written with `family=True` stands for all of its subclasses: a field of its type takes any of them.
    A subclass that is written with `target="package.Class"` is the one that `_target_: package.Class` chooses. A
    package of your own adds a section by defining it, see docs/extending.md.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    target: ClassVar[str | None] = None
    """The class that the section describes, as `_target_` names it; None where there is nothing to choose."""

    takes_section: ClassVar[bool] = False
    """Whether the class takes the section as it is, rather than its settings by keyword."""

    is_family: ClassVar[bool] = False
    """Whether it stands for its subclasses."""

    options: ClassVar[dict[str, type["Section"]]]
    """Target → section, of a family."""

    def __init_subclass__(cls, *, target: str | None = None, family: bool = False, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        cls.target, cls.is_family = target, family
        if family:
            cls.options = {}
        elif target is not None:
            other = cls.options.get(target)
            if other and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise UserError(
                    f"{cls.__module__} and {other.__module__} both describe {target}: the sections {cls.__name__} and "
                    f"{other.__name__}. Give what one of them describes a name of its own, or leave its module out of "
                    "HLDM_PLUGINS."
                )
            cls.options[target] = cls

    @classmethod
    def members(cls) -> dict[str, type["Section"]]:
        """Target → section, of a family; {} of a section that is none."""
        return cls.options if cls.is_family else {}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        if cls.is_family:  # the section that the value names
            return core_schema.no_info_plain_validator_function(
                cls.chosen, serialization=core_schema.plain_serializer_function_ser_schema(Section.dump)
            )
        return handler(source)

    @classmethod
    def chosen(cls, value: Any) -> Self:
        """The section of this family that a mapping with `_target_` describes; nothing else is ever built."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise PydanticCustomError("section", "a section")
        settings = dict(value)
        target = settings.pop("_target_", None)
        if not isinstance(target, str) or target not in cls.options:
            raise PydanticCustomError("target", "{known}", {"known": ", ".join(cls.options), "found": str(target)})
        section = cls.options[target].model_validate(settings)
        assert isinstance(section, cls)
        return section

    @classmethod
    def described(cls) -> Callable[..., Any]:
        """The class or function that `target` names. Its module is imported now, and with it torch as a rule."""
        assert cls.target is not None
        # not pkgutil.resolve_name, which takes the module hldm.data.branching for the function of that name
        module, _, name = cls.target.rpartition(".")
        named: Callable[..., Any] = getattr(import_module(module), name)
        return named

    @model_serializer(mode="wrap")
    def _with_target(self, handler: Any) -> dict[str, Any]:
        settings: dict[str, Any] = handler(self)
        return settings if self.target is None else {"_target_": self.target, **settings}

    def dump(self) -> dict[str, Any]:
        """The section as conf/ writes it: plain dictionaries, lists, strings and numbers."""
        return self.model_dump(mode="json")

    def fields(self) -> Iterator[tuple[str, Any, Any]]:
        """(name, value, schema default) of every setting."""
        for name, field in type(self).model_fields.items():
            yield name, getattr(self, name), field.get_default(call_default_factory=True)

    def unread(self) -> set[str]:
        """Names of settings that cannot change the result as the others are: they do not count for identity."""
        return set()

    def by_content(self) -> dict[str, str]:
        """Setting that names a file or folder → a hash of what is in it, which counts in place of the name."""
        return {}

    def delta(self) -> dict[str, Any]:
        """What makes this section different from the schema's defaults, as far as it can change a result."""
        changed: dict[str, Any] = {} if self.target is None else {"_target_": self.target}
        unread, content = self.unread(), self.by_content()
        for name, value, default in self.fields():
            if name in unread:
                continue
            if name in content:
                changed[name] = content[name]
            elif isinstance(value, Section):
                # a section that another one may stand for counts by its name also where its settings are the usual ones
                if (own := value.delta()) and own != (default.delta() if isinstance(default, Section) else None):
                    changed[name] = own
            elif isinstance(value, tuple) and any(isinstance(item, Section) for item in value):
                if value != default:
                    changed[name] = [item.delta() for item in value]
            elif value != default:
                changed[name] = list(value) if isinstance(value, tuple) else value
        return changed


class Shared:
    """Configurations whose equal sections are one object: a thousand of a grid hold few that differ, 20 kB each."""

    def __init__(self) -> None:
        self._known: dict[Section, Section] = {}

    def __call__(self, config: _C) -> _C:
        """The same configuration."""
        sections = {name: value for name, value, _ in config.fields() if isinstance(value, Section)}
        return config.model_copy(update={name: self._once(value) for name, value in sections.items()})

    def _once(self, section: Section) -> Section:
        try:
            return self._known.setdefault(section, section)
        except TypeError:  # it holds a mapping
            return section


# ---------------------------------------------------------------------------------------------------- types of settings


class Words(str):
    """Says in words what a setting's value must be, where its type does not say it well; an annotation of a field."""


def whole(value: Any) -> Any:
    """3, 3.0 and, since an environment variable is text, "3" and "007"."""
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip(), re.ASCII):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int):
        raise ValueError
    return value


def number(value: Any) -> Any:
    """0.5, 3 and, since an environment variable is text, "0.5"."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value.strip(), re.ASCII):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return float(value)


def held(value: float) -> float:
    """The number, where float32 holds it: neither infinite there nor 0."""
    if value and not FLOAT32_RANGE[0] <= abs(value) <= FLOAT32_RANGE[1]:
        raise ValueError("float32 cannot hold it")
    return value


def counted(value: int) -> int:
    if abs(value) > INT64:
        raise ValueError("it has too many digits")
    return value


def switch(value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError
    return value


def word(value: Any) -> Any:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


LONGEST_NAME = 200
"""Bytes of a folder's name: file systems take 255, of which names that are made from it need some."""


def folder_name(name: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError
    if (size := len(name.encode())) > LONGEST_NAME:
        raise ValueError(f"it has {size} bytes")
    return name


def absolute(path: str) -> str:
    """The path from the root, so that it means the same wherever it is read.

    Raises:
        ValueError: it has bytes that are no text, which no file of a run could name.
    """
    found = str(expanded(path).absolute())
    try:
        found.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not in UTF-8: rename the folder, or name it by a link") from None
    return found


FLOAT32_RANGE = (1.2e-38, 3.4e38)
INT64 = 2**63 - 1

Whole = Annotated[int, BeforeValidator(whole), AfterValidator(counted)]
Number = Annotated[float, BeforeValidator(number), AfterValidator(held)]
"""A number that float32 can hold."""
Switch = Annotated[bool, BeforeValidator(switch)]
Word = Annotated[str, BeforeValidator(word)]
FolderName = Annotated[
    Word,
    AfterValidator(folder_name),
    Words(f"a folder name of letters, digits, '.', '-' and '_', of at most {LONGEST_NAME} bytes"),
]
UserPath = Annotated[Word, AfterValidator(absolute)]
"""A file or folder of the user, relative to where the command was typed."""

Count = Annotated[Whole, Ge(1)]
MOST_REPEATS = 100_000
"""Far above what anybody asks for, far below what never ends."""

Repeats = Annotated[Whole, Ge(1), Le(MOST_REPEATS)]
"""How often something is done anew."""

MOST_READERS = 1024


def auto_or_whole(value: object) -> object:
    return value if value == "auto" else whole(value)


Auto = Annotated[Literal["auto"] | Count, BeforeValidator(auto_or_whole), Words("auto or a whole number ≥ 1")]
NotNegativeWhole = Annotated[Whole, Ge(0)]
Readers = Annotated[
    Literal["auto"] | Annotated[Whole, Ge(0), Le(MOST_READERS)],
    BeforeValidator(auto_or_whole),
    Words(f"auto or a whole number from 0 to {MOST_READERS}"),
]
Positive = Annotated[Number, Gt(0)]
NotNegative = Annotated[Number, Ge(0)]
Share = Annotated[Number, Ge(0), Lt(1)]
Guidance = Annotated[Number, Ge(0), Le(1000)]
"""A scale of classifier-free guidance: far above what anybody uses, far below where samples overflow."""

ZeroToOne = Annotated[Number, Ge(0), Le(1)]


class Refusal(str):
    """A sentence of a setting's own for a wrong value, with {key} and {value} in it; an annotation of a field."""
