"""Limits of control groups are found wherever the system puts them, and nothing is taken for a limit that is none."""

from __future__ import annotations

import pytest

from qied.hardware.cgroups import cpu_limit, memory_limit, memory_used, oom_counter, parse_membership


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_a_container_of_version_2_finds_its_limit_at_the_mount(tmp_path):
    write(tmp_path, memory__max="8589934592", cpu__max="150000 100000")
    assert memory_limit("0::/\n", tmp_path) == 8589934592
    assert cpu_limit("0::/\n", tmp_path) == 2


def test_the_smallest_limit_on_the_way_to_the_root_counts(tmp_path, captured):
    write(tmp_path / "user.slice", memory__max="4294967296", cpu__max="400000 100000")
    write(tmp_path / "user.slice" / "user-1000.slice" / "session-2.scope", memory__max="max", cpu__max="max 100000")
    assert memory_limit(captured("cgroup-v2.txt"), tmp_path) == 4294967296
    assert cpu_limit(captured("cgroup-v2.txt"), tmp_path) == 4


def test_a_container_of_version_1_sees_its_own_group_at_the_mount_though_it_is_told_another_path(tmp_path, captured):
    write(tmp_path / "memory", memory__limit_in_bytes="2147483648")
    write(tmp_path / "cpu", cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")
    assert memory_limit(captured("cgroup-v1.txt"), tmp_path) == 2147483648
    assert cpu_limit(captured("cgroup-v1.txt"), tmp_path) == 1


@pytest.mark.parametrize("text", ["max", "9223372036854771712", "", "-1", "a lot"])
def test_no_limit_is_none(tmp_path, captured, text):
    write(tmp_path, memory__max=text, cpu__max=f"{text} 100000")
    write(tmp_path / "memory", memory__limit_in_bytes=text)
    assert memory_limit("0::/\n", tmp_path) is None
    assert memory_limit(captured("cgroup-v1.txt"), tmp_path) is None


def test_an_unlimited_quota_of_version_1_is_none(tmp_path, captured):
    write(tmp_path / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert cpu_limit(captured("cgroup-v1.txt"), tmp_path) is None


def test_a_group_outside_of_the_namespace_is_read_at_the_mount(tmp_path):
    write(tmp_path / "inside", memory__max="1048576")
    write(tmp_path / "inside" / "mount", memory__max="2097152")
    assert memory_limit("0::/../neighbour\n", tmp_path / "inside" / "mount") == 2097152


def test_a_system_without_control_groups_has_no_limits(tmp_path):
    assert memory_limit("", tmp_path) is None
    assert cpu_limit("", tmp_path) is None


def test_controllers_that_share_a_line_share_its_path(captured):
    groups = parse_membership(captured("cgroup-v1.txt"))
    assert str(groups["cpu"]) == str(groups["cpuacct"]) == "/docker/29ba3f57"
    assert str(groups[""]) == "/"


def test_what_is_used_is_that_of_the_group_with_the_smallest_limit_without_files_that_can_be_dropped(tmp_path):
    write(tmp_path, memory__max="8000000000", memory__current="7000000000")
    group = tmp_path / "user.slice"
    write(group, memory__max="4000000000", memory__current="3000000000")
    assert memory_used("0::/user.slice\n", tmp_path) == 3000000000
    write(group, memory__stat="anon 100\nfile 1800000000\ninactive_file 1000000000\nactive_file 800000000")
    assert memory_used("0::/user.slice\n", tmp_path) == 2000000000


def test_version_1_tells_what_is_used_under_other_names(tmp_path, captured):
    write(
        tmp_path / "memory",
        memory__limit_in_bytes="2147483648",
        memory__usage_in_bytes="1500000000",
        memory__stat="inactive_file 1\ntotal_inactive_file 500000000",
    )
    assert memory_used(captured("cgroup-v1.txt"), tmp_path) == 1000000000


def test_without_a_limit_or_where_the_kernel_does_not_tell_nothing_is_said_to_be_used(tmp_path):
    write(tmp_path, memory__max="max", memory__current="5")
    assert memory_used("0::/\n", tmp_path) is None
    write(tmp_path / "inner", memory__max="1048576")
    assert memory_used("0::/inner\n", tmp_path) is None


def test_kills_for_lack_of_memory_are_counted_by_the_innermost_group_that_does(tmp_path):
    assert oom_counter("0::/a/b\n", tmp_path) is None
    write(tmp_path / "a", memory__events="low 0\noom 1\noom_kill 1")
    write(tmp_path / "a" / "b", memory__events="low 0")
    assert oom_counter("0::/a/b\n", tmp_path) == tmp_path / "a" / "memory.events"
    write(tmp_path / "memory", memory__oom_control="oom_kill_disable 0\noom_kill 3")
    assert oom_counter("4:memory:/elsewhere\n", tmp_path) == tmp_path / "memory" / "memory.oom_control"
