// the least contrast between the frame of a field and what lies around it
(() => {
  const colour = (text) => { const found = text.match(/[\d.]+/g).map(Number); return found.length > 3 ? found : [...found, 1]; };
  const over = (above, below) => [0, 1, 2].map((i) => above[i] * above[3] + below[i] * (1 - above[3])).concat(1);
  const light = (of) => of.slice(0, 3).map((x) => x / 255).map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4))
    .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => element ? over(colour(getComputedStyle(element).backgroundColor), ground(element.parentElement)) : [255, 255, 255, 1];
  const fields = [...document.querySelectorAll("select, input:is([type=search], [type=password]), button:not(.card)")]
    .filter((one) => one.checkVisibility() && !one.disabled && getComputedStyle(one).borderTopWidth !== "0px");
  return Math.min(...fields.map((one) => {
    const below = ground(one.parentElement), frame = over(colour(getComputedStyle(one).borderTopColor), below);
    const [high, low] = [light(frame), light(below)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  }));
})()
