// visible texts of less contrast than WCAG 2.1 AA asks for: 4.5, large ones 3
(() => {
  const pale = new Set(), texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim(), element = texts.currentNode.parentElement;
    if (!text || !element.checkVisibility() || element.closest("script, :disabled, option")) continue;
    const style = getComputedStyle(element), below = ground(element), size = parseFloat(style.fontSize);
    const [high, low] = [light(over(colour(style.color), below)), light(below)].sort((a, b) => b - a);
    if ((high + 0.05) / (low + 0.05) < (size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5)) pale.add(text);
  }
  return [...pale];
})()
