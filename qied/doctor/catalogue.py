"""All quick checks, in the order in which they are reported."""

from __future__ import annotations

from qied.doctor.checks import cards, clock, driver, host, model, planning, port, software, state, torch_build

CHECKS = (
    *software.CHECKS,
    *driver.CHECKS,
    *torch_build.CHECKS,
    *cards.CHECKS,
    *host.CHECKS,
    *planning.CHECKS,
    *model.CHECKS,
    *state.CHECKS,
    *port.CHECKS,
    *clock.CHECKS,
)
