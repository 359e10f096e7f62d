"""The prompt rewriter: a local command, or a chat model."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, model_validator

from qied.config.section import Section

INSTRUCTION: Final = (
    "You rewrite instructions for an image-editing model. Keep the meaning, every name, number and quoted text, and "
    "the language of the instruction. Say plainly what to change, where in the picture, and what must stay as it is. "
    "Answer with the rewritten instruction alone, in at most three sentences."
)
"""What a chat model is told, unless the configuration has another text."""


@dataclass(frozen=True)
class Rewriter:
    """A local ``command`` (its words), or the ``url`` of an OpenAI-compatible endpoint; neither: there is none.

    ``model``, ``key_file`` (a file with the API key; empty: none) and ``instruction`` are for the endpoint. A prompt
    has ``timeout_s`` seconds; ``on_failure`` is what happens to an edit of which the prompt could not be rewritten.
    """

    command: tuple[str, ...] = ()
    url: str = ""
    model: str = ""
    key_file: str = ""
    instruction: str = INSTRUCTION
    timeout_s: float = 30.0
    on_failure: Literal["keep", "refuse"] = "keep"

    def __bool__(self) -> bool:
        return bool(self.command or self.url)


def _words(value: object) -> object:
    """A text is what the environment holds: words as a shell would split them."""
    return shlex.split(value) if isinstance(value, str) else value


class RewriterConfig(Section):
    """What improves the prompts of edits that ask for it: a local command, or a chat model."""

    command: Annotated[tuple[str, ...], BeforeValidator(_words)] = Field(
        (), description="words of a command that gets a prompt on its standard input and prints another"
    )
    url: str = Field("", description="OpenAI-compatible endpoint, such as http://127.0.0.1:8080/v1")
    model: str = Field("", description="model that the endpoint is asked for")
    key_file: str = Field("", description="file with the endpoint's API key; empty: none")
    instruction: str = Field("", max_length=8000, description="what the chat model is told; empty: qied's own text")
    timeout_s: float = Field(30.0, gt=0, le=120, description="seconds that rewriting a prompt may take")
    on_failure: Literal["keep", "refuse"] = Field(
        "keep", description="an edit whose prompt cannot be rewritten: keep its prompt and warn, or refuse it"
    )

    @model_validator(mode="after")
    def _goes_together(self) -> RewriterConfig:
        if self.command and self.url:
            raise ValueError("command and url are both given; leave one empty")
        if (self.model or self.key_file) and not self.url:
            raise ValueError("model and key_file have no effect without url")
        if self.url:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("url is not an address; write it like http://127.0.0.1:8080/v1")
            if parts.username is not None or parts.password is not None or parts.query:
                raise ValueError("url has a secret or a query in it; put the key into key_file")
        return self

    @property
    def for_workers(self) -> Rewriter:
        """The same for workers."""
        instruction = self.instruction or INSTRUCTION
        return Rewriter(self.command, self.url, self.model, self.key_file, instruction, self.timeout_s, self.on_failure)
