"""Edits as they come in forms: OpenAI's fields and those of local servers, turned into the options of a client."""

from qied_client.web.forms.edit import EditForm, edit_form, form_of, generation_form, no_picture, preset_for, read_file
from qied_client.web.forms.fields import ALIASES, FIELDS, PRESETS, WITHOUT_EFFECT

__all__ = [
    "ALIASES",
    "FIELDS",
    "PRESETS",
    "WITHOUT_EFFECT",
    "EditForm",
    "edit_form",
    "form_of",
    "generation_form",
    "no_picture",
    "preset_for",
    "read_file",
]
