"""Memory of the host, of its container, and what of it may be pinned, against the plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qied.doctor.findings import Status
from qied.planning.plan import Refusal

GIB = 1024**3


def needing(planned, snapshot, host_gib, pinned_gib=0):
    return replace(planned(snapshot), host_bytes=host_gib * GIB, pinned_bytes=pinned_gib * GIB)


def test_memory_that_is_enough(facts, machine, planned, ask):
    assert ask("host.memory", facts(plan=needing(planned, machine(), 50))).status is Status.OK


def test_memory_that_is_not_free_now_is_a_warning_and_what_is_not_there_an_error(facts, machine, planned, ask):
    assert ask("host.memory", facts(plan=needing(planned, machine(), 60))).status is Status.WARNING
    assert ask("host.memory", facts(plan=needing(planned, machine(), 70))).status is Status.ERROR


def test_memory_without_a_plan_is_not_judged(facts, ask):
    assert ask("host.memory", facts(plan=None)).status is Status.SKIPPED


def test_a_containers_limit_below_the_plan_is_an_error_with_the_option_that_lifts_it(facts, machine, planned, ask):
    tight = machine(host={"memory_limit_bytes": 16 * GIB})
    found = ask("host.container", facts(tight, plan=needing(planned, machine(), 20)))
    assert (found.status, "--memory 20g" in found.remedy) == (Status.ERROR, True)
    assert ask("host.container", facts(tight, plan=needing(planned, machine(), 10))).status is Status.OK
    assert ask("host.container", facts()).message == "No container limits the memory."


def test_a_small_limit_of_pinned_memory_is_a_warning_where_the_plan_pins_more(facts, machine, planned, ask):
    small = machine(host={"memlock_limit_bytes": 8 * 1024**2}, gpu={"selftest": None})
    found = ask("host.memlock", facts(small, plan=needing(planned, small, 20, 9)))
    assert (found.status, "ulimit -l unlimited" in found.remedy) == (Status.WARNING, True)
    assert ask("host.memlock", facts(small, plan=needing(planned, small, 20, 0))).status is Status.OK
    assert ask("host.memlock", facts()).status is Status.OK


def test_copies_that_were_seen_to_be_fast_count_more_than_the_limit(facts, machine, planned, ask):
    small = machine(host={"memlock_limit_bytes": 8 * 1024**2})
    assert ask("host.memlock", facts(small, plan=needing(planned, small, 20, 9))).status is Status.OK


@pytest.fixture
def crowded(facts, machine):
    """Facts of a machine whose memory is too small for any plan by the planner's own word."""

    def make(**host):
        examined = facts(machine(host=host))
        assert isinstance(examined.plan, Refusal), examined.plan
        assert examined.plan.code == "host_memory_too_small"
        return examined

    return make


def test_memory_that_is_too_small_for_any_plan_is_an_error_of_the_memory(crowded, ask):
    examined = crowded(memory_available_bytes=2 * GIB)
    found = ask("host.memory", examined)
    assert (found.status, found.message) == (Status.ERROR, examined.plan.message)
    assert ask("host.container", examined).status is Status.OK
    assert ask("plan.made", examined).cause == "host.memory"


def test_a_limit_below_what_is_free_is_the_containers(crowded, ask):
    examined = crowded(memory_limit_bytes=2 * GIB)
    found = ask("host.container", examined)
    assert (found.status, "--memory" in found.remedy) == (Status.ERROR, True)
    assert ask("host.memory", examined).status is Status.SKIPPED
    assert ask("plan.made", examined).cause == "host.container"


def test_what_a_container_has_taken_of_its_limit_counts(crowded, ask):
    host = {"memory_available_bytes": 3 * GIB, "memory_limit_bytes": 32 * GIB}
    assert ask("plan.made", crowded(**host)).cause == "host.memory"
    assert ask("plan.made", crowded(**host, memory_limit_used_bytes=30 * GIB)).cause == "host.container"
