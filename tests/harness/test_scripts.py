"""每个示例脚本都能整个运行：单独拷到一个空文件夹里。在仓库根目录下的运行，就是页面自己。"""

import os
import re
import shutil

import pytest

from tests.harness import services
from tests.harness.execute import finish, run_script, start_script
from tests.harness.structure import chapter_scripts

ARGUMENTS = {"local/ask.py": ["你好"]}  # 需要参数的脚本：{"use/ask.py": ["你好"]}
ELSEWHERE = {  # 在这里跑不了的脚本和理由，它们另有测试
    "use/chat_ui.py": "由 streamlit 运行，见 tests/use/test_chat_ui.py"
}
NOBODY = "http://127.0.0.1:1/v1"  # 没有服务的地址


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        names = [
            name
            for name in chapter_scripts(metafunc.config.rootpath)
            if name.endswith(".py")
        ]
        metafunc.parametrize("name", names)


def test_whole_script(name, pytestconfig, tmp_path):
    if name in ELSEWHERE:
        pytest.skip(ELSEWHERE[name])
    root = pytestconfig.rootpath
    script = root / "examples" / name
    copy = shutil.copy(script, tmp_path)
    text = script.read_text("utf-8")
    plain = {key: value for key, value in os.environ.items() if key != "MODEL"}
    alone, lost = dict(os.environ), dict(plain)
    if '"BASE_URL"' in text:  # 问服务的脚本：MODEL 是服务起的名字
        alone["BASE_URL"] = f"{services.jiezi().url}/v1"
        lost["BASE_URL"] = NOBODY
    else:
        alone["MODEL"] = str(
            (root / os.environ.get("MODEL", "examples/jiezi")).resolve()
        )
    code, out, err = run_script(copy, *ARGUMENTS.get(name, []), cwd=tmp_path, env=alone)
    assert (code, err) == (0, ""), (
        f"单独拷出后运行 {name}，退出码 {code}：\n{out}\n{err}"
    )
    if '"MODEL"' in text:
        arguments = ARGUMENTS.get(name, [])
        process = start_script(copy, *arguments, cwd=tmp_path, env=lost)
        code, out, err = finish(process)
        clear = "\n" not in err and re.search("[\u4e00-\u9fff]", err)
        assert code == 2 and clear, (
            f"{name} 找不到模型或服务时要用一行中文说明，退出码 2，而不是 {code}：\n{out}\n{err}"
        )


def test_tables_name_real_scripts(pytestconfig):
    assert {*ARGUMENTS, *ELSEWHERE} <= set(chapter_scripts(pytestconfig.rootpath))
