"""构建站点时的几件小事：发布示例，让页面与搜索都轻，标出输出。

页面这样给出整个脚本（与 `examples/` 里的文件同一个相对位置，严格模式会检查它在不在）：

    [下载 load.py](../examples/local/load.py){ download }

    ??? note "examples/local/load.py"

        ```python title="examples/local/load.py"
        --8<-- "local/load.py"
        ```

折叠的一块不写进页面，读者展开时 docs/assets/site.js 才取来。
"""

import io
import json
import logging
import re
from pathlib import Path
from textwrap import indent
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import jieba
from mkdocs.structure.files import File

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
EXAMPLES = ROOT / "examples"
ARCHIVE = "renshi-moxing.zip"  # 运行例子要的全部文件
HAN = "[\u3001-\u303f\u4e00-\u9fff\uff01-\uff5e]"  # 汉字与全角标点
CHAPTERS = ("use", "local", "generate", "inside", "train")
# 整个脚本，折叠着
SCRIPT = re.compile(
    r'<details class="note">\s*<summary>(?P<name>examples/[^<]+)</summary>\s*'
    r'<div class="(?P<style>[^"]+)">.*?<code>(?P<code>.*?)</code></pre></div>\s*</details>',
    re.S,
)
# 颜色与正文相同的记号：名字、运算符、标点、空白
INK = re.compile(r'<span class="(?:n[acdefntv]?|vm|o|p|w)">([^<]*)</span>')
SAMPLE = re.compile(r'^(?P<space> *)--8<-- "(?P<path>skeleton/[^"]+)"$', re.M)
BLOCK = re.compile("<pre>.*?</pre>", re.S)
NAME = re.compile(r"\b[A-Za-z]\w*_\w+|\b[A-Z]\w*[a-z][A-Z]\w+")
LATER = "脚本在展开时取来；这里还是空的，就用上面的链接下载。"
UNSEARCHED = 'data-search-exclude="1"'


def on_config(config):
    jieba.setLogLevel(logging.WARNING)  # 不要「Building prefix dict …」
    jieba.load_userdict(str(HERE / "terms.txt"))


def on_files(files, config):
    """把各章的脚本发布到 examples/<章>/ 下，练习的测试不发布；再发布例子的压缩包。"""
    for chapter in CHAPTERS:
        for path in sorted((EXAMPLES / chapter).rglob("*")):
            if path.suffix in (".py", ".sh", ".ps1") and not path.name.startswith(
                ("test_", "conftest")
            ):
                name = path.relative_to(ROOT).as_posix()
                files.append(File.generated(config, name, abs_src_path=str(path)))
    files.append(File.generated(config, ARCHIVE, content=archive()))
    return files


def archive():
    """例子的压缩包：脚本、芥子、许可证；README 与依赖在 examples/ 里，放到最上一层。同样的文件总是同样的字节。"""
    names = {"LICENSE": ROOT / "LICENSE"}
    for path in (*EXAMPLES.rglob("*"), *ROOT.glob(".streamlit/*")):
        if path.is_file() and path.suffix != ".pyc":
            top = path.parent == EXAMPLES and path.suffix != ".py"
            names[path.name if top else path.relative_to(ROOT).as_posix()] = path
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as file:
        for name, path in sorted(names.items()):
            info = ZipInfo(f"{Path(ARCHIVE).stem}/{name}")  # 时间戳总是 1980 年
            file.writestr(info, path.read_bytes(), ZIP_DEFLATED)
    return packed.getvalue()


def on_page_markdown(markdown, page, config, files):
    """样板要原样给人看：里面的引用不展开，节的标记也留着。"""
    return SAMPLE.sub(
        lambda line: (
            indent((EXAMPLES / line["path"]).read_text("utf-8"), line["space"])
            .rstrip()
            .replace("--8<--", ";--8<--")
        ),
        markdown,
    )


def on_page_content(html, page, config, files):
    """几处小修。

    折叠的整个脚本换成空壳；压缩包的链接后面写上它有多大。
    标题以「输出」开头的代码块加上类名 output；输出不是代码，也就不要复制按钮。
    源文件里汉字之间的换行，浏览器会显示成一个空格：在代码以外去掉它。
    第一格空着的表，第一列是每行的名目，读屏软件要靠 <th> 认出来。
    输出与插图不进搜索：一个词在哪里讲到，看句子。
    """
    html = SCRIPT.sub(lambda block: later(block, page, config, files), html)
    size = len(files.get_file_from_path(ARCHIVE).content_bytes) / 1e6
    html = re.sub(f"(<a [^>]*{ARCHIVE}.*?</a>)", rf"\1（{size:.1f} MB）", html)
    html = re.sub(
        r'<div class="([^"]*highlight)">(?=<span class="filename">输出)',
        r'<div class="\1 output no-copy">',
        html,
    )
    html = re.sub('<(div(?= class="[^"]* output )|svg)', rf"<\1 {UNSEARCHED}", html)
    html = re.sub(
        "<table>\n<thead>\n<tr>\n<th></th>.*?</table>", row_names, html, flags=re.S
    )
    parts = re.split(r"(<pre.*?</pre>)", html, flags=re.S)
    parts[::2] = [re.sub(rf"(?<={HAN})\n(?={HAN})", "", part) for part in parts[::2]]
    parts[1::2] = [INK.sub(r"\1", part) for part in parts[1::2]]
    return "".join(parts)


def later(block, page, config, files):
    """折叠的整个脚本，换成展开时去取的空壳；着色的一份另存在脚本旁边。没有发布的脚本照旧。"""
    script = files.get_file_from_path(block["name"])
    if not script:
        return block[0]
    coloured = INK.sub(r"\1", block["code"])
    files.append(File.generated(config, block["name"] + ".html", content=coloured))
    return (
        f'<details class="note" data-script="{script.url_relative_to(page.file)}" {UNSEARCHED}>'
        f"<summary>{block['name']}</summary><p>{LATER}</p>"
        f'<div class="{block["style"]}" hidden><pre><code></code></pre></div></details>'
    )


def row_names(table):
    """第一列的 <td> 换成 <th>。"""
    named = re.sub("<tr>\n<td>(.*?)</td>", r'<tr>\n<th scope="row">\1</th>', table[0])
    return named.replace("<th></th>", "<td></td>", 1)


def on_post_build(config):
    """搜索索引里的代码块只留 masked_fill、DynamicCache 这样的名字；汉字写成汉字，不写成 \\uXXXX。"""
    path = Path(config.site_dir, "search/search_index.json")
    index = json.loads(path.read_text("utf-8"))
    for entry in index["docs"]:
        names = NAME.findall(" ".join(BLOCK.findall(entry["text"])))
        entry["text"] = BLOCK.sub("", entry["text"])
        if names:
            entry["text"] += f"<p>代码：{' '.join(dict.fromkeys(names))}</p>"
    path.write_text(json.dumps(index, ensure_ascii=False), "utf-8")
