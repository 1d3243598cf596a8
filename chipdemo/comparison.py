"""A model beside the one that was in use when it was trained, as its metrics.json says.

training/comparison.py measures it. Here is what the app makes of it: a model that is worse does not take
over by itself.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BETTER, NOT_DISTINGUISHABLE, WORSE = "better", "not distinguishable", "worse"
VERDICTS = (BETTER, NOT_DISTINGUISHABLE, WORSE)


@dataclass(frozen=True)
class Comparison:
    """The verdict on a model, from the same test images judged by it and by an earlier one.

    name, revision: of the earlier model. verdict: one of VERDICTS. reasons: the differences that decided.
    earlier_refused: the earlier model was refused itself. accepted: the day on which somebody accepted the
    model all the same, "" for nobody.
    """

    name: str
    revision: str
    verdict: str
    reasons: tuple[str, ...]
    earlier_refused: bool
    accepted: str

    @property
    def takes_over(self) -> bool:
        """Whether an app puts the model in use by itself."""
        return self.may_replace("")

    def may_replace(self, in_use: str) -> bool:
        """The same for an app in which the revision `in_use` is in use; compared with that, all is said."""
        refused = self.earlier_refused and self.revision != in_use
        return bool(self.accepted) or not (self.verdict == WORSE or refused)

    @property
    def text(self) -> str:
        """Such as "worse than chips 0123456789ab (AUROC on new test images ...)"."""
        than = "from" if self.verdict == NOT_DISTINGUISHABLE else "than"
        reasons = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        refused = ", which was refused itself" if self.earlier_refused else ""
        return f"{self.verdict} {than} {self.name} {self.revision}{refused}{reasons}"


def comparison_of(metrics: Mapping[str, Any]) -> Comparison | None:
    """The comparison in metrics.json; None where there was no earlier model.

    Raises KeyError, TypeError, ValueError where it cannot be read.
    """
    found = metrics.get("comparison")
    if found is None:
        return None
    if found["verdict"] not in VERDICTS:
        raise ValueError(f"comparison with the verdict {found['verdict']!r}")
    return Comparison(
        str(found["name"]),
        str(found["revision"]),
        found["verdict"],
        tuple(map(str, found["reasons"])),
        bool(found["earlier_refused"]),
        str(found.get("accepted", "")),
    )


@dataclass(frozen=True)
class Refused:
    """The newest revision of a model, where it does not take over. source: checkpoint folder or Hub id."""

    source: str
    revision: str
    comparison: Comparison

    @property
    def text(self) -> str:
        return f"Revision {self.revision[:12]} of {self.source} is {self.comparison.text}."

    @property
    def advice(self) -> str:
        return f"To use it anyway: {self.command}"

    @property
    def command(self) -> str:
        return shlex.join(["python", "-m", "chipdemo", "accept", self.revision[:12], "--model", self.source])


def kept_folder(folder: Path, revision: str) -> Path:
    """Where training keeps the model that was in use in a folder, when the one that replaces it is worse."""
    return folder.with_name(f"{folder.name}-{revision}")
