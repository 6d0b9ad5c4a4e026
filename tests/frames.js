// the least contrast between the frame of a field and what lies around it
(() => {
  const fields = [...document.querySelectorAll("select, input:is([type=search], [type=password]), button:not(.card)")]
    .filter((one) => one.checkVisibility() && !one.disabled && getComputedStyle(one).borderTopWidth !== "0px");
  return Math.min(...fields.map((one) => {
    const below = ground(one.parentElement), frame = over(colour(getComputedStyle(one).borderTopColor), below);
    const [high, low] = [light(frame), light(below)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  }));
})()
