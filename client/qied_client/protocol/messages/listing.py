"""What a user has and can choose from: jobs, sessions, presets, LoRAs. All of it came with version 2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from qied_client.protocol import limits
from qied_client.protocol.fields import (
    Body,
    Flag,
    Hash,
    Identifier,
    Int,
    Later,
    ListOf,
    Maybe,
    NameInFolder,
    Nested,
    OneOf,
    Real,
    Scalars,
    Text,
)
from qied_client.protocol.message import Message
from qied_client.protocol.messages.checks import (
    BYTES,
    COUNT,
    ID,
    NAME,
    SHORT_PROMPT,
    SIDE,
    STATES,
    TIME,
    WARNINGS,
)
from qied_client.protocol.messages.jobs import MeasuredDrift
from qied_client.protocol.request import LoraChoice


@dataclass(frozen=True)
class JobInfo:
    """One job of the user's: what was asked for, how it is made, and where it stands.

    ``prompt`` is its beginning. ``number`` grows in the order of acceptance. ``fetched`` is whether the client has said
    that it has the picture. ``session`` and ``turn`` are given where it is a turn. ``bytes`` are those of the picture.
    """

    job: Annotated[str, ID]
    number: Annotated[int, COUNT]
    state: Annotated[str, OneOf(STATES)]
    prompt: Annotated[str, SHORT_PROMPT]
    seed: Annotated[int, Int(0, limits.SEED)]
    steps: Annotated[int, Int(0, limits.STEPS)]
    width: Annotated[int, SIDE]
    height: Annotated[int, SIDE]
    precision: Annotated[str, NAME]
    preset: Annotated[str, NAME]
    accepted_ms: Annotated[int, TIME]
    finished_ms: Annotated[int, TIME] = 0
    step: Annotated[int, Int(0, limits.STEPS)] = 0
    place: Annotated[int | None, Maybe(COUNT)] = None
    starts_in_ms: Annotated[int | None, Maybe(COUNT)] = None
    bytes: Annotated[int, BYTES] = 0
    fetched: Annotated[bool, Flag()] = False
    session: Annotated[str | None, Maybe(ID)] = None
    turn: Annotated[int | None, Maybe(Int(0, 2**31))] = None
    code: Annotated[str, NAME] = ""


@dataclass(frozen=True)
class ListJobs(Message):
    """Ask for the user's jobs that the daemon keeps: the newest page, or the newest with a number below ``before``."""

    TYPE = b"LIST"
    id: Annotated[int, COUNT]
    before: Annotated[int | None, Maybe(COUNT)] = None


@dataclass(frozen=True)
class JobList(Message):
    """Answer to LIST. ``more``: there are older ones."""

    TYPE = b"JOBLIST"
    re: Annotated[int, COUNT]
    jobs: Annotated[tuple[JobInfo, ...], ListOf(Nested(JobInfo), limits.PAGE_JOBS)]
    more: Annotated[bool, Flag()] = False


@dataclass(frozen=True)
class Fetch(Message):
    """Ask for everything about one job; with ``thumbnail``, also for a small JPEG of its picture."""

    TYPE = b"FETCH"
    id: Annotated[int, COUNT]
    job: Annotated[str, ID]
    thumbnail: Annotated[bool, Flag()] = False


@dataclass(frozen=True)
class Fetched(Message):
    """Answer to FETCH; the picture is had by GET with ``blob``.

    ``gone``: the job was released or has expired, but a turn of a session remembers it. The body is a JPEG whose longer
    side has at most 256 pixels, and is empty where there is none.
    """

    TYPE = b"FETCHED"
    re: Annotated[int, COUNT]
    info: Annotated[JobInfo, Nested(JobInfo)]
    prompt: Annotated[str, Text(limits.PROMPT_BYTES, empty=True)]
    blob: Annotated[str | None, Maybe(Hash())] = None
    media_type: Annotated[str, Text(64, empty=True)] = ""
    true_cfg_scale: Annotated[float, Real(0.0, limits.CFG_SCALE)] = 0.0
    schedule: Annotated[str, NAME] = ""
    loras: Annotated[tuple[LoraChoice, ...], ListOf(Nested(LoraChoice), limits.LORAS)] = ()
    warnings: Annotated[tuple[str, ...], WARNINGS] = ()
    message: Annotated[str, Text(limits.REASON_BYTES, empty=True)] = ""
    remedy: Annotated[str, Text(limits.REASON_BYTES, empty=True)] = ""
    gone: Annotated[bool, Flag()] = False
    drift: Annotated[MeasuredDrift | None, Later(Maybe(Nested(MeasuredDrift)))] = None
    thumbnail: Annotated[bytes | memoryview, Body(0, limits.THUMBNAIL_BYTES)] = b""


@dataclass(frozen=True)
class SessionInfo:
    """One open session; ``head`` is the turn whose result is the latest picture."""

    session: Annotated[str, ID]
    source: Annotated[str, Hash()]
    head: Annotated[int, Int(0, 2**31)]
    turns: Annotated[int, COUNT]
    opened_ms: Annotated[int, TIME]
    used_ms: Annotated[int, TIME]
    prompt: Annotated[str, SHORT_PROMPT] = ""


@dataclass(frozen=True)
class ListSessions(Message):
    """Ask for the user's open sessions, in the order of their names: a page of those after ``after``."""

    TYPE = b"SESSIONS"
    id: Annotated[int, COUNT]
    after: Annotated[str | None, Maybe(ID)] = None


@dataclass(frozen=True)
class SessionList(Message):
    """Answer to SESSIONS; ``prompt`` of each is that of its latest turn. ``more``: there are others after these."""

    TYPE = b"SESSIONLIST"
    re: Annotated[int, COUNT]
    sessions: Annotated[tuple[SessionInfo, ...], ListOf(Nested(SessionInfo), limits.PAGE_SESSIONS)]
    more: Annotated[bool, Flag()] = False


@dataclass(frozen=True)
class TurnInfo:
    """One turn with all that is known of it: it edited the result of turn ``base`` (0 is the first picture)."""

    turn: Annotated[int, Int(1, 2**31)]
    base: Annotated[int, Int(0, 2**31)]
    job: Annotated[str, ID]
    state: Annotated[str, OneOf((*STATES, "released"))]
    prompt: Annotated[str, SHORT_PROMPT]
    seed: Annotated[int, Int(0, limits.SEED)]
    accepted_ms: Annotated[int, TIME]
    finished_ms: Annotated[int, TIME] = 0
    blob: Annotated[str | None, Maybe(Hash())] = None


@dataclass(frozen=True)
class ListTurns(Message):
    """Ask for a session's turns: the newest page, or the newest below ``before``."""

    TYPE = b"TURNS"
    id: Annotated[int, COUNT]
    session: Annotated[str, ID]
    before: Annotated[int | None, Maybe(Int(1, 2**31))] = None


@dataclass(frozen=True)
class TurnList(Message):
    """Answer to TURNS, the oldest of the page first. ``more``: there are older ones."""

    TYPE = b"TURNLIST"
    re: Annotated[int, COUNT]
    session: Annotated[str, ID]
    head: Annotated[int, Int(0, 2**31)]
    turns: Annotated[tuple[TurnInfo, ...], ListOf(Nested(TurnInfo), limits.PAGE_TURNS)]
    more: Annotated[bool, Flag()] = False


@dataclass(frozen=True)
class PresetInfo:
    """Named settings; ``precision`` is the one that they are meant for, empty for any.

    ``expected_ms`` is how long an edit of one square picture is expected to run with them alone, at the model's own
    size; 0 where they are refused here.
    """

    name: Annotated[str, Identifier(limits.ID_CHARS)]
    steps: Annotated[int, Int(1, limits.STEPS)]
    true_cfg_scale: Annotated[float, Real(1.0, limits.CFG_SCALE)]
    precision: Annotated[str, NAME] = ""
    loras: Annotated[tuple[str, ...], ListOf(Text(limits.NAME_CHARS), 2)] = ()
    about: Annotated[str, Text(200, empty=True)] = ""
    default: Annotated[bool, Flag()] = False
    expected_ms: Annotated[int, COUNT] = 0


@dataclass(frozen=True)
class Describe(Message):
    """Ask what this daemon serves. The machine's owner may ask for the ``plans`` of its workers as well."""

    TYPE = b"DESCRIBE"
    id: Annotated[int, COUNT]
    plans: Annotated[bool, Flag()] = False


@dataclass(frozen=True)
class Description(Message):
    """Answer to DESCRIBE: the model, its precision, what it can do, and the limits of one user.

    ``max_pixels`` is the cap for results, ``side_multiple`` the grid of their width and height; ``max_images`` is 0 for
    a model that makes pictures from text alone. ``picture_formats`` are those that pictures may have, as
    ``qied_client.picture_header`` names them. ``loras`` is how many can be listed. ``limits`` are settings of the
    daemon by name, ``stages`` those that recipes may have. The body is empty, or JSON: a list of the workers'
    plans, each as ``qied plan --json`` prints it.
    """

    TYPE = b"DESCRIPTION"
    re: Annotated[int, COUNT]
    model: Annotated[str, Text(limits.NAME_CHARS)]
    title: Annotated[str, Text(limits.NAME_CHARS)]
    model_version: Annotated[str, NAME]
    precision: Annotated[str, NAME]
    max_pixels: Annotated[int, SIDE]
    max_images: Annotated[int, Int(0, limits.IMAGES)]
    side_multiple: Annotated[int, Int(1, 256)]
    picture_formats: Annotated[tuple[str, ...], ListOf(ID, 16)]
    presets: Annotated[tuple[PresetInfo, ...], ListOf(Nested(PresetInfo), 8)]
    loras: Annotated[int, COUNT]
    warnings: Annotated[tuple[str, ...], WARNINGS] = ()
    limits: Annotated[dict[str, Any], Scalars(16)] = field(default_factory=dict)
    stages: Annotated[tuple[str, ...], Later(ListOf(Identifier(limits.ID_CHARS), 16))] = ()
    plans: Annotated[bytes | memoryview, Body(0, limits.PLANS_BYTES)] = b""


@dataclass(frozen=True)
class LoraInfo:
    """A LoRA by the name that a request takes. ``steps`` is for how many a distilled one is made, else 0."""

    name: Annotated[str, NameInFolder(limits.NAME_CHARS)]
    bytes: Annotated[int, COUNT]
    rank: Annotated[int, COUNT] = 0
    steps: Annotated[int, Int(0, limits.STEPS)] = 0
    problem: Annotated[str, Text(200, empty=True)] = ""


@dataclass(frozen=True)
class ListLoras(Message):
    """Ask for the daemon's LoRAs in the order of their names: a page of those after ``after``."""

    TYPE = b"LORAS"
    id: Annotated[int, COUNT]
    after: Annotated[str | None, Maybe(NameInFolder(limits.NAME_CHARS))] = None


@dataclass(frozen=True)
class LoraList(Message):
    """Answer to LORAS. ``more``: there are others after these."""

    TYPE = b"LORALIST"
    re: Annotated[int, COUNT]
    loras: Annotated[tuple[LoraInfo, ...], ListOf(Nested(LoraInfo), limits.PAGE_LORAS)]
    more: Annotated[bool, Flag()] = False


@dataclass(frozen=True)
class UpscalerInfo:
    """An upscaling model by the name that ``upscale`` takes; each side of a picture becomes ``scale`` times as long.

    ``precision`` is that of the first worker: fp32, or a half precision that its card has proven.
    """

    name: Annotated[str, NameInFolder(limits.NAME_CHARS)]
    scale: Annotated[int, Int(1, 8)]
    architecture: Annotated[str, NAME] = ""
    precision: Annotated[str, NAME] = ""


@dataclass(frozen=True)
class ListUpscalers(Message):
    """Ask for the daemon's upscaling models in the order of their names: a page of those after ``after``."""

    TYPE = b"UPSCALERS"
    id: Annotated[int, COUNT]
    after: Annotated[str | None, Maybe(NameInFolder(limits.NAME_CHARS))] = None


@dataclass(frozen=True)
class UpscalerList(Message):
    """Answer to UPSCALERS. ``more``: there are others after these."""

    TYPE = b"UPSCALERLIST"
    re: Annotated[int, COUNT]
    upscalers: Annotated[tuple[UpscalerInfo, ...], ListOf(Nested(UpscalerInfo), limits.PAGE_UPSCALERS)]
    more: Annotated[bool, Flag()] = False
