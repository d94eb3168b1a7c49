"""Every command of the documentation, run for real: on a machine of its own, with a real Asterisk and real calls."""

from __future__ import annotations

import pytest

from tests.docs import pages, rules
from tests.docs.world import World

pytestmark = pytest.mark.e2e

CHANGES_SOMETHING = {"run", "settings", "account", "service"}
"""What is done again wherever it stands; the rest only looks, and once is enough for the same words."""


def in_order() -> list[tuple[pages.Command, rules.Rule]]:
    """Return what is run, with its rule, what installs the bridge before everything else."""
    ruled = [(command, rules.rule_for(command)) for command in pages.commands()]
    run = [(command, rule) for command, rule in ruled if rule is not None and rule.does]
    return sorted(run, key=lambda pair: pair[1].does != "install")


async def test_every_command_does_what_the_documentation_says(asterisk: str) -> None:
    """First the bridge is installed; then a reader goes through the pages from top to bottom, the README first."""
    failures: list[str] = []
    looked: set[tuple[str, str]] = set()
    done = 0
    async with World.open(asterisk) as world:
        for command, rule in in_order():
            if (rule.does, command.bare) in looked:
                continue
            if rule.does not in CHANGES_SOMETHING:
                looked.add((rule.does, command.bare))
            try:
                await getattr(world, rule.does)(command.text)
            except (AssertionError, TimeoutError) as error:
                failures.append(f"{command}\n    {type(error).__name__}: {error}")
            done += 1
            if command.page == "README.md" and "enable --now" in command.text:
                await world.live_a_little()
    assert not failures, "\n\n".join(failures)
    assert done > 50
