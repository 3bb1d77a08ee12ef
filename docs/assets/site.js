// Material 的搜索只听 keyup；用鼠标选候选词、手写、语音、粘贴都不产生 keyup，这里替它们补上
document.addEventListener("input", ({ target }) => {
  if (target.matches("[data-md-component=search-query]")) target.dispatchEvent(new KeyboardEvent("keyup"))
})
