"""数一数：与分词器自己数的相同。"""

import pytest

from tests.harness.session import page


@pytest.mark.parametrize("text", ["什么是 token？", "龘", "a b"])
def test_count(text):
    script = page("local/page")
    assert script["count"](text) == len(script["tokenizer"].tokenize(text))
