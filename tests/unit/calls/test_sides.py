"""Sides of channels."""

import pytest

from ami2zammad.calls.sides import Side, TrunkPatterns, base_name

PATTERNS = TrunkPatterns(trunks=("PJSIP/trunk*", "DAHDI/*"))


@pytest.mark.parametrize(
    ("name", "context", "side"),
    [
        ("PJSIP/trunk-0000001a", "anything", Side.OUTSIDE),
        ("PJSIP/trunk2-0000001a", "anything", Side.OUTSIDE),
        ("DAHDI/1-1", "anything", Side.OUTSIDE),
        ("SIP/provider-0000001a", "from-trunk-sip-provider", Side.OUTSIDE),
        ("IAX2/voip-12", "from-did-direct", Side.OUTSIDE),
        ("PJSIP/100-0000001a", "from-internal", Side.INSIDE),
        ("PJSIP/my-trunk-0000001a", "from-internal", Side.INSIDE),
        ("Local/100@from-trunk-0000001a;1", "from-trunk", Side.PLUMBING),
        ("AsyncGoto/PJSIP/100-0000001a", "from-internal", Side.PLUMBING),
        ("PJSIP/trunk-0000001a<ZOMBIE>", "from-trunk", Side.PLUMBING),
        ("Surrogate/PJSIP/100-0000001a", "from-internal", Side.PLUMBING),
    ],
)
def test_a_channel_has_a_side(name: str, context: str, side: Side) -> None:
    assert PATTERNS.side_of(name, context) is side


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("PJSIP/trunk-0000001a", "PJSIP/trunk"),
        ("PJSIP/my-phone-0000001a", "PJSIP/my-phone"),
        ("Local/100@ctx-0000001a;2", "Local/100@ctx"),
        ("PJSIP/100", "PJSIP/100"),
    ],
)
def test_the_suffix_is_not_part_of_a_name(name: str, base: str) -> None:
    assert base_name(name) == base
