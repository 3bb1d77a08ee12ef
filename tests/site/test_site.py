"""真的构建一遍站点，放在子路径 /a/b/ 下，用真的浏览器读它。"""

import re
import subprocess
import sys
import textwrap
import threading
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HAN = "[\u4e00-\u9fff]"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory):
    """构建好、正在服务的站点的网址，以 / 结尾。"""
    www = tmp_path_factory.mktemp("www")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--site-dir",
        www / "a/b",
    ]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=www))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a/b/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def pages():
    """导航里的每一页：{源文件: 相对网址}。"""
    from mkdocs.config import load_config

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
    """页面依次引入的代码：[(语言, 文本)]，文本直接从 examples/ 里读。"""
    fence = r'^ *```(python|bash)[^\n]*\n *--8<-- "([^":]+)(?::([\w-]+))?"'
    found = []
    for language, path, name in re.findall(
        fence, (ROOT / "docs" / source).read_text("utf-8"), re.M
    ):
        text = (ROOT / "examples" / path).read_text("utf-8")
        if name:
            text = re.search(
                rf"\[start:{name}\][^\n]*\n(.*?)^[^\n]*\[end:{name}\]",
                text,
                re.M | re.S,
            )[1]
        text = re.sub(r"^[^\n]*--8<-- \[(start|end):[^\n]*\n?", "", text, flags=re.M)
        found.append((language, textwrap.dedent(text).strip("\n")))
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
# 复制按钮会复制哪些字：[语言, 文字]；没有按钮就是 null
COPIES = """() => [...document.querySelectorAll("article .highlight:is(.language-python, .language-bash)")].map(e => {
    const button = e.querySelector("button[data-md-type=copy]")
    return [e.className.match(/language-(\\w+)/)[1],
            button && document.querySelector(button.dataset.clipboardTarget).textContent.trimEnd()]})"""


@pytest.fixture(scope="module")
def visits(site, pages, browser):
    """每一页只打开一次，把要看的都看了：{源文件: {看什么: 看到的}}。"""
    context = browser.new_context(color_scheme="light", reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(10_000)
    page, seen, problems = context.new_page(), {}, []
    page.on(
        "console",
        lambda message: message.type == "error" and problems.append(message.text),
    )
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "response", lambda answer: answer.status >= 400 and problems.append(answer.url)
    )
    page.on(
        "request",
        lambda asked: (
            asked.url.startswith((site, "data:")) or problems.append(asked.url)
        ),
    )
    for source, url in pages.items():
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(site + url, wait_until="networkidle")
        look = seen[source] = {"problems": [*problems]}
        problems.clear()
        look["titles"] = page.locator("article h1").count()
        look["links"] = set(
            page.eval_on_selector_all("a[href]", "links => links.map(a => a.href)")
        )
        look["outputs"] = page.locator(".highlight.output").count()
        look["gaps"] = page.evaluate(GAPS)
        look["copies"] = page.evaluate(COPIES)
        look["output buttons"] = page.locator(".output button").count()
        first = page.locator("article .highlight button[data-md-type=copy]").first
        if first.count():
            first.click()
            page.wait_for_function("navigator.clipboard.readText()")
            look["copied"] = page.evaluate("navigator.clipboard.readText()")
            page.evaluate("navigator.clipboard.writeText('')")
        look["low contrast"] = []
        for _ in range(2):  # 深浅各看一遍
            scheme = page.get_attribute("body", "data-md-color-scheme")
            low = page.evaluate(LOW_CONTRAST)
            look["low contrast"] += [(scheme, *what) for what in low]
            page.locator("[data-md-component=palette] label:visible").click()
        page.set_viewport_size({"width": 360, "height": 740})
        look["sideways"] = page.evaluate(SIDEWAYS)
        look["small"] = page.evaluate(SMALL)
    context.close()
    return seen


def found(visits, what):
    """有问题的页面：{源文件: 看到的}。"""
    return {source: look[what] for source, look in visits.items() if look[what]}


def test_quiet_and_self_contained(visits):
    """没有报错，没有取不到的文件，没有发给别的主机的请求；恰有一个一级标题。"""
    assert not found(visits, "problems")
    assert {look["titles"] for look in visits.values()} == {1}


def test_links_arrive(visits):
    """正文、导航与插图里的每个站内链接都到得了，锚点也在。"""
    urls = set().union(*(look["links"] for look in visits.values()))
    lost, bodies = [], {}
    for url in sorted(u for u in urls if u.startswith("http://127.0.0.1")):
        address, _, anchor = url.partition("#")
        try:
            if address not in bodies:
                bodies[address] = urllib.request.urlopen(address).read().decode()
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


def test_search_finds_a_word_inside_a_sentence(site, tab):
    tab.goto(site, wait_until="networkidle")
    tab.click("input[name=query]")
    tab.keyboard.insert_text("自回归")  # 像输入法那样整词上屏，不产生按键
    tab.wait_for_selector(".md-search-result__item")
    for link in tab.locator(".md-search-result__link").all():
        teaser = link.inner_text().replace("\u200b", "")
        if (
            re.search(f"{HAN}自回归{HAN}", teaser)
            and "自回归" in link.locator("mark").all_inner_texts()
        ):
            break
    else:
        pytest.fail(
            f"没有一条结果在句子里标出「自回归」：{tab.inner_text('.md-search-result')}"
        )
    target = re.split("[?#]", link.evaluate("a => a.href"))[0]
    link.click()
    tab.wait_for_url(lambda url: re.split("[?#]", url)[0] == target)
    assert "自回归" in tab.inner_text("article")


def test_download_links(site, pages, tab):
    """与脚本同名的页面给出整个脚本，下载到的与仓库里的一字不差。"""
    for source, url in pages.items():
        tab.goto(site + url, wait_until="load")
        script = ROOT / "examples" / Path(source).with_suffix(".py")
        links = tab.locator("article a[href*='/examples/'][download]")
        names = []
        for link in links.all():
            with tab.expect_download() as download:
                link.click()
            path = download.value.path()
            original = ROOT / link.evaluate("a => a.pathname").split("/a/b/")[1]
            assert download.value.suggested_filename == original.name, source
            assert path.read_bytes() == original.read_bytes(), source
            names.append(original)
        assert not script.exists() or script in names, (
            f"{source}：没有 {script.name} 的下载链接"
        )
