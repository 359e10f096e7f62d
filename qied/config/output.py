"""How results are marked as made by AI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from qied.config.section import Section


@dataclass(frozen=True)
class Marking:
    """``on``: results carry IPTC's DigitalSourceType. Off, they carry only the marks of their inputs.

    ``aigc_producer`` is the code of the content's producer in China's AIGC label; empty: no label of one's own. The
    others are PEM files of a C2PA certificate chain and its key, and the address of a time-stamping service (RFC 3161);
    empty: no C2PA manifest.
    """

    on: bool = True
    aigc_producer: str = ""
    c2pa_certificate: str = ""
    c2pa_key: str = ""
    c2pa_time_url: str = ""

    @property
    def signs(self) -> bool:
        """Whether results get a C2PA manifest."""
        return self.on and bool(self.c2pa_certificate)


class OutputConfig(Section):
    """How results are marked as made by AI."""

    marking: Literal["on", "off"] = Field(
        "on", description="IPTC's DigitalSourceType in every result; off: only the marks of the inputs"
    )
    aigc_producer: str = Field(
        "", max_length=200, description="code of the producer in China's AIGC label (GB 45438); empty: no such label"
    )
    c2pa_certificate: str = Field("", description="PEM certificate chain that signs C2PA manifests; empty: none")
    c2pa_key: str = Field("", description="PEM private key of that certificate, without a password")
    c2pa_time_url: str = Field("", description="time-stamping service (RFC 3161) for signatures; empty: none")

    @model_validator(mode="after")
    def _goes_together(self) -> OutputConfig:
        if bool(self.c2pa_certificate) != bool(self.c2pa_key):
            raise ValueError("c2pa_certificate and c2pa_key belong together, and one is missing")
        if self.c2pa_time_url and not self.c2pa_certificate:
            raise ValueError("c2pa_time_url has no effect without c2pa_certificate")
        if self.marking == "off" and (self.aigc_producer or self.c2pa_certificate):
            raise ValueError("marking is off, so aigc_producer and c2pa_certificate must be empty")
        return self

    @property
    def marking_of_results(self) -> Marking:
        """The same for workers."""
        return Marking(
            self.marking == "on", self.aigc_producer, self.c2pa_certificate, self.c2pa_key, self.c2pa_time_url
        )
