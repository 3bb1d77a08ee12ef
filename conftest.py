"""pytest 从这里开始；全部内容在 tests/harness/。"""

pytest_plugins = ["tests.harness.plugin"]
