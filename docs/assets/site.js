// Material 的搜索只听 keyup；用鼠标选候选词、手写、语音、粘贴都不产生 keyup，这里替它们补上
document.addEventListener("input", ({ target }) => {
  if (target.matches("[data-md-component=search-query]")) target.dispatchEvent(new KeyboardEvent("keyup"))
})

// 整个脚本在展开时才取来（.mkdocs/hooks.py 留的空壳）：看的是着色的一份，复制的与文件一字不差
document.addEventListener("toggle", async ({ target: { open, dataset, children: [, hint, block] } }) => {
  if (!open || !dataset.script) return
  const answers = await Promise.all([fetch(dataset.script), fetch(dataset.script + ".html")]).catch(() => [])
  if (!answers.length || !answers.every(answer => answer.ok)) return
  const [script, coloured] = await Promise.all(answers.map(answer => answer.text()))
  block.querySelector("code").innerHTML = coloured
  block.querySelector("button").dataset.clipboardText = script
  block.hidden = false
  hint.remove()
  delete dataset.script
}, true)  // toggle 不冒泡

// 每个代码块的复制按钮外面都是一个 <nav>；读屏软件的地标里不该有几十个同名的导航
document$.subscribe(() => {
  for (const nav of document.querySelectorAll(".md-code__nav")) nav.role = "none"
})
