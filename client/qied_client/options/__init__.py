"""The options of an edit: types, help, checks, and the names that other libraries have for them."""

from qied_client.options.edit_options import OPTIONS, EditOptions, Option, shows_options
from qied_client.options.loras import Lora, Loras, lora_choices
from qied_client.options.request import edit_request

__all__ = ["OPTIONS", "EditOptions", "Lora", "Loras", "Option", "edit_request", "lora_choices", "shows_options"]
