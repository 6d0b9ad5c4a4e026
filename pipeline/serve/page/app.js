// The page of `fade serve`: all text goes through textContent, all data through this server's own routes.
const $ = (id) => document.getElementById(id);
const PAGE = matchMedia("(max-width: 40rem)").matches ? 30 : 60;
let run = null; // what GET /run said
let list = { total: 0, offset: 0, images: [] };
let thresholds = new Map(); // by category, what the slider was moved to
let opened = null; // the image in the viewer
let asked = 0; // lists that were asked for: the last one is shown

const make = (name, text = "", className = "") => {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  if (className) element.className = className;
  return element;
};
// a name may break behind / and _, so that no number is torn
const named = (path, name, className = "") => {
  const element = make(name, "", className);
  path.split(/(?<=[/_])/).forEach((part) => element.append(part, make("wbr")));
  return element;
};
const chip = (text, className = "") => make("span", text, `chip ${className}`);
// in words: without it a screen reader takes what stands side by side for one word, and a broken name for several
const words = (...parts) => parts.map((part) => part.textContent || part).join(", ");
const counted = (many, noun) => `${many.toLocaleString()} ${noun}${many === 1 ? "" : "s"}`;
const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(4));
const address = (path, values = {}) => {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "" && value !== false) query.set(name, value);
  }
  return query.size ? `${path}?${query}` : path;
};
// what a screen reader says now, once: a status that kept its words would be said again when the dialog closes
const announce = (text) => {
  const place = $($("viewer").open ? "viewer-told" : "told");
  place.textContent = text;
  setTimeout(() => { if (place.textContent === text) place.textContent = ""; }, 2000);
};
// what went wrong, where it is seen: behind the open viewer nothing is
const say = (text) => {
  const place = $(text && $("viewer").open ? "viewer-error" : "notice");
  place.textContent = text;
  place.hidden = !text;
};
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer");
  }
  if (answer.status === 401) location.href = "login";
  const content = await answer.json().catch(() => ({ error: `the server answered ${answer.status}` }));
  if (!answer.ok) throw new Error(content.error);
  return content;
}
const guarded = (work) => async (...given) => {
  try {
    await work(...given);
  } catch (error) {
    say(error.message);
  }
};
const fill = (select, options) => {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (options.some(([value]) => value === before)) select.value = before;
};

// which images
const trial = () => {
  const [shots, seed] = $("trial").value.split(" ");
  return { shots, seed };
};
const category = () => $("category").value;
const filters = () => ({
  category: category(), defect: $("defect").value, decision: $("decision").value, label: $("label").value,
  sort: $("sort").value, text: $("text").value, disagreement: $("disagreement").checked,
  threshold: category() ? thresholds.get(category()) : null, ...trial(),
});

const showList = guarded(async (offset = 0, aloud = true) => {
  const mine = ++asked;
  const found = await ask(address("images", { ...filters(), offset: Math.max(0, offset), limit: PAGE, run: run.run }));
  if (mine !== asked) return;
  list = found;
  say("");
  const last = Math.min(list.offset + list.images.length, list.total);
  $("total").textContent = list.total
    ? `${(list.offset + 1).toLocaleString()} to ${last.toLocaleString()} of ${counted(list.total, "image")}`
    : "no image fits these filters";
  if (aloud) announce($("total").textContent);
  for (const end of ["", "-below"]) {
    $(`previous${end}`).disabled = list.offset === 0;
    $(`next${end}`).disabled = last >= list.total;
  }
  $("list").replaceChildren(...list.images.map(card));
});

const chips = (image) => {
  const found = [];
  if (image.decision) found.push(chip(image.decision, image.decision));
  if (image.label !== "unknown") {
    const differs = image.decision && (image.decision === "anomalous") !== (image.label === "anomalous");
    const what = image.corrected ? "corrected: " : "label: ";
    found.push(chip(what + image.label, differs ? "differs" : image.label));
  }
  return found;
};

function card(image, position) {
  const item = make("li");
  const button = make("button", "", "card");
  button.type = "button";
  const picture = make("img");
  picture.loading = "lazy";
  picture.alt = "";
  picture.src = address(`thumbnails/${image.id}.webp`, { run: list.run });
  const text = make("span", "", "text");
  text.append(named(image.path, "span", "name"), `${number(image.score)} `, ...chips(image));
  button.setAttribute("aria-label", words(image.path, `score ${number(image.score)}`, ...chips(image)));
  button.append(picture, text);
  button.addEventListener("click", () => view(position));
  item.append(button);
  return item;
}

const page = (step) => async () => {
  await showList(list.offset + step * PAGE);
  $("list").focus();
};
for (const end of ["", "-below"]) {
  $(`previous${end}`).addEventListener("click", page(-1));
  $(`next${end}`).addEventListener("click", page(1));
}

// thresholds
const showCategories = guarded(async () => {
  const found = await ask(address("categories", { run: run.run, ...trial() }));
  $("categories").replaceChildren(...found.map((one) => {
    const row = make("tr");
    const name = make("th");
    name.scope = "row";
    const button = named(one.category, "button");
    button.type = "button";
    button.setAttribute("aria-label", one.category);
    button.addEventListener("click", () => {
      $("category").value = one.category;
      $("category").dispatchEvent(new Event("change", { bubbles: true }));
      $("threshold").focus();
    });
    name.append(button);
    const cell = (count, total, wrong) => make("td", one.threshold === null ? "–" : `${count.toLocaleString()} of ${total.toLocaleString()}`, wrong && count ? "wrong" : "");
    row.append(name, cell(one.called, one.images), cell(one.false_alarms, one.good, true),
      cell(one.missed, one.anomalous, true), make("td", number(one.threshold)));
    return row;
  }));
});

const svg = (name, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
function drawBars({ histogram, chosen }) {
  const { low, high } = histogram;
  const [from, to] = [Number($("threshold").min), Number($("threshold").max)];
  const kinds = ["unlabelled", "good", "anomalous"];
  const bins = Math.max(...kinds.map((kind) => histogram[kind].length), 1);
  const most = Math.max(1, ...kinds.flatMap((kind) => histogram[kind]));
  const place = (value) => ((value - low) / (high - low)) * bins * 2;
  const drawing = svg("svg", { viewBox: `${place(from)} 0 ${place(to) - place(from)} 20`, preserveAspectRatio: "none" });
  kinds.forEach((kind) => histogram[kind].forEach((count, n) => {
    const height = count ? Math.max(0.5, (19 * count) / most) : 0;
    const x = n * 2 + (kind === "anomalous" ? 1 : 0.1);
    drawing.append(svg("rect", { class: kind, x, y: 20 - height, width: 0.9, height }));
  }));
  if (chosen !== null) {
    const x = place(chosen);
    drawing.append(svg("line", { class: "line", x1: x, x2: x, y1: 0, y2: 20 }));
  }
  $("bars").replaceChildren(drawing);
}

// when the slider rests: of each place on its way a screen reader would say the counts
let resting = 0;
const announceCounts = () => {
  clearTimeout(resting);
  resting = setTimeout(() => announce($("threshold-counts").textContent), 400);
};
let counting = false;
let again = false;
const showCounts = guarded(async (fresh = false) => {
  const name = category();
  $("threshold-box").hidden = !name;
  if (!name) return;
  if (counting) {
    again = again || (fresh ? "fresh" : "moved");
    return;
  }
  counting = true;
  try {
    const found = await ask(address("counts", { category: name, threshold: thresholds.get(name), run: run.run, ...trial() }));
    const { low, high } = found.histogram;
    const slider = $("threshold");
    if (fresh) {
      const room = (high - low) / 50;
      slider.min = low - room;
      slider.max = high + room;
      slider.step = (high - low + 2 * room) / 1000;
      slider.value = found.chosen ?? high + room;
    }
    slider.setAttribute("aria-valuetext", number(found.chosen));
    $("threshold-category").textContent = name;
    $("threshold-value").textContent = number(found.chosen);
    for (const part of ["bars", "threshold"]) $(part).hidden = !found.images;
    $("threshold-counts").textContent = !found.images ? "No image of it has a score." : found.chosen === null
      ? "There is no threshold: move the slider to try one."
      : `${found.called.toLocaleString()} of ${found.images.toLocaleString()} called anomalous: ` +
        `${counted(found.false_alarms, "false alarm")} of ${found.good} good, ${found.missed} missed of ${found.anomalous} anomalous`;
    const measures = found.image_auroc === null ? "" : ` Image AUROC on these labels: ${(100 * found.image_auroc).toFixed(1)} %.`;
    $("threshold-remark").textContent = `The run's threshold: ${number(found.threshold)}.${measures} Bars are scores: good images green, anomalous ones red, those without a label grey.`;
    $("threshold-best").disabled = found.best === null;
    $("threshold-best").dataset.value = found.best ?? "";
    $("threshold-best").textContent = `Best F1 on these labels: ${number(found.best)}`;
    $("threshold-reset").disabled = !thresholds.has(name);
    drawBars(found);
    if (!fresh) announceCounts();
  } finally {
    counting = false;
  }
  if (again) {
    const kind = again;
    again = false;
    await showCounts(kind === "fresh");
  }
});
let settle = 0;
$("threshold").addEventListener("input", () => {
  const value = Number($("threshold").value);
  thresholds.set(category(), value);
  $("threshold").setAttribute("aria-valuetext", number(value));
  showCounts();
  clearTimeout(settle);
  settle = setTimeout(() => showList(0, false), 250);
});
$("threshold-best").addEventListener("click", () => {
  thresholds.set(category(), Number($("threshold-best").dataset.value));
  showCounts(true).then(announceCounts);
  showList(0, false);
});
$("threshold-reset").addEventListener("click", () => {
  thresholds.delete(category());
  $("threshold").focus(); // the button has nothing left to do
  showCounts(true).then(announceCounts);
  showList(0, false);
});

let typing = 0;
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("text").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => showList(0), 250);
});
$("filters").addEventListener("change", (event) => {
  if (event.target.id === "text") return;
  if (event.target.id === "trial") {
    thresholds = new Map();
    showCategories();
  }
  if (["trial", "category"].includes(event.target.id)) showCounts(true);
  showList(0);
});

// one image
let style = "overlay"; // what was chosen; of an image without a map the image itself is shown
const drawOpened = () => {
  const shown = opened.has_map ? style : "picture";
  const values = { run: list.run, ...trial() };
  const picture = $("viewer-picture");
  $("viewer-error").hidden = true;
  picture.src = shown === "picture"
    ? address(`pictures/${opened.id}.webp`, { run: list.run })
    : address(`maps/${opened.id}.png`, { style: shown, ...values });
  $("viewer-original").href = address("originals.png", { path: opened.path });
  for (const button of document.querySelectorAll("#styles button")) {
    button.setAttribute("aria-pressed", String(button.dataset.style === shown));
    if (button.dataset.style === shown) picture.alt = `${opened.path}: ${button.textContent.toLowerCase()}`;
  }
};
$("viewer-picture").addEventListener("error", guarded(async () => {
  try {
    await ask($("viewer-picture").src);
  } catch (error) {
    $("viewer-error").textContent = error.message;
    $("viewer-error").hidden = false;
  }
}));
const showFacts = () => {
  $("viewer-title").replaceChildren(named(opened.path, "span"));
  $("viewer-title").setAttribute("aria-label", opened.path);
  // a number after a name in Arabic or Hebrew would move to its other side
  const facts = make("span", "", "soft");
  facts.append(make("bdi", [opened.category, opened.defect].filter(Boolean).join(", ")), `; ${opened.width} × ${opened.height} pixels`);
  $("viewer-facts").replaceChildren(
    ...chips(opened), make("span", `score ${number(opened.score)}, threshold ${number(opened.threshold)}`),
    facts,
  );
  $("viewer-said").textContent = words(...$("viewer-facts").children);
  for (const button of document.querySelectorAll("#labels button")) {
    button.setAttribute("aria-pressed", String(button.dataset.label === (opened.corrected ? opened.label : "")));
  }
};
const view = guarded(async (position) => {
  const known = list.images[position];
  if (!known) return;
  const { threshold } = filters(); // as the list is judged
  opened = { ...(await ask(address(`images/${known.id}`, { threshold, run: list.run, ...trial() }))), position };
  $("regions").replaceChildren();
  $("boxes").replaceChildren();
  $("explain-state").textContent = "";
  $("label-state").textContent = "";
  $("explain").disabled = !opened.has_map;
  for (const button of document.querySelectorAll("#styles [data-style]:not([data-style=picture])")) button.disabled = !opened.has_map;
  showLabel(opened);
  drawOpened();
  if (!$("viewer").open) $("viewer").showModal();
});
const step = async (by) => {
  const left = opened.id;
  await turnTo(by);
  if (opened.id !== left) announce(words(opened.path, $("viewer-said")));
};
const turnTo = async (by) => {
  const position = opened.position + by;
  if (position >= 0 && position < list.images.length) return view(position);
  if (by > 0 && list.offset + list.images.length < list.total) {
    await showList(list.offset + PAGE, false);
    return view(0);
  }
  if (by < 0 && list.offset > 0) {
    await showList(list.offset - PAGE, false);
    return view(list.images.length - 1);
  }
  announce(`this is the ${by > 0 ? "last" : "first"} image`);
};
$("viewer-previous").addEventListener("click", () => step(-1));
$("viewer-next").addEventListener("click", () => step(1));
$("viewer-close").addEventListener("click", () => $("viewer").close());
$("viewer").addEventListener("close", () => {
  const cards = $("list").querySelectorAll("button");
  (cards[opened.position] || $("list")).focus();
});
for (const button of document.querySelectorAll("#styles button")) {
  button.addEventListener("click", () => {
    style = button.dataset.style;
    drawOpened();
  });
}
// an image's label, wherever the page shows it: another image may be open by now
const showLabel = ({ id, label, corrected }) => {
  if (opened.id === id) {
    Object.assign(opened, { label, corrected });
    showFacts();
  }
  const position = list.images.findIndex((one) => one.id === id);
  const known = list.images[position];
  if (!known || (known.label === label && known.corrected === corrected)) return;
  Object.assign(known, { label, corrected });
  $("list").children[position].replaceWith(card(known, position));
};
const keepLabel = async (image, label) => {
  const tell = (text, aloud = text) => {
    if (opened.id !== image.id) return;
    $("label-state").textContent = text;
    announce(aloud);
  };
  tell("");
  const values = { run: image.run, ...trial() };
  try {
    const body = JSON.stringify({ id: image.id, run: image.run, label: label || null, shown: image.label });
    const kept = await ask("labels", { method: "POST", headers: { "content-type": "application/json" }, body });
    Object.assign(image, { label: kept.label, corrected: kept.corrected });
    showLabel(kept);
    const text = kept.corrected ? `kept in ${run.labels_file}${run.labels_used ? ": fade run uses it" : ""}` : "as the data set says";
    tell(text, `${kept.label}, ${text}`); // who pressed a key hears no button
  } catch (error) {
    tell(error.message);
    const now = await ask(address(`images/${image.id}`, values)).catch(() => null);
    if (!now) return;
    Object.assign(image, { label: now.label, corrected: now.corrected });
    showLabel(now);
  }
  showCategories();
  showCounts(true);
  run.corrected = (await ask("run")).corrected;
  showFactsOfRun();
};
let labelled = Promise.resolve(); // one label after the other, each on what the last one left
const setLabel = (label) => {
  const image = opened;
  labelled = labelled.then(() => guarded(keepLabel)(image, label));
  return labelled;
};
for (const button of document.querySelectorAll("#labels button")) {
  button.addEventListener("click", () => setLabel(button.dataset.label));
}
const drawBoxes = (regions) => {
  $("boxes").replaceChildren(...regions.map((region, n) => {
    const [left, top, right, bottom] = region.box;
    const box = make("div", "", "box");
    box.style.left = `${(100 * left) / opened.width}%`;
    box.style.top = `${(100 * top) / opened.height}%`;
    box.style.width = `${(100 * (right - left)) / opened.width}%`;
    box.style.height = `${(100 * (bottom - top)) / opened.height}%`;
    box.append(make("span", String(n + 1)));
    return box;
  }));
};
const regionItem = (region, grid, image, from) => {
  const item = make("li", `${region.patches} ${region.patches === 1 ? "patch" : "patches"}, the highest at level ${region.level}`);
  const near = region.nearest;
  if (near) {
    const where = near.reference || (near.row === null ? "one of the bank" : "another patch of this image");
    item.append(make("p", `nearest normal patch: ${where}, distance ${near.distance.toFixed(4)}`, "soft"));
    if (from && near.number !== null && near.number !== undefined) {
      const picture = make("img");
      picture.alt = `reference ${near.reference}, with a box around the nearest patch`;
      picture.src = address(`references/${encodeURIComponent(image.category)}/${near.number}.webp`, {
        rows: grid[0], columns: grid[1], row: String(near.row), column: String(near.column), run: from,
      });
      item.append(picture);
    }
  }
  const told = region.compared;
  if (told) item.append(make("p", `${told.measure}: ${told.distance.toPrecision(4)}`, "soft"));
  for (const [side, prompts] of [["abnormal", region.abnormal_prompts], ["normal", region.normal_prompts]]) {
    if (!prompts.length) continue;
    item.append(make("p", `${side} prompts most like it:`, "soft"));
    const lines = make("ul");
    lines.append(...prompts.map(([text, cosine]) => make("li", `${text} (${cosine.toFixed(3)})`)));
    item.append(lines);
  }
  return item;
};
const tellRegions = (text) => {
  $("explain-state").textContent = text;
  announce(text);
};
const explain = async () => {
  if (!opened.has_map) return;
  const image = opened;
  if (image.pixel_threshold === null) {
    tellRegions(`regions lie above a pixel threshold, and the run has none (${image.remark}): "fade show --level" takes a level`);
    return;
  }
  tellRegions("asking the model …");
  try {
    const found = await ask(address(`images/${image.id}/explanation`, { run: list.run, ...trial() }));
    if (image !== opened) return;
    tellRegions(found.regions.length ? counted(found.regions.length, "region") : "no patch is above the pixel threshold");
    $("regions").replaceChildren(...found.regions.map((region) => regionItem(region, found.grid, image, list.run)));
    drawBoxes(found.regions);
  } catch (error) {
    if (image === opened) tellRegions(error.message);
  }
};
$("explain").addEventListener("click", explain);
$("viewer").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = {
    ArrowLeft: () => step(-1), ArrowRight: () => step(1), g: () => setLabel("good"), a: () => setLabel("anomalous"),
    u: () => setLabel(""), w: explain,
  };
  const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});

// new images
const QUIET = 10_000;
const judge = async (files) => {
  const chosen = [...files];
  const name = $("drop-category").value;
  const done = { anomalous: 0, normal: 0, none: 0, error: 0 };
  let told = 0; // when a screen reader last said how far it is: not for each of a hundred images
  const tell = (state, aloud = false) => {
    const parts = Object.entries(done).filter(([, count]) => count).map(([what, count]) => `${count} ${what === "none" ? "without a decision" : what === "error" ? "not usable" : what}`);
    $("drop-state").textContent = [state, parts.join(", ")].filter(Boolean).join(": ");
    if (!aloud && Date.now() - told < QUIET) return;
    told = Date.now();
    announce($("drop-state").textContent);
  };
  for (const [position, file] of chosen.entries()) {
    tell(`judging ${position + 1} of ${chosen.length}`);
    let found;
    try {
      found = (await send(file, name)).predictions[0];
    } catch (error) {
      found = { image: file.name, category: name, error: error.message, regions: [] };
    }
    done[found.error ? "error" : found.decision || "none"] += 1;
    $("drop-list").prepend(newCard(found));
  }
  tell(`${counted(chosen.length, "image")} judged`, true);
};
const send = async (file, name) => {
  const body = new FormData();
  body.append("images", file);
  for (let tries = 0; ; tries += 1) {
    const path = address("predict", { category: name, pictures: true, ...(run.has_images ? trial() : {}) });
    const answer = await fetch(path, { method: "POST", body }).catch(() => null);
    if (answer && answer.status === 503 && tries < 20) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * Number(answer.headers.get("retry-after") || 1)));
      continue;
    }
    if (!answer) throw new Error("the server does not answer, or the file is too large");
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    return content;
  }
};
const newCard = (found) => {
  const item = make("li", "", "card");
  if (found.overlay || found.picture) {
    const picture = make("img");
    picture.src = found.overlay || found.picture;
    picture.alt = found.overlay ? `Overlay of ${found.image}` : found.image;
    item.append(picture);
  }
  const text = make("span", "", "text");
  text.append(make("span", found.image, "name"));
  if (found.error) text.append(found.error);
  else {
    text.append(found.decision ? chip(found.decision, found.decision) : chip("no decision"));
    text.append(` score ${number(found.score)}, threshold ${number(found.threshold)}`);
    text.append(make("span", `${found.category}, ${found.regions.length} ${found.regions.length === 1 ? "region" : "regions"}`, "name"));
  }
  item.append(text);
  return item;
};
$("files").addEventListener("change", () => {
  judge($("files").files).finally(() => ($("files").value = ""));
});
let inside = 0;
const carriesFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
addEventListener("dragenter", (event) => {
  if (!carriesFiles(event)) return;
  inside += 1;
  $("veil").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (!carriesFiles(event)) return;
  inside = Math.max(0, inside - 1);
  $("veil").hidden = inside > 0 ? false : true;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  $("veil").hidden = true;
  if (event.dataTransfer?.files.length) judge(event.dataTransfer.files);
});

$("report").addEventListener("click", guarded(async (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const answer = await fetch("report");
  if (!answer.ok) throw new Error((await answer.json()).error);
  location.href = "report";
}));

// the start
function showFactsOfRun() {
  const used = run.labels_used ? `runs use ${run.labels_file}` : `runs do not use ${run.labels_file} (evaluate.labels)`;
  const corrected = run.corrected ? `, ${counted(run.corrected, "label")} corrected; ${used}` : "";
  $("facts").textContent = !run.has_images ? "a bundle: new images alone" : run.images ? `${counted(run.images, "test image")}${corrected}` : "a run without test images";
}
const start = guarded(async () => {
  run = await ask("run");
  $("name").textContent = run.name;
  document.title = `${run.name}: FADE Pipeline`;
  showFactsOfRun();
  fill($("drop-category"), run.categories.map((name) => [name, name]));
  $("drop-category-label").hidden = run.categories.length < 2;
  $("report").hidden = !run.has_images;
  $("review").hidden = !run.images;
  if (run.reason) $("drop-state").textContent = run.reason;
  if (!run.images) {
    document.body.dataset.ready = "true";
    return;
  }
  const one = run.categories.length === 1;
  fill($("category"), [...(one ? [] : [["", "all"]]), ...run.categories.map((name) => [name, name])]);
  fill($("defect"), [["", "any"], ...run.defects.map((name) => [name, name])]);
  fill($("trial"), run.trials.map(({ shots, seed }) => [`${shots} ${seed}`, `${shots} ${shots === 1 ? "shot" : "shots"}, seed ${seed}`]));
  $("trial").value = `${run.trial.shots} ${run.trial.seed}`;
  await Promise.all([showCategories(), showCounts(true), showList(0, false)]);
  document.body.dataset.ready = "true";
});
await start();
