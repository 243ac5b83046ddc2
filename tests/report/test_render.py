"""Markdown that says what the text says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unlearn.report.render import markdown


def test_markup_becomes_text() -> None:
    assert markdown("a|b `c` *d* _e_ [f](g) #h $i$") == r"a\|b \`c\` \*d\* \_e\_ \[f\](g) \#h \$i\$"
    assert markdown("<b>&amp;</b>") == "&lt;b&gt;&amp;amp;&lt;/b&gt;"
    assert markdown("one\r\ntwo\n") == "one<br>two"


@given(st.text())
def test_always_one_cell_of_one_line(text: str) -> None:
    cell = markdown(text)
    assert len(cell.splitlines()) <= 1
    assert "<" not in cell.replace("<br>", "")
    assert "|" not in cell.replace("\\\\", "").replace("\\|", "")
