"""A Zammad and a PBX to try things on: used by `demo` and by the tests, never by `run`."""
