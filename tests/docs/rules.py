"""What is done with each command of the documentation: run, done by hand, or left out, and then why.

A command without a rule makes the test fail. The first rule that fits counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.docs.pages import Command

PAGES_ELSEWHERE = {
    "docs/install.md": "tests/packaging installs the package and the environment with a real systemd",
    "docs/container.md": "tests/packaging builds and runs the container",
}
"""Pages whose commands are run by tests of their own; here their grammar is looked at. Only what installs the bridge is
run here too."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`does` names a method of `tests.docs.world.World`; without one the command is left out, for the reason `why`."""

    pattern: str
    does: str = ""
    why: str = ""

    def fits(self, command: Command) -> bool:
        """Say whether this rule is for that command; a comment behind it does not count."""
        return re.fullmatch(self.pattern, command.bare) is not None


RULES = (
    # Forms of a command, with words to replace. The real ones are below.
    Rule(r"ami2zammad (run|demo|sandbox|record|outbox retry|outbox \[show\|retry\|discard\])", "synopsis"),
    Rule(r"ami2zammad (replay|record) FILE", "synopsis"),
    Rule(r"ami2zammad dial EXTENSION NUMBER", "synopsis"),
    Rule(r"journalctl -g", why="an option that is explained"),
    Rule(r"python3 python3-venv make git", why="names of Debian's packages"),
    # The repository's own.
    Rule(r"make (demo|test|format|docs)( ARGS=\S+)?", "target", "CI and developers run them all the time"),
    Rule(r"make reliability", "target", "tries all faults, for minutes: tests/faults"),
    Rule(r"make lock", "target", "needs uv and the network, and changes the locked versions"),
    Rule(
        r"make bench( ARGS='--only \w+'| ARGS=--docs)?", "target", "measures for minutes: tests/bench tries each step"
    ),
    # Installing into an environment of its own. The packages and what systemd has to do are tried in tests/packaging.
    Rule(r"python3 -m venv /opt/ami2zammad", "install"),
    Rule(r"/opt/ami2zammad/bin/pip install (--require-hashes -r requirements/run\.txt|--no-deps \.)", "install"),
    Rule(r"ln -sf /opt/ami2zammad/bin/ami2zammad /usr/local/bin/", "install"),
    Rule(r"install (-D )?-m 0644 systemd/ami2zammad\.sysusers /etc/sysusers\.d/ami2zammad\.conf", "install"),
    Rule(r"systemd-sysusers ami2zammad\.conf", why="needs systemd: tests/packaging"),
    Rule(r"install -d -m 2750 -g ami2zammad /etc/ami2zammad", "install"),
    Rule(r"install -m 0644 (systemd/ami2zammad@?\.service )+/etc/systemd/system/", "install"),
    Rule(r"ami2zammad init|AMI2ZAMMAD_\S+=… AMI2ZAMMAD_\S+=… ami2zammad init --yes .*", "settings"),
    # The bridge's own commands, on the machine on which it runs.
    Rule(r"ami2zammad check", "check"),
    Rule(r"ami2zammad status", "status"),
    Rule(r"ami2zammad --version", "run"),
    Rule(r"ami2zammad outbox( (show|retry|discard) (17|--all))?", "outbox"),
    Rule(r"ami2zammad record --redact case\.ami", "record"),
    Rule(r"ami2zammad replay case\.ami", "says_something"),
    Rule(r"curl .* http://127\.0\.0\.1:9469/dial", "dial"),
    # Asterisk.
    Rule(
        r"(cp|cat) config/asterisk/manager\.d/zammad\.conf .*/etc/asterisk/(manager\.d/|manager_custom\.conf)",
        "account",
    ),
    Rule(r"cp config/asterisk/extensions_zammad\.conf /etc/asterisk/", "run"),
    Rule(r"echo '#include extensions_zammad\.conf' >> /etc/asterisk/extensions\.conf", "run"),
    Rule(r"chown asterisk: /etc/asterisk/extensions_zammad\.conf", "run"),
    Rule(r"asterisk -rx '[^']+'( && asterisk -rx '[^']+')?", "console"),
    Rule(r"asterisk -rvvv", why="an interactive console"),
    # systemd: there is none here. What the unit does is tried with a real one in tests/packaging.
    Rule(r"systemctl (enable --now|start|stop|restart|reload|status) ami2zammad", "service"),
    Rule(r"systemctl status", why="an example of what it shows"),
    Rule(r"systemctl daemon-reload", why="needs systemd: tests/packaging"),
    Rule(r"systemd-analyze security ami2zammad", why="needs systemd: tests/packaging"),
    Rule(r"timedatectl", why="needs systemd; changes nothing"),
    Rule(r"journalctl --vacuum-time=7d", why="deletes old logs of the whole machine"),
    Rule(
        r"journalctl -u ami2zammad (-p warning|-o json \| jq .*)",
        why="the journal's own fields need systemd: tests/packaging runs these very commands",
    ),
    Rule(r"journalctl -u ami2zammad -g \S+", "search"),
    Rule(r"journalctl -u ami2zammad -o short-iso-precise -g 1795294371\.98", "says_something"),
    Rule(r"journalctl -u ami2zammad -f -o cat", "says_something"),
    Rule(r"journalctl -u ami2zammad -o cat \| jq .*", "says_something"),
    # Looking at the machine.
    Rule(r"stat -c '%a %U %G' /etc/ami2zammad/ami2zammad\.toml", "says_something"),
    Rule(r"ss -ltnp?", "says_something"),
    Rule(r"df -h /var/lib/ami2zammad", "says_something"),
    Rule(r"rm -f /var/lib/ami2zammad/outbox\.db\*", "run"),
)


def rule_for(command: Command) -> Rule | None:
    """Return the rule that says what is done with a command; None if there is none."""
    rule = next((rule for rule in RULES if rule.fits(command)), None)
    if command.page in PAGES_ELSEWHERE and (rule is None or rule.does != "install"):
        return Rule(".*", why=PAGES_ELSEWHERE[command.page])
    return rule
