// visible texts of less contrast than WCAG 2.1 AA asks for: 4.5, large ones 3
(() => {
  const colour = (text) => { const found = text.match(/[\d.]+/g).map(Number); return found.length > 3 ? found : [...found, 1]; };
  const over = (above, below) => [0, 1, 2].map((i) => above[i] * above[3] + below[i] * (1 - above[3])).concat(1);
  const light = (of) => of.slice(0, 3).map((x) => x / 255).map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => element ? over(colour(getComputedStyle(element).backgroundColor), ground(element.parentElement)) : [255, 255, 255, 1];
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
