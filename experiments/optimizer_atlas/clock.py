"""How long the stages of a run take, kept in its log so that a run that goes on knows."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from subliminal_jax.runs.run_folder import RunFolder

STAGE = "seconds"


class Clock:
    """Times stages, each once: of one that was interrupted, the session that ended it."""

    def __init__(self, folder: RunFolder):
        self.folder = folder
        self.known = {
            (row["what"], row["part"]): float(row["seconds"])
            for row in folder.read_metrics()
            if row.get("stage") == STAGE
        }

    @contextmanager
    def time(self, what: str, part: str = "") -> Iterator[None]:
        """Time the stage `what` of a part of the rules, unless that is known."""
        start = time.monotonic()
        yield
        if (what, part) not in self.known:
            seconds = time.monotonic() - start
            self.known[what, part] = seconds
            record = {"stage": STAGE, "step": 0, "what": what, "part": part, "seconds": seconds}
            self.folder.log(record)

    def sum_seconds(self) -> dict[str, float]:
        """Of each stage, over its parts."""
        stages = dict.fromkeys(what for what, _ in self.known)
        return {
            stage: sum(seconds for (what, _), seconds in self.known.items() if what == stage)
            for stage in stages
        }
