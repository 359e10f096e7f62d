"""What is wrong with a weight file, before anybody has decided what that means."""

from __future__ import annotations

GET_ANOTHER = "Download the file again."


class BadFile(Exception):
    """``what`` is a clause that continues the file's name ("it is cut off"), ``remedy`` a sentence of what to do."""

    def __init__(self, what: str, remedy: str = GET_ANOTHER) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
