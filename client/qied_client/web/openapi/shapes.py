"""The shapes of JSON that the gateway makes itself, and of its forms, as schemas that can be referred to."""

from __future__ import annotations

from typing import Any, Final

from qied_client.history import SessionSummary, Turn
from qied_client.job_status import JobStatus, JobSummary
from qied_client.protocol import limits
from qied_client.protocol import messages as m
from qied_client.protocol.readiness import REASONS
from qied_client.web.forms import ALIASES, FIELDS, WITHOUT_EFFECT
from qied_client.web.openapi.schemas import Schema, Schemas

TEXT: Final[Schema] = {"type": "string"}
WHOLE: Final[Schema] = {"type": "integer"}
YES_OR_NO: Final[Schema] = {"type": "boolean"}
_FILE: Final[Schema] = {"type": "string", "format": "binary"}
_LARGEST_EXACT: Final = 2**53
"""Numbers above this are rounded by programs whose numbers are IEEE 754 doubles, such as JavaScript's."""


def record(**members: Schema) -> Schema:
    """An object that has all of these members."""
    return {"type": "object", "properties": members, "required": list(members)}


def listed(schema: Schema) -> Schema:
    """A list of such values."""
    return {"type": "array", "items": schema}


class Shapes:
    """The schemas of all answers and bodies, by what they are of."""

    def __init__(self, schemas: Schemas) -> None:
        named = schemas.components
        named["Error"] = record(
            error=record(message=TEXT, type=TEXT, param={"type": ["string", "null"]}, code={"type": ["string", "null"]})
        )
        named["Edit"] = edit_form(schemas, of_turn=False)
        named["TurnEdit"] = edit_form(schemas, of_turn=True)
        named["Generation"] = generation_form(schemas)
        self.error = _named("Error")
        self.edit, self.turn_edit, self.generation = _named("Edit"), _named("TurnEdit"), _named("Generation")
        self.description = schemas.of(m.Description, "re")
        self.status = schemas.of(m.StatusReport, "re")
        self.quoted = schemas.of(m.Quoted, "re")
        self.controlled = schemas.of(m.Controlled, "re")
        self.lora = schemas.of(m.LoraInfo)
        self.upscaler = schemas.of(m.UpscalerInfo)
        self.worker = schemas.of(m.WorkerRow)
        self.preset = schemas.of(m.PresetInfo)
        self.job_row = schemas.of(JobSummary)
        self.job = schemas.of(JobStatus)
        self.session_row = schemas.of(SessionSummary)
        self.drift = {"anyOf": [schemas.of(m.MeasuredDrift), {"type": "null"}]}
        self.session = record(name=TEXT, head=WHOLE, turns=listed(schemas.of(Turn)))

    def any_edit(self) -> Schema:
        """The form of an edit, or of a picture from text alone, as the served model takes it."""
        return {"anyOf": [self.edit, self.generation]}

    def me(self) -> Schema:
        """Who asks, and what is served."""
        return {"allOf": [self.description, record(user=TEXT, owner=YES_OR_NO)]}

    def plan(self) -> Schema:
        """What is served and how long it takes; ``plans`` and ``workers`` are for the owner alone."""
        schema = record(
            model=TEXT,
            title=TEXT,
            precision=TEXT,
            max_pixels=WHOLE,
            max_images=WHOLE,
            side_multiple=WHOLE,
            picture_formats=listed(TEXT),
            presets=listed(self.preset),
            warnings=listed(TEXT),
        )
        plans = {
            "type": "array",
            "items": {"type": "object"},
            "description": "What `qied plan --json` prints, for each.",
        }
        schema["properties"] |= {"plans": plans, "workers": listed(self.worker)}
        return schema

    def submitted(self) -> Schema:
        """The jobs of one form."""
        row = record(job=TEXT, turn={"type": ["integer", "null"]}, seed=WHOLE)
        return record(jobs=listed(row), notes=listed(TEXT))

    def images(self) -> Schema:
        """OpenAI's answer with pictures."""
        picture = record(b64_json=TEXT, seed=WHOLE, id=TEXT, warnings=listed(TEXT), drift=self.drift)
        details = record(image_tokens=WHOLE, text_tokens=WHOLE)
        usage = record(input_tokens=WHOLE, input_tokens_details=details, output_tokens=WHOLE, total_tokens=WHOLE)
        schema = record(
            created=WHOLE, data=listed(picture), background=TEXT, output_format=TEXT, size=TEXT, usage=usage
        )
        schema["properties"]["quality"] = TEXT  # left out where it is one that OpenAI's answers do not have
        return schema

    def model(self) -> Schema:
        """OpenAI's description of a model."""
        return record(id=TEXT, object={"const": "model"}, created=WHOLE, owned_by=TEXT)

    def readiness(self) -> Schema:
        """Whether edits can start, and why not."""
        return record(ready=YES_OR_NO, code={"type": "string", "enum": list(REASONS)}, reason=TEXT)

    def control(self) -> Schema:
        """An order of the owner."""
        return record(action={"type": "string", "enum": list(m.CONTROLS)})

    def quote(self) -> Schema:
        """What a quote is asked for: sizes, and options of an edit by their names in Python."""
        side = {"type": "integer", "minimum": 1, "maximum": limits.PIXELS}
        size = {"type": "array", "prefixItems": [side, side], "minItems": 2, "maxItems": 2}
        sizes = {"type": "array", "items": size, "minItems": 0, "maxItems": limits.IMAGES}
        properties = {"sizes": sizes, "canvas_size": size}
        return {"type": "object", "properties": properties, "required": ["sizes"], "additionalProperties": True}


def edit_form(schemas: Schemas, *, of_turn: bool) -> Schema:
    """The form of an edit, from the fields that are read; a turn's pictures are optional, and it has a base."""
    picture = "A PNG, JPEG or WebP." if of_turn else "A PNG, JPEG or WebP; the first picture is the canvas."
    members: dict[str, Any] = {
        "image": {"type": "array", "items": _FILE, "description": f"{picture} `image[]` is taken as well."},
        "mask": {**_FILE, "description": "What to edit, of the first picture's size; `mask_image` is taken as well."},
    }
    members["canvas"] = {**_FILE, "description": "A picture that redraw and refine draw on, in place of a new result."}
    members["redraw_mask"] = {
        **_FILE,
        "description": "What redraw draws again: transparent or white, by its mask_mode.",
    }
    others: dict[str, list[str]] = {}
    for alias, name in ALIASES.items():
        others.setdefault(name, []).append(alias)
    for name, form_field in FIELDS.items():
        if name == "base" and not of_turn:
            continue
        schema = schemas.checked(form_field.check)
        if schema.get("maximum", 0) > _LARGEST_EXACT:
            schema["format"] = "int64"
        about = form_field.about
        if name in others:
            about += f" Other names: {', '.join(others[name])}."
        members[name] = {**schema, "description": about}
        if form_field.default:
            members[name]["default"] = _default(form_field.default, schema["type"])
    members |= {name: {**TEXT, "description": "Taken, without effect."} for name in sorted(WITHOUT_EFFECT)}
    required = ["prompt"] if of_turn else ["image", "prompt"]
    return {"type": "object", "properties": members, "required": required}


def generation_form(schemas: Schemas) -> Schema:
    """The body of a request for pictures from text alone: an edit's without pictures and what belongs to them."""
    schema = edit_form(schemas, of_turn=False)
    members = {name: each for name, each in schema["properties"].items() if name not in ("image", "mask", "mask_mode")}
    return {"type": "object", "properties": members, "required": ["prompt"]}


def _default(text: str, kind: str) -> Any:
    if kind == "boolean":
        return text == "true"
    return int(text) if kind == "integer" else float(text) if kind == "number" else text


def _named(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}
