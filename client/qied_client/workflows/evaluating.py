"""What the nodes of a workflow come to, from a save node backwards: each by the rule of its class.

Only what a save node needs is looked at, and of a switch the branch that it takes, as ComfyUI does. A node that cannot
be run here is a problem, and the other inputs of the node after it are looked at all the same: all problems of a
workflow are told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar, overload

from qied_client.errors import QiedError
from qied_client.workflows import values as v
from qied_client.workflows.files import MaskFile, PictureFile, Pictures
from qied_client.workflows.remedies import remedy_for
from qied_client.workflows.workflow import (
    MISSING,
    PICTURE,
    UNSUPPORTED,
    WRONG,
    Link,
    Node,
    NodeProblem,
    ProblemKind,
    Workflow,
)

Kind = TypeVar("Kind")
Other = TypeVar("Other")
Third = TypeVar("Third")
Default = TypeVar("Default")
_REQUIRED: Final = object()
_MOST_NUMBER: Final = 2**64
"""No input of a node takes more than a seed does, which has 64 bits."""
_MOST_CHARS: Final = 64 * 1024
"""Most characters of a text. Nodes that join a text with itself double it each time."""
_MOST_PX: Final = 65_536
_SAVE_FIRST: Final = "Save that result, and do the rest with its file: one run makes one edit for each save node."
_WORDS: Final[Mapping[type, str]] = {
    v.Model: "a model",
    v.TextEncoder: "a text encoder",
    v.Autoencoder: "a VAE",
    v.Upscaler: "an upscaling model",
    v.Shown: "a picture of a file",
    v.Prompt: "a prompt",
    v.Latents: "latents to start from",
    v.Noise: "noise",
    v.Guidance: "guidance",
    v.Sampler: "a sampler",
    v.Sigmas: "a schedule",
    v.Edit: "the latents of an edit",
    v.Result: "a result",
    MaskFile: "a mask",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


class Refused(Exception):
    """Nodes that cannot be run; caught where the next save node is looked at."""

    def __init__(self, problems: list[NodeProblem]) -> None:
        super().__init__(problems)
        self.problems = problems


@dataclass(frozen=True)
class NodeNote:
    """What a node became here, and what ``differs`` in the picture from what ComfyUI makes with it, and why."""

    node_id: str
    class_type: str
    title: str
    became: str
    differs: str = ""


class Evaluation:
    """The nodes that one save node needs; ``notes`` has what each became, ``pictures`` finds the files' sizes."""

    def __init__(self, workflow: Workflow, rules: Mapping[str, Callable[[Here], object]], pictures: Pictures | None):
        self._nodes = workflow.nodes
        self._rules = rules
        self.pictures = pictures
        self.notes: dict[str, NodeNote] = {}
        self._found: dict[str, object] = {}
        self._busy: set[str] = set()

    def output(self, link: Link) -> object:
        """What an output stands for; raises Refused."""
        node = self._nodes[link.node]
        found = self._of(node)
        outputs = found if isinstance(found, tuple) else (found,)
        if not 0 <= link.slot < len(outputs):
            raise Refused(
                [
                    NodeProblem(
                        node.id,
                        node.class_type,
                        f"Node {node.name} has no output {link.slot}.",
                        "Export the workflow again.",
                    )
                ]
            )
        value = outputs[link.slot]
        if isinstance(value, Refused):
            raise value
        return value

    def here(self, node: Node) -> Here:
        """A node with its inputs, for a rule."""
        return Here(self, node)

    def node(self, name: str) -> Node:
        """The node of this id."""
        return self._nodes[name]

    def has(self, name: str) -> bool:
        """Whether there is a node of this id."""
        return name in self._nodes

    def _of(self, node: Node) -> object:
        if node.id in self._busy:
            here = self.here(node)
            here.refuse("its links go round in a circle.", "Disconnect one of them.")
        if node.id not in self._found:
            self._busy.add(node.id)
            try:
                self._found[node.id] = self._ruled(node)
            except Refused as error:
                self._found[node.id] = error
            finally:
                self._busy.discard(node.id)
        found = self._found[node.id]
        if isinstance(found, Refused):
            raise found
        return found

    def _ruled(self, node: Node) -> object:
        rule = self._rules.get(node.class_type)
        if rule is None:
            here = self.here(node)
            here.refuse("qied has nothing that does its work.", remedy_for(node.class_type), kind=UNSUPPORTED)
        return rule(self.here(node))


class Here:
    """One node for its rule: its inputs, as what they stand for, and ways to tell what it became or why it cannot."""

    def __init__(self, evaluation: Evaluation, node: Node) -> None:
        self._evaluation = evaluation
        self.node = node

    @property
    def id(self) -> str:
        """The node's id."""
        return self.node.id

    def given(self, name: str) -> bool:
        """Whether an input is connected or has a value."""
        return self.node.inputs.get(name) is not None

    @overload
    def take(self, name: str) -> Any: ...
    @overload
    def take(self, name: str, *, default: object) -> Any: ...
    @overload
    def take(self, name: str, kind: type[Kind], /) -> Kind: ...
    @overload
    def take(self, name: str, kind: type[Kind], other: type[Other], /) -> Kind | Other: ...
    @overload
    def take(self, name: str, kind: type[Kind], other: type[Other], third: type[Third], /) -> Kind | Other | Third: ...
    @overload
    def take(self, name: str, kind: type[Kind], /, *, default: Default) -> Kind | Default: ...
    def take(self, name: str, *kinds: type[Any], default: Any = _REQUIRED) -> Any:
        """What an input stands for; raises Refused where it is missing or of another kind."""
        value = self.node.inputs.get(name)
        if value is None:
            if default is not _REQUIRED:
                return default
            self._missing(name)
        if isinstance(value, Link):
            if not self._evaluation.has(value.node):
                self.refuse(
                    f"its input {name!r} comes from node {value.node}, which is not there.",
                    "Export the workflow again.",
                    kind=MISSING,
                    input=name,
                )
            value = self._evaluation.output(value)
        if kinds and not isinstance(value, kinds):
            self._other_kind(name, value, kinds)
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """Text of an input."""
        text = self.take(name, str) if default is None else self.take(name, str, default=default)
        if len(text) > _MOST_CHARS:
            self.refuse(
                f"its input {name!r} has {len(text)} characters, more than {_MOST_CHARS}.", "Shorten it.", input=name
            )
        return text

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number of an input; one such as 4.0 counts as one."""
        number = self.number(name, default)
        if number != int(number):
            self.refuse(f"its input {name!r} must be a whole number, not {number:g}.", "Correct it.", input=name)
        return int(number)

    def number(self, name: str, default: float | None = None) -> float:
        """A number of an input; text of one counts as one."""
        value: Any = self.take(name) if default is None else self.take(name, default=default)
        if isinstance(value, str):
            try:
                value = float(value) if "." in value or "e" in value.lower() else int(value)
            except ValueError:
                self._other_kind(name, value, (float,))
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self._other_kind(name, value, (float,))
        if not abs(value) < _MOST_NUMBER:  # nor NaN, and an integer may be larger than any float
            self.refuse(f"its input {name!r} is out of range.", "Take a number of at most 64 bits.", input=name)
        return value

    def above_zero(self, name: str, default: float) -> float:
        """A number of an input by which something is scaled: above 0, and no more than a picture can have."""
        number = self.number(name, default)
        if not 0 < number <= _MOST_PX:
            self.refuse(
                f"its input {name!r} is {number:g}, not above 0 and at most {_MOST_PX}.", "Correct it.", input=name
            )
        return number

    def flag(self, name: str, default: bool) -> bool:
        """True or false of an input; ``enable`` and ``disable`` are those of older nodes."""
        value = self.take(name, default=default)
        if isinstance(value, str) and value in ("enable", "disable"):
            return value == "enable"
        if not isinstance(value, (bool, int)):
            self._other_kind(name, value, (bool,))
        return bool(value)

    def together(self, *calls: Callable[[], object]) -> list[Any]:
        """The results of all calls; raises Refused with the problems of all that were refused."""
        results: list[object] = []
        problems: list[NodeProblem] = []
        for call in calls:
            try:
                results.append(call())
            except Refused as error:
                problems += error.problems
        if problems:
            raise Refused(list(dict.fromkeys(problems)))
        return results

    def became(self, what: str, differs: str = "") -> None:
        """Note what the node is here, and what differs in the picture."""
        node = self.node
        self._evaluation.notes[node.id] = NodeNote(node.id, node.class_type, node.title, what, differs)

    def refuse(self, message: str, remedy: str, *, kind: ProblemKind = WRONG, input: str = "") -> NoReturn:
        """Raise Refused: the node cannot be run here, which ``message`` says without its name."""
        problem = NodeProblem(self.id, self.node.class_type, f"Node {self.node.name}: {message}", remedy, kind, input)
        raise Refused([problem])

    def withheld(self, message: str, remedy: str) -> Any:
        """One of several outputs that cannot be had: what is connected to it is refused, and to the others is not."""
        return Refused([NodeProblem(self.id, self.node.class_type, f"Node {self.node.name}: {message}", remedy)])

    def size(self, picture: PictureFile) -> v.Size | None:
        """Width and height of a picture in pixels; None where no files are looked at. Raises Refused."""
        pictures = self._evaluation.pictures
        if pictures is None:
            return None
        try:
            return pictures.size(picture)
        except QiedError as error:
            self.refuse_picture(picture.name, error)

    def refuse_picture(self, name: str, error: QiedError) -> NoReturn:
        """Raise Refused for a picture that cannot be had, or not be read."""
        told = error.message if name in error.message else f"its picture {name!r}: {error.message}"
        self.refuse(told, error.remedy.replace("NODE.", f"{self.id}."), kind=PICTURE, input="image")

    def opacity(self, name: str) -> bool | None:
        """Whether a file can be transparent somewhere; None where no files are looked at. Raises Refused."""
        pictures = self._evaluation.pictures
        if pictures is None or self.size(PictureFile(name)) is None:
            return None
        return pictures.header(name).alpha

    def _missing(self, name: str) -> NoReturn:
        why = self.node.cut.get(name)
        self.refuse(
            f"its input {name!r} is missing{f': {why}' if why else ''}.",
            "Connect it, or take out what needs it.",
            kind=MISSING,
            input=name,
        )

    def _other_kind(self, name: str, value: object, kinds: tuple[type, ...]) -> NoReturn:
        wanted = " or ".join(_WORDS.get(kind, kind.__name__) for kind in kinds)
        shown = _WORDS.get(type(value)) if not isinstance(value, (str, int, float)) else None
        later = isinstance(value, v.Result) and v.Shown in kinds
        remedy = _SAVE_FIRST if later else "Correct it."
        self.refuse(f"its input {name!r} must be {wanted}, not {shown or repr(value)[:40]}.", remedy, input=name)
