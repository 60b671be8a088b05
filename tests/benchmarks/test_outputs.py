"""Where benchmarks leave their figures: a second run replaces what the first wrote, and nothing else."""

from __future__ import annotations

import pytest
from outputs import with_section

PAGE = "# Speed\n\n## Start\n\n1 s\n\n## Start-up\n\n2 s\n\n## End\n\n3 s\n"


@pytest.mark.parametrize("heading", ["Start", "Start-up", "End"])
def test_a_section_is_replaced_and_the_others_stay(heading):
    page = with_section(PAGE, heading, f"## {heading}\n\n9 s")
    assert page.count("## ") == 3 and page.count(f"## {heading}\n\n9 s\n") == 1
    kept = {"Start": "1 s", "Start-up": "2 s", "End": "3 s"}
    del kept[heading]
    assert all(f"## {name}\n\n{value}\n" in page for name, value in kept.items())
    assert with_section(page, heading, f"## {heading}\n\n9 s") == page


def test_a_new_section_comes_last():
    assert with_section(PAGE, "More", "## More\n\n4 s") == PAGE + "\n## More\n\n4 s\n"
    assert with_section("", "More", "## More\n\n4 s") == "## More\n\n4 s\n"
