"""A worker's step policy: which of its active jobs takes the next step, by fair share of measured milliseconds.

Two lanes, previews and the rest, share the worker 3 to 1 while both have jobs, previews first. A third lane, of the
preemptible jobs, gets a twentieth of what the other two get while they have jobs. In each lane the group (the user)
with the least virtual time is next, and of its jobs the one with the least; virtual time is milliseconds over weight. A
newcomer starts level with the furthest of those present, not with the least: entering at the least would let an endless
stream of one-step jobs keep an older job waiting for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PREVIEW_SHARE = 3
PREEMPTIBLE_SHARE = 20
"""Milliseconds of the other lanes for each one of the preemptible jobs, while both have jobs."""
_UNITS = 1 << 20  # virtual time has this many units per millisecond at weight 1


@dataclass(eq=False, slots=True)
class _Turns:
    """Virtual times of those who take turns, and of those who left with more than the rest have yet."""

    virtual: dict[str, int] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)

    def enter(self, name: str, weight: int) -> None:
        level = max(self.virtual.values(), default=0)
        self.virtual[name] = max(level, self.left.pop(name, 0))
        self.weights[name] = weight

    def leave(self, name: str) -> None:
        self.left[name] = self.virtual.pop(name)
        del self.weights[name]
        least = min(self.virtual.values(), default=None)
        self.left = {} if least is None else {who: at for who, at in self.left.items() if at > least}

    def charge(self, name: str, milliseconds: int) -> None:
        self.virtual[name] += milliseconds * _UNITS // self.weights[name]

    def order(self) -> list[str]:
        return sorted(self.virtual, key=self.virtual.__getitem__)


@dataclass(eq=False, slots=True)
class _Lane:
    """Groups that take turns, and in each of them its jobs."""

    groups: _Turns = field(default_factory=_Turns)
    jobs: dict[str, _Turns] = field(default_factory=dict)

    def add(self, key: str, group: str, weight: int) -> None:
        if group not in self.jobs:
            self.jobs[group] = _Turns()
            self.groups.enter(group, 1)
        self.jobs[group].enter(key, weight)

    def remove(self, key: str, group: str) -> None:
        self.jobs[group].leave(key)
        if not self.jobs[group].virtual:
            del self.jobs[group]
            self.groups.leave(group)

    def charge(self, key: str, group: str, milliseconds: int) -> None:
        self.groups.charge(group, milliseconds)
        self.jobs[group].charge(key, milliseconds)

    def order(self) -> list[str]:
        return [job for group in self.groups.order() for job in self.jobs[group].order()]


class FairShare:
    """Weighted fair share over groups, then over each group's jobs, with previews first; nothing starves.

    A turn is the first of ``order`` and the ``charge`` that follows. Jobs may share a turn: the first so many of
    ``order``, each of them charged for its own part of it. Q is the longest turn: the sum of all that was charged for
    it. Ties go to the one that entered first.

    Bound: a job that is not a preview waits, from its last turn or from ``add``, at most ``4 * R + 4 * Q`` milliseconds
    of turns without it, where ``R = G * S + 2 * (G - 1) * Q``. G is the number of groups that had jobs other than
    previews in that time. S is the sum of ``Q * (1 + w / w_low)`` over the other such jobs of its own group that were
    there when the wait began, w being their weights and w_low the least weight in this group since it was last empty.
    With equal weights and n such jobs in its group the bound is ``(8 * G * n - 4) * Q``.
    A preview that is alone in its lane waits at most ``2 * Q``.

    Sharing a turn leaves the bound as it is: any job with a part in a turn without another is ahead of that other in
    the very order in which turns are given, and a turn takes each of its jobs, and their groups, at most Q further.
    Where time becomes known only after some later turn, it is charged with the job's next one: the bound is one of
    charges.

    Preemptible jobs share their turns with each other only, and add ``1 / PREEMPTIBLE_SHARE`` of the others' time and
    one turn to every bound above.
    """

    def __init__(self) -> None:
        self._previews = _Lane()
        self._others = _Lane()
        self._preemptible = _Lane()
        self._jobs: dict[str, tuple[_Lane, str]] = {}
        self._ahead = 0
        self._before_preemptible = 0

    def add(self, key: str, *, group: str, weight: int, preview: bool, preemptible: bool = False) -> None:
        """Let a job take turns; ``weight`` is at least 1 and counts among the jobs of its group and lane."""
        assert key not in self._jobs, key
        assert weight >= 1, weight
        lane = self._preemptible if preemptible else self._previews if preview else self._others
        lane.add(key, group, weight)
        self._jobs[key] = lane, group

    def remove(self, key: str) -> None:
        """Let a job take no more turns; raises KeyError when it is not there."""
        lane, group = self._jobs.pop(key)
        lane.remove(key, group)

    def order(self) -> list[str]:
        """The job whose turn it is, and after it those that may share its turn, in the order in which they may.

        A preview shares its turn with previews only, so that no long job holds it up. Others share theirs with each
        other, and with previews once all others have a part in it. Changes nothing.
        """
        others = self._previews.jobs or self._others.jobs
        if self._preemptible.jobs and (self._before_preemptible > 0 or not others):
            return self._preemptible.order()
        if self._previews.jobs and (self._ahead <= 0 or not self._others.jobs):
            return self._previews.order()
        return [*self._others.order(), *self._previews.order()]

    def charge(self, key: str, milliseconds: int) -> None:
        """Charge a job for its turn, at least 1 millisecond; raises KeyError when it is not there."""
        self.charge_together({key: milliseconds})

    def charge_together(self, spent: Mapping[str, int]) -> None:
        """Charge each job of a turn for its part, at least 1 millisecond each; ``spent`` has them in their order.

        The turn counts for the lane of the first one. Raises KeyError when one of them is not there.
        """
        jobs = {key: (*self._jobs[key], max(1, milliseconds)) for key, milliseconds in spent.items()}
        led, taken = next(lane for lane, _, _ in jobs.values()), 0
        for key, (lane, group, milliseconds) in jobs.items():
            lane.charge(key, group, milliseconds)
            taken += milliseconds if lane is led else 0
        if led is self._preemptible:
            owed = self._before_preemptible - PREEMPTIBLE_SHARE * taken
            self._before_preemptible = max(owed, -PREEMPTIBLE_SHARE * taken)
            return
        if self._preemptible.jobs:
            self._before_preemptible += taken
        if led is self._others:
            self._ahead = max(self._ahead - PREVIEW_SHARE * taken, -PREVIEW_SHARE * taken)
        elif self._others.jobs:
            self._ahead += taken
