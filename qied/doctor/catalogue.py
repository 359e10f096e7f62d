"""All checks that need no more than a glance, in the order in which people read them."""

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
