"""构建好的站点放在子路径 /a/b/ 下，用真的浏览器读它。"""

import json
import os
import re
import subprocess
import textwrap
import threading
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zipfile import ZipFile

import pytest
from mkdocs.config import load_config

from tests.harness.session import run_script

ROOT = Path(__file__).resolve().parents[2]
HAN = "[\u4e00-\u9fff]"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site(browser, built, tmp_path_factory):
    """正在服务的站点的网址，以 /a/b/ 结尾。"""
    www = tmp_path_factory.mktemp("www")
    (www / "a").mkdir()
    (www / "a/b").symlink_to(built)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=www))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a/b/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def pages():
    """导航里的每一页：{源文件: 相对网址}。"""

    def sources(item):
        if isinstance(item, str):
            return [item]
        return [
            source
            for child in (item.values() if isinstance(item, dict) else item)
            for source in sources(child)
        ]

    nav = sources(load_config(str(ROOT / "mkdocs.yml")).nav)
    return {
        source: re.sub(r"(^|/)index/$", r"\1", source.removesuffix(".md") + "/")
        for source in nav
    }


@pytest.fixture
def tab(browser):
    """一个桌面宽的标签页。"""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme="light"
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(10_000)
    yield context.new_page()
    context.close()


def included(source):
    """页面依次引入的代码：[(语言, 看到的, 复制到的)]，直接从 examples/ 里读。

    看到的没有节的标记；折叠在页尾的整个脚本，复制到的与文件一字不差。
    """
    fence = r'^(\?\?\? note "examples/.*\n\n)? *```(python|bash)[^\n]*\n *--8<-- "([^":]+)(?::([\w-]+))?"'
    found = []
    for whole, language, path, name in re.findall(
        fence, (ROOT / "docs" / source).read_text("utf-8"), re.M
    ):
        text = (ROOT / "examples" / path).read_text("utf-8")
        if name:
            text = re.search(
                rf"\[start:{name}\][^\n]*\n(.*?)^[^\n]*\[end:{name}\]",
                text,
                re.M | re.S,
            )[1]
        if path.startswith("skeleton/"):  # 贡献指南里的样板，节的标记也给人看
            found.append((language, text.strip("\n"), text.strip("\n")))
            continue
        shown = re.sub(r"^[^\n]*--8<-- \[(start|end):[^\n]*\n?", "", text, flags=re.M)
        shown = textwrap.dedent(shown).strip("\n")
        found.append((language, shown, text if whole else shown))
    return found


# 页面里每段看得见的字，与它背后真正的底色之间的对比度；小于 4.5 的列出来
LOW_CONTRAST = """() => {
    const parse = color => {
        const [r, g, b, alpha = 1] = color.match(/[\\d.]+/g).map(Number)
        return [...[r, g, b].map(c => color.startsWith("color(") ? c * 255 : c), alpha]
    }
    const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1)
    const ground = e => {
        const layers = []
        for (; e; e = e.parentElement) layers.unshift(parse(getComputedStyle(e).backgroundColor))
        return layers.reduce((under, top) => over(top, under), [255, 255, 255, 1])
    }
    const luminance = c => c.slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
    const low = []
    for (const e of document.querySelectorAll("header *, .md-nav *, article *, footer *")) {
        const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
        if (!own || e.closest(".headerlink, title") || !e.checkVisibility({opacityProperty: true})) continue
        const {fill, color} = getComputedStyle(e), under = ground(e)
        const ink = luminance(over(parse(e.ownerSVGElement ? fill : color), under)), paper = luminance(under)
        const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)
        if (ratio < 4.5) low.push([ratio.toFixed(2), e.tagName, e.textContent.trim().slice(0, 20)])
    }
    return low
}"""


SIDEWAYS = """() => [
    ...(document.documentElement.scrollWidth > 360 ? ["整页"] : []),
    ...[...document.querySelectorAll("article *")].filter(e =>
        e.scrollWidth > e.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(e).overflowX)
        && !e.closest("pre")).map(e => e.className + " " + e.innerText.slice(0, 30))]"""
SMALL = """() => [...document.querySelectorAll("article figure svg text")].filter(e =>
    parseFloat(getComputedStyle(e).fontSize) * e.getScreenCTM().a < 12).map(e => e.textContent)"""
GAPS = """() => [...document.querySelectorAll(".highlight:not(.output) + .output")]
    .map(e => e.getBoundingClientRect().top - e.previousElementSibling.getBoundingClientRect().bottom)"""
# 看到的字，复制按钮会复制的字：[语言, 看到的, 复制到的]；没有按钮就是 null
CODE = ".highlight:is(.language-python, .language-bash)"
COPIES = """() => [...document.querySelectorAll("article .highlight:is(.language-python, .language-bash)")].map(e => {
    const shown = e.querySelector("pre > code").textContent.trimEnd()
    const button = e.querySelector("button[data-md-type=copy]")
    return [e.className.match(/language-(\\w+)/)[1], shown, button && (button.dataset.clipboardText
            ?? document.querySelector(button.dataset.clipboardTarget).textContent.trimEnd())]})"""
OTHER_SCHEME = """() => [...document.querySelectorAll("[data-md-component=palette] label")]
    .find(e => e.checkVisibility()).click()"""
# 展开全部整个脚本
UNFOLD = """() => document.querySelectorAll("article details").forEach(e => { e.open = true })"""
UNFOLDED = """() => !document.querySelector("[data-script]")"""


@pytest.fixture(scope="module")
def visits(site, pages, browser):
    """每一页只打开一次，把要看的都看了：{源文件: {看什么: 看到的}}。"""
    context = browser.new_context(color_scheme="light", reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(10_000)
    page, seen, problems, asked = context.new_page(), {}, [], []
    page.on(
        "console",
        lambda message: message.type == "error" and problems.append(message.text),
    )
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "response", lambda answer: answer.status >= 400 and problems.append(answer.url)
    )
    page.on("request", lambda request: asked.append(request.url))
    for source, url in pages.items():
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(site + url, wait_until="load")
        look = seen[source] = {"titles": page.locator("article h1").count()}
        for what, selector in {
            "links": "a[href]",
            "downloads": "article a[download]",
        }.items():
            look[what] = set(
                page.eval_on_selector_all(selector, "links => links.map(a => a.href)")
            )
        look["outputs"] = page.locator(".highlight.output").count()
        look["gaps"] = page.evaluate(GAPS)
        look["low contrast"] = []
        for _ in range(2):  # 深浅各看一遍
            scheme = page.get_attribute("body", "data-md-color-scheme")
            low = page.evaluate(LOW_CONTRAST)
            look["low contrast"] += [(scheme, *what) for what in low]
            page.evaluate(OTHER_SCHEME)
        look["early"] = [url for url in asked if "/examples/" in url]
        page.evaluate(UNFOLD)
        page.wait_for_function(UNFOLDED)
        look["copies"] = page.evaluate(COPIES)
        look["output buttons"] = page.locator(".output button").count()
        first = page.locator(f"article {CODE} button[data-md-type=copy]").first
        if first.count():
            first.click()
            page.wait_for_function("navigator.clipboard.readText()")
            look["copied"] = page.evaluate("navigator.clipboard.readText()")
            page.evaluate("navigator.clipboard.writeText('')")
        page.set_viewport_size({"width": 360, "height": 740})
        look["sideways"] = page.evaluate(SIDEWAYS)
        look["small"] = page.evaluate(SMALL)
        look["early"] += [url for url in asked if "search_index" in url]
        look["outside"] = [u for u in asked if not u.startswith((site, "data:"))]
        look["problems"] = [*problems]
        problems.clear()
        asked.clear()
    context.close()
    return seen


def found(visits, what):
    """有问题的页面：{源文件: 看到的}。"""
    return {source: look[what] for source, look in visits.items() if look[what]}


def test_quiet_and_self_contained(visits):
    """没有报错，没有取不到的文件，没有发给别的主机的请求；恰有一个一级标题。"""
    assert not found(visits, "problems")
    assert not found(visits, "outside")
    assert {look["titles"] for look in visits.values()} == {1}


def test_pages_are_light(visits, built):
    """整个脚本与搜索索引，读者要时才取；索引里没有代码块与输出，代码里的名字还在。"""
    assert not found(visits, "early")
    index = json.loads((built / "search/search_index.json").read_text("utf-8"))
    text = "".join(entry["text"] for entry in index["docs"])
    for unwanted in ("<pre>", "输出 · CPU\n", "import torch"):
        assert unwanted not in text.replace("\u200b", "")
    assert "masked_fill" in text and "from_pretrained" in text


def test_links_arrive(visits):
    """正文、导航与插图里的每个站内链接都到得了，锚点也在。"""
    urls = set().union(*(look["links"] for look in visits.values()))
    lost, bodies = [], {}
    for url in sorted(u for u in urls if u.startswith("http://127.0.0.1")):
        address, _, anchor = url.partition("#")
        try:
            if address not in bodies:
                bodies[address] = fetched(address).decode(errors="replace")
        except OSError as error:
            lost.append(f"{url}：{error}")
            continue
        if anchor and f'id="{urllib.request.unquote(anchor)}"' not in bodies[address]:
            lost.append(f"{url}：没有这个锚点")
    assert not lost


def test_phone_has_no_sideways_scroll(visits):
    """360 px 宽的手机上，能横着滚的只有代码块；插图里的字不小于 12 px。"""
    assert not found(visits, "sideways")
    assert not found(visits, "small")


def test_contrast(visits):
    """深浅两种颜色下，每一页的字都够清楚，强调色也是。"""
    assert not found(visits, "low contrast")


def test_copy_button_copies_the_script(visits):
    """每个代码块都有复制按钮，要复制的正是脚本里的那一段，点一下真的在剪贴板里；输出没有按钮。"""
    for source, look in visits.items():
        assert [tuple(copy) for copy in look["copies"]] == included(source), source
        if look["copies"]:
            assert look["copied"].rstrip("\n") == look["copies"][0][1], source
    assert not found(visits, "output buttons")


def test_output_sits_under_its_code(visits):
    """输出与它的代码上下相连，中间没有缝；标题以「输出」开头的都认得出。"""
    for source, look in visits.items():
        text = (ROOT / "docs" / source).read_text("utf-8")
        assert look["outputs"] == len(re.findall(r'^ *```text title="输出', text, re.M))
        assert all(abs(gap) < 1 for gap in look["gaps"]), (source, look["gaps"])


@pytest.mark.parametrize("scheme, other", [("default", "slate"), ("slate", "default")])
def test_colour_schemes(site, browser, scheme, other):
    """跟随系统的深浅，能切换，记得住。"""
    context = browser.new_context(
        color_scheme={"default": "light", "slate": "dark"}[scheme]
    )
    page = context.new_page()
    page.goto(site, wait_until="load")
    assert page.get_attribute("body", "data-md-color-scheme") == scheme
    page.locator("[data-md-component=palette] label:visible").click()
    assert page.get_attribute("body", "data-md-color-scheme") == other
    page.reload()
    assert page.get_attribute("body", "data-md-color-scheme") == other
    context.close()


@pytest.mark.parametrize("word", ["自回归", "top_p"])
def test_search_finds_a_word_inside_a_sentence(site, tab, word):
    tab.goto(site, wait_until="load")
    tab.click("input[name=query]")
    tab.keyboard.insert_text(word)  # 像输入法那样整词上屏，不产生按键
    tab.wait_for_selector(".md-search-result__item")
    for link in tab.locator(".md-search-result__link").all():
        teaser = link.inner_text().replace("\u200b", "")
        marked = link.locator("mark").all_inner_texts()
        if re.search(f"{HAN} ?{word} ?{HAN}", teaser) and word in marked:
            break
    else:
        pytest.fail(
            f"没有一条结果在句子里标出「{word}」：{tab.inner_text('.md-search-result')}"
        )
    target = re.split("[?#]", link.evaluate("a => a.href"))[0]
    link.click()
    tab.wait_for_url(lambda url: re.split("[?#]", url)[0] == target)
    assert word in tab.inner_text("article")
    tab.wait_for_selector("article mark")  # 到了那一页，命中还标着


def fetched(url):
    return urllib.request.urlopen(url).read()


def test_download_links(visits, site, pages, tab):
    """与脚本同名的页面给出整个脚本，下载到的与仓库里的一字不差。"""
    for source, look in visits.items():
        files = {
            ROOT / url.removeprefix(site): fetched(url)
            for url in look["downloads"]
            if "/examples/" in url
        }
        assert files == {path: path.read_bytes() for path in files}, source
        script = ROOT / "examples" / Path(source).with_suffix(".py")
        assert not script.exists() or script in files, f"{source}：没有下载链接"
    tab.goto(site + pages["local/load.md"], wait_until="load")
    with tab.expect_download() as download:
        tab.locator("article a[download]").click()
    assert download.value.suggested_filename == "load.py"
    original = ROOT / "examples/local/load.py"
    assert download.value.path().read_bytes() == original.read_bytes()


def test_whole_script_unfolds(site, pages, tab):
    """展开时取来，复制到的与文件一字不差；取不到，或没有 JavaScript，有一句话指向下载链接。"""
    url = site + pages["generate/loop.md"]
    block = tab.locator("article details", has_text="examples/generate/loop.py")
    hint = block.get_by_text("用上面的链接下载")
    tab.route("**/loop.py", lambda route: route.abort())
    tab.goto(url, wait_until="load")
    block.locator("summary").click()
    assert hint.is_visible() and not block.locator("code").is_visible()
    tab.unroute("**/loop.py")
    block.locator("summary").click()
    block.locator("summary").click()
    block.locator("code").wait_for()
    assert not hint.count()
    block.locator("button").click()
    tab.wait_for_function("navigator.clipboard.readText()")
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied == (ROOT / "examples/generate/loop.py").read_text("utf-8")


def test_whole_script_without_javascript(built, pages, browser):
    """没有 JavaScript，从硬盘打开，下载链接都在原处。"""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((built / pages["generate/loop.md"] / "index.html").as_uri())
    page.locator("article details summary").last.click()
    assert page.get_by_text("用上面的链接下载").is_visible()
    context.close()


def test_archive(built, visits, tmp_path):
    """首页给出的压缩包：一个文件夹，装着例子、芥子与许可证，与仓库里的一字不差；解开就能问。"""
    [url] = (url for url in visits["index.md"]["downloads"] if url.endswith(".zip"))
    archive = built / Path(url).name
    size = f"（{archive.stat().st_size / 1e6:.1f} MB）"
    assert size in (built / "index.html").read_text("utf-8")
    with ZipFile(archive) as file:
        file.extractall(tmp_path)
        assert {info.date_time[0] for info in file.infolist()} == {1980}
    [folder] = tmp_path.iterdir()
    top = {name: f"examples/{name}" for name in ("README.md", "requirements.txt")}
    packed = {
        top.get(name, name): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and (name := path.relative_to(folder).as_posix())
    }
    listed = (
        "git ls-files --cached --others --exclude-standard examples .streamlit LICENSE"
    )
    names = subprocess.check_output(listed.split(), cwd=ROOT, text=True).split()
    assert packed == {name: (ROOT / name).read_bytes() for name in names}
    env = {name: value for name, value in os.environ.items() if name != "MODEL"}
    answers = [
        run_script(root / "examples/local/ask.py", "你好", cwd=root, env=env)
        for root in (ROOT, folder)
    ]
    assert answers[0] == answers[1] and answers[1][0] == 0, answers


def test_repository_link(built):
    """仓库的地址只有发布时才知道：空着就没有链接；有了，也不去问别的主机。"""
    assert "md-source" not in (built / "index.html").read_text("utf-8")
    config = load_config(str(ROOT / "mkdocs.yml"), repo_url="https://example.org/a/b")
    link = config.theme.get_env().get_template("partials/source.html")
    html = link.render(config=config)
    assert 'href="https://example.org/a/b"' in html and "仓库" in html
    assert "data-md-component" not in html
