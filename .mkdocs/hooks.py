"""构建站点时的几件小事：发布示例脚本，标出输出，让搜索认识本站的词。

页面这样给出整个脚本（与 `examples/` 里的文件同一个相对位置，严格模式会检查它在不在）：

    [下载 load.py](../examples/local/load.py){ download }
"""

import logging
import re
from pathlib import Path

import jieba
from mkdocs.structure.files import File

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
HAN = "[\u3001-\u303f\u4e00-\u9fff\uff01-\uff5e]"  # 汉字与全角标点
CHAPTERS = ("use", "local", "generate", "inside")


def on_config(config):
    jieba.setLogLevel(logging.WARNING)  # 不要「Building prefix dict …」
    jieba.load_userdict(str(HERE / "terms.txt"))


def on_files(files, config):
    """把各章的脚本发布到 examples/<章>/ 下；练习的测试不发布。"""
    for chapter in CHAPTERS:
        for path in sorted((EXAMPLES / chapter).rglob("*")):
            if path.suffix in (".py", ".sh", ".ps1") and not path.name.startswith(
                ("test_", "conftest")
            ):
                name = path.relative_to(EXAMPLES.parent).as_posix()
                files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_content(html, page, config, files):
    """两处小修。

    标题以「输出」开头的代码块加上类名 output；输出不是代码，也就不要复制按钮。
    源文件里汉字之间的换行，浏览器会显示成一个空格：在代码以外去掉它。
    """
    html = re.sub(
        r'<div class="([^"]*highlight)">(?=<span class="filename">输出)',
        r'<div class="\1 output no-copy">',
        html,
    )
    parts = re.split(r"(<pre.*?</pre>)", html, flags=re.S)
    parts[::2] = [re.sub(rf"(?<={HAN})\n(?={HAN})", "", part) for part in parts[::2]]
    return "".join(parts)
