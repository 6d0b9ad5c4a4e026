"use strict";
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const make = (tag, text = "", className = "") => Object.assign(document.createElement(tag), { textContent: text, className });

  // what a screen reader says now, once: a status that kept its words would be said again when a dialog closes
  function announce(text, place = one("#told")) {
    place.textContent = text;
    setTimeout(() => { if (place.textContent === text) place.textContent = ""; }, 2000);
  }

  // ---- tables of metrics: a heading sorts ----

  function sortBy(table, head) {
    const column = Number(head.dataset.column), before = head.getAttribute("aria-sort");
    const rising = before ? before === "descending" : "rising" in head.dataset;
    const compare = (a, b) => {
      if (!("value" in a.dataset)) return (rising ? 1 : -1) * a.textContent.localeCompare(b.textContent);
      const x = a.dataset.value, y = b.dataset.value;
      if (x === "" || y === "") return (x === "") - (y === "");
      return rising ? x - y : y - x;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column])));
    mark(all("th[data-column]", table), head, rising);
    announceOrder(head);
  }

  function mark(heads, head, rising) {
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
  }

  function announceOrder(head) {
    announce(`Sorted by ${head.textContent}, ${head.getAttribute("aria-sort")}`);
  }

  for (const table of all("table.sortable")) {
    for (const head of all("th[data-column]", table)) one("button", head).addEventListener("click", () => sortBy(table, head));
  }

  // ---- links open what they lead to ----

  function reveal() {
    const target = document.getElementById(location.hash.slice(1));
    if (target && target.matches("details")) { target.open = true; target.scrollIntoView(); }
  }
  addEventListener("hashchange", reveal);
  reveal();
  for (const link of all("nav a, .verdict a")) link.addEventListener("click", () => setTimeout(reveal));

  // ---- the viewer: pictures at their own size ----

  const viewer = one("#viewer"), full = one(".full", viewer);

  function figure(source, label, text) {
    const drawn = make("figure"), image = make("img");
    image.src = source; image.alt = text;
    drawn.append(image, make("figcaption", label));
    return drawn;
  }

  function show(name, facts, figures, stepping) {
    one("#viewer-name").textContent = name;
    for (const fact of facts.slice(0, -1)) fact.append(make("span", ", ", "pause"));
    one("#viewer-facts").replaceChildren(...facts);
    const inside = full.contains(document.activeElement);
    full.replaceChildren(...figures);
    if (inside) full.focus();
    for (const button of all("#viewer-before, #viewer-after")) button.hidden = !stepping;
    if (!viewer.open) viewer.showModal();
  }

  one("#viewer-close").addEventListener("click", () => viewer.close());
  // not on the dialog itself: all text in it would be called clickable
  document.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
  for (const button of all(".enlarge")) {
    const image = one("img", button);
    if (image) button.addEventListener("click", () => show(image.alt, [], [figure(image.src, "", image.alt)], false));
    else button.replaceWith(...button.childNodes);
  }

  // ---- the images: counts, table, sliders ----

  const held = one("#data");
  if (!held) return;
  const data = JSON.parse(held.textContent), rows = data.rows;
  const places = new Map(rows.position.map((position, row) => [position, row]));
  const tones = { "missed": "bad", "false alarm": "warn", "anomalous": "warn", "normal": "good", "found": "plain" };
  const first = ["missed", "false alarm", "anomalous", "found", "normal", ""];
  const PAGE = matchMedia("(max-width: 40em)").matches ? 10 : 20;
  const state = { trial: 0, cuts: [], sort: "verdict", rising: true, page: 0, listed: [], opened: 0 };

  const tried = (category) => data.categories[category].trials[state.trial];
  const score = (row) => rows.scores[state.trial][row];
  const digits = (value) => (value === null ? "–" : value.toFixed(3));

  function limit(category) {
    const cut = state.cuts[category];
    return cut === null ? tried(category).threshold : tried(category).cuts[cut];
  }

  function decision(row) {
    const threshold = limit(rows.category[row]);
    if (threshold === null || score(row) === null) return "";
    return score(row) > threshold ? "anomalous" : "normal";
  }

  function verdict(row) {
    const called = decision(row), label = rows.label[row];
    if (called === "anomalous") return label === 1 ? "found" : label === 0 ? "false alarm" : called;
    return called && label === 1 ? "missed" : called;
  }

  const keys = {
    name: (row) => rows.name[row],
    category: (row) => data.categories[rows.category[row]].name,
    kind: (row) => rows.kinds[rows.kind[row]],
    score: (row) => score(row) ?? -Infinity,
    decision,
    verdict: (row) => first.indexOf(verdict(row)),
  };

  // ---- table ----

  const field = (name) => one(`#filters [name="${name}"]`);

  function fits(row) {
    const kind = field("verdict").value, said = verdict(row);
    return (field("category").value === "" || rows.category[row] === Number(field("category").value))
      && (field("kind").value === "" || rows.kind[row] === Number(field("kind").value))
      && (kind === "" || kind === said || (kind === "wrong" && (said === "missed" || said === "false alarm")))
      && rows.name[row].toLowerCase().includes(field("name").value.toLowerCase());
  }

  function list() {
    const value = rows.position.map((_, row) => keys[state.sort](row)), way = state.rising ? 1 : -1;
    const compare = typeof value[0] === "string" ? (a, b) => a.localeCompare(b) : (a, b) => a - b;
    state.listed = rows.position.map((_, row) => row).filter(fits)
      .sort((a, b) => way * compare(value[a], value[b]) || score(b) - score(a));
    state.page = 0;
    draw();
  }

  function cell(content, className = "") {
    const drawn = make("td", "", className);
    drawn.append(content);
    return drawn;
  }

  function line(row) {
    const drawn = make("tr"), head = make("th"), said = verdict(row), opener = make("button", "", "open");
    head.scope = "row"; opener.type = "button"; opener.dataset.row = rows.position[row];
    opener.setAttribute("aria-label", rows.name[row]);  // its parts would be read as words of their own
    rows.name[row].split(/(?<=[/_])/).forEach((part) => opener.append(part, make("wbr")));
    head.append(opener);
    const judged = said && rows.label[row] !== -1;
    drawn.append(head, cell(digits(score(row)), "number"), cell(decision(row) || "–"),
      cell(judged ? make("span", said, `chip ${tones[said]}`) : "–"), cell(keys.kind(row), "wider"), cell(keys.category(row), "wider"));
    return drawn;
  }

  function draw() {
    const start = state.page * PAGE, total = state.listed.length, end = Math.min(start + PAGE, total);
    one("#rows").tBodies[0].replaceChildren(...state.listed.slice(start, end).map(line));
    one("#shown").textContent = `${total} of ${rows.position.length} ${rows.position.length === 1 ? "image" : "images"}`;
    one("#place").textContent = total ? `${start + 1} to ${end} of ${total}` : "none";
    one("#before").disabled = start === 0;
    one("#after").disabled = end >= total;
  }

  function turn(pages) {
    state.page += pages;
    draw();
    if (one("#before").disabled) one("#after").focus();
    else if (one("#after").disabled) one("#before").focus();
    announce(one("#place").textContent);
  }

  // of each letter on the way a screen reader would say a number
  let typing = 0;
  function filter(event) {
    list();
    clearTimeout(typing);
    typing = setTimeout(() => announce(one("#shown").textContent), event.target.type === "search" ? 500 : 0);
  }

  function sortRows(head) {
    const key = head.dataset.key;
    state.rising = state.sort === key ? !state.rising : key !== "score";
    state.sort = key;
    mark(all("#rows th[data-key]"), head, state.rising);
    list();
    announceOrder(head);
  }

  // ---- sliders ----

  function tell(entry) {
    const category = Number(entry.dataset.category), found = data.categories[category], trial = tried(category);
    const slider = one("input", entry), step = Number(slider.value), own = trial.cuts.indexOf(trial.threshold);
    const moved = state.cuts[category] !== null, decided = moved || own >= 0;
    one(".counts", entry).hidden = !decided;
    one("[data-reset]", entry).hidden = !moved || own < 0;
    one("[data-best]", entry).hidden = f1(category, best(category)) <= f1(category, step) || !(found.good && found.anomalous);
    const words = decided ? `${digits(trial.cuts[step])}${step === own ? ", as run" : ""}` : "none";
    one("[data-out=limit]", entry).textContent = words;
    for (const name of ["called", "missed", "alarms"]) {
      const place = one(`[data-out="${name}"]`, entry);
      if (!place || !decided) continue;
      place.textContent = trial[name][step];
      place.classList.toggle("bad", name !== "called" && trial[name][step] > 0);
    }
    one("[data-out=f1]", entry).textContent = decided && found.good && found.anomalous ? `F1 ${digits(f1(category, step))}` : "";
    // what a screen reader says when the slider moves: the counts, too
    const counts = one(".counts", entry).textContent.trim().replace(/\s+/g, " ");
    slider.setAttribute("aria-valuetext", decided ? `${words}, ${counts}` : words);
  }

  function f1(category, step) {
    const trial = tried(category), hit = data.categories[category].anomalous - trial.missed[step];
    const both = 2 * hit + trial.missed[step] + trial.alarms[step];
    return both ? (2 * hit) / both : 0;
  }

  function best(category) {
    return tried(category).cuts.reduce((found, _, step) => (f1(category, step) > f1(category, found) ? step : found), 0);
  }

  function restart(entry) {
    const trial = tried(Number(entry.dataset.category)), slider = one("input", entry), own = trial.cuts.indexOf(trial.threshold);
    state.cuts[entry.dataset.category] = null;
    one(".slider", entry).hidden = !trial.cuts.length;
    slider.max = Math.max(trial.cuts.length - 1, 0);
    slider.value = own < 0 ? slider.max : own;
    const tick = make("option");
    tick.value = own;
    one("datalist", entry).replaceChildren(...(own < 0 ? [] : [tick]));
    if (trial.cuts.length) tell(entry);
  }

  for (const entry of all(".verdict")) {
    const category = Number(entry.dataset.category), slider = one("input", entry);
    const move = () => { state.cuts[category] = Number(slider.value); tell(entry); chips(); list(); };
    slider.addEventListener("input", move);
    one("[data-best]", entry).addEventListener("click", () => { slider.value = best(category); slider.focus(); move(); });
    one("[data-reset]", entry).addEventListener("click", () => { restart(entry); slider.focus(); chips(); list(); });
  }

  // ---- cards, in galleries and in the viewer ----

  function chips() {
    for (const place of all("[data-said]")) {
      const said = verdict(places.get(Number(place.dataset.said)));
      place.textContent = said;
      place.className = `chip ${tones[said] || "plain"}`;
      place.hidden = !said;
    }
  }

  // the image itself, where this page can reach it; a thumbnail stands for it until it is there
  function original(row) {
    const served = location.pathname.endsWith("/report"), beside = data.originals && data.originals + rows.path[row];
    const address = served ? `originals.png?path=${rows.path[row]}` : beside;
    if (!address) return [];
    const drawn = make("figure", "", "original"), zoom = make("button", "", "zoom"), image = make("img"), caption = make("figcaption");
    zoom.type = "button";
    zoom.setAttribute("aria-pressed", "false");
    zoom.addEventListener("click", () => zoom.setAttribute("aria-pressed", String(drawn.classList.toggle("own"))));
    image.alt = `${rows.name[row]} at its own size`;
    image.addEventListener("load", () => {
      const link = Object.assign(make("a", "open it alone"), { href: address, target: "_blank", rel: "noopener" });
      caption.append(`Original, ${image.naturalWidth} × ${image.naturalHeight} pixels: click for its own size, or `, link, ".");
      drawn.hidden = false;
    });
    drawn.hidden = true;
    image.src = address;
    zoom.append(image);
    drawn.append(zoom, caption);
    return [drawn];
  }

  function pictures(row) {
    const position = rows.position[row], name = rows.name[row], card = one(`[data-card="${position}"]`);
    if (card) {
      const shown = all(".tile", card).filter((tile) => one("img", tile)).map((tile) => {
        const image = one("img", tile);
        return figure(image.src, one("figcaption", tile).textContent, image.alt);
      });
      return [...shown, ...all(".pull", card).map((pull) => make("p", pull.textContent))];
    }
    const small = data.pictures[position];
    return small ? [figure(small, "Overlay, small", `Overlay of ${name}`)] : [make("p", "This file has no picture of it: fade serve and fade show draw one.")];
  }

  function open(row) {
    state.opened = row;
    const category = rows.category[row], said = verdict(row), threshold = limit(category);
    const facts = [make("span", keys.kind(row), `chip ${rows.label[row] === 1 ? "" : rows.label[row] === 0 ? "good" : "plain"}`)];
    if (said) facts.push(make("span", said, `chip ${tones[said]}`));
    facts.push(make("span", `score ${digits(score(row))}${threshold === null ? "" : `, threshold ${digits(threshold)}`}`));
    show(rows.name[row], facts, [...pictures(row), ...original(row)], true);
  }

  function step(by) {
    const at = state.listed.indexOf(state.opened), count = state.listed.length;
    if (!count) return;
    open(state.listed[(at + by + count) % count]);
    announce(`${one("#viewer-name").textContent}: ${one("#viewer-facts").textContent}`, one("#viewer-told"));
  }

  document.addEventListener("click", (event) => {
    const opener = event.target.closest(".open[data-row]");
    if (opener && places.has(Number(opener.dataset.row))) open(places.get(Number(opener.dataset.row)));
  });
  viewer.addEventListener("keydown", (event) => {
    if (one("#viewer-after").hidden || event.target.closest(".own")) return;  // arrows scroll there
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });

  // ---- start ----

  function options(select, names) {
    names.forEach((name, value) => { const choice = make("option", name); choice.value = value; select.append(choice); });
  }

  function begin() {
    state.cuts = data.categories.map(() => null);
    all(".verdict").forEach(restart);
    chips();
    list();
  }

  options(field("category"), data.categories.map((category) => category.name));
  options(field("kind"), rows.kinds);
  for (const part of all("[data-script]")) part.hidden = false;
  for (const head of all("#rows th[data-key]")) one("button", head).addEventListener("click", () => sortRows(head));
  one("#filters").addEventListener("input", filter);
  one("#all").addEventListener("click", (event) => { for (const name of ["category", "kind", "verdict", "name"]) field(name).value = ""; filter(event); });
  one("#before").addEventListener("click", () => turn(-1));
  one("#after").addEventListener("click", () => turn(1));
  one("#viewer-before").addEventListener("click", () => step(-1));
  one("#viewer-after").addEventListener("click", () => step(1));
  if (one("#trial")) {
    one("#trial").addEventListener("change", (event) => {
      state.trial = Number(event.target.value);
      begin();
      announce(`Counts, sliders and table are those of ${event.target.selectedOptions[0].textContent}`);
    });
  }
  mark(all("#rows th[data-key]"), one("#rows th[data-key=verdict]"), true);
  begin();
})();
