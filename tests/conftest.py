"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine and of who else uses it, nothing of what is tested.
settings.register_profile("ami2zammad", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ami2zammad")
