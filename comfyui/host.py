"""What ComfyUI does for a node that runs: its cancel button, its progress bar, and text on the node."""

from __future__ import annotations

from comfy import model_management
from comfy.utils import ProgressBar
from PIL import Image

PREVIEW_PX = 512
"""Most pixels on the longer side of a picture on a node, as in ComfyUI's own previews."""


class Interrupted(model_management.InterruptProcessingException):
    """The user pressed cancel; ComfyUI tells it from an error by the class that this one derives from."""


def stop_if_interrupted() -> None:
    """Raise Interrupted where the user has pressed cancel.

    The flag stays set, so that every node of the workflow that waits sees it; ComfyUI clears it before the next one.
    """
    if model_management.processing_interrupted():
        raise Interrupted


class NodeDisplay:
    """The bar, the picture and the text of one node on the canvas. ``node_id`` is its unique id."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._bar = ProgressBar(1, node_id=node_id)
        self._text = ""

    def show(self, text: str, done: int, total: int, picture: Image.Image | None = None) -> None:
        """Show that ``done`` of ``total`` units are done, a picture ("RGB") if there is one, and a text.

        Raises what ComfyUI's own progress does where the user has pressed cancel.
        """
        self._bar.update_absolute(done, total, None if picture is None else ("JPEG", picture, PREVIEW_PX))
        self.say(text)

    def say(self, text: str) -> None:
        """Show a text below the node's inputs, to the browser that runs the workflow; the same again is left out."""
        if text == self._text:
            return
        self._text = text
        from server import PromptServer  # not at the top: ComfyUI may still be loading it

        shown_by = PromptServer.instance
        if shown_by is not None and shown_by.client_id is not None:
            shown_by.send_progress_text(text, self._node_id, shown_by.client_id)
