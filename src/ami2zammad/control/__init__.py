"""What a reply does to a live call: reject, dial; and asking first.

Phones come first: whatever is slow, broken or gone, a call that asks waits `decision_timeout` at most and then goes on.
Knows `calls/` and `asterisk/`; what Zammad says comes as a `calls.decisions.Decision`.
"""
