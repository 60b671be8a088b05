from defusion_banding import BANDING

from defusion_cli.plugins import check_degradation


def test_banding_keeps_the_contract() -> None:
    check_degradation(BANDING)
