"""How times, numbers and foreign texts are shown to people; web/status.js says the times in the same words."""

from __future__ import annotations

from typing import Final

_HIDDEN_DIGITS: Final = 3
# Shorter ones are extensions: they name a desk, not a person outside.
_SHORTEST_NUMBER: Final = 6
# Characters that turn the direction of writing round, and with it what stands beside them.
_DIRECTIONS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def duration(seconds: float) -> str:
    """Return a time in the two units that matter: `5 s`, `3 min 20 s`, `2 h 5 min`, `4 d 7 h`."""
    minutes, second = divmod(max(int(seconds), 0), 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    parts = [(day, "d"), (hour, "h"), (minute, "min"), (second, "s")]
    first = next((index for index, (count, _) in enumerate(parts) if count), len(parts) - 1)
    shown = [f"{count} {unit}" for count, unit in parts[first : first + 2] if count]
    return " ".join(shown) or "0 s"


def latency(seconds: float) -> str:
    """Return a short time: `35 ms`, `1.2 s`, from a minute on like `duration`."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:  # noqa: PLR2004 - a second
        return f"{milliseconds} ms"
    if milliseconds < 60_000:  # noqa: PLR2004 - a minute
        tenths = milliseconds // 100
        return f"{tenths // 10}.{tenths % 10} s"
    return duration(seconds)


def short_number(number: str) -> str:
    """Return a telephone number without its last three digits; extensions and words stay as they are."""
    digits = [index for index, character in enumerate(number) if character.isdigit()]
    if len(digits) < _SHORTEST_NUMBER:
        return number
    hidden = digits[-_HIDDEN_DIGITS:]
    return "".join("•" if index in hidden else character for index, character in enumerate(number))


def foreign(text: str, *, longest: int = 120) -> str:
    """Return a text of others so that it can stand in a line: no control characters, at most `longest` in all."""
    shown = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return "".join("\ufffd" if _spoils(character) else character for character in shown)


def _spoils(character: str) -> bool:
    code = ord(character)
    control = code < 0x20 or 0x7F <= code < 0xA0 or character in "\u2028\u2029"  # noqa: PLR2004
    half = 0xD800 <= code < 0xE000  # noqa: PLR2004 - a surrogate: no text that can be sent
    return control or half or character in _DIRECTIONS
