"""Problems of weight files, before a caller decides what they mean."""

from __future__ import annotations

GET_ANOTHER = "Download the file again."


class BadFile(Exception):
    """``what`` is a clause that continues the file's name ("it is truncated"), ``remedy`` a sentence of what to do."""

    def __init__(self, what: str, remedy: str = GET_ANOTHER) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
