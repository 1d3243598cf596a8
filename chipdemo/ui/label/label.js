// The desk of the Label tab. The next images are fetched before they are needed: a key shows the next one
// at once and sends the label meanwhile. A label that fails brings its image back after the one on the
// screen, never in place of it, so that no key lands on an image that the annotator has not seen.
// All text goes in by textContent: names, notes and types come from strangers.
(() => {
  const PREFETCHED = 3; // images behind the one on the screen
  const REMEMBERED = 50; // own last ones
  const TIMEOUT_MS = 60000;
  const KEYS = [
    ["1", "normal"],
    ["2", "abnormal"],
    ["3", "unsure"],
    ["Z", "undo my last label or skip"],
    ["S", "skip"],
    ["\u2190 and \u2192", "back and forth through my last images; a new label replaces the old one"],
    ["H", "heatmap on or off"],
    ["B", "add a box; arrows move it, Shift+arrows size it, Delete removes it; a drag draws one"],
    ["G", "draw a polygon: click its corners, Enter closes it; again or Escape: boxes"],
    ["X", "delete the selected shape, or the last one"],
    ["Shift+type", "give the selected shape, or the last one, a type of its own"],
    ["Ctrl+C, Ctrl+V", "copy the selected shape, and paste it, also onto another image"],
    ["P", "paint a mask; again or Escape: boxes"],
    ["E", "erase parts of the mask"],
    ["[ and ]", "thinner or thicker brush"],
    ["+ and -", "zoom in or out; so do the wheel and two fingers"],
    ["0", "the whole image"],
    ["Space", "held down: a drag moves the image"],
    ["N", "write a note; Escape leaves it"],
    ["V", "show the model's verdict before I label, or not"],
    ["?", "these keys"],
  ];
  const ORDERS = {
    informative: "most informative first",
    plain: "as they came",
    random: "random",
    review: "disputed images, for review",
  };
  let root = null; // .desk, once gradio has made it
  let opened = false; // the tab was opened
  let started = false;
  let zoom = null; // viewer.js
  let shapes = null; // shapes.js
  let brush = null; // brush.js
  let desk = null; // the answer of /label_desk
  let ahead = []; // entries; the first is to be labeled now
  let past = []; // own labeled entries, the oldest first
  let at = null; // the one of past that is on the screen; null for the first of ahead
  let skips = []; // entries skipped since the last label, for undo
  let given = []; // event ids of the labels of this page, for undo
  let order = "informative";
  let shown = null; // the entry on the screen
  let heat = false; // is wanted over it
  let paused = false; // an image is about to come or go: nothing is labeled
  let filling = null; // a promise while images are being fetched
  let more = false; // fetch again after that
  let line = Promise.resolve(); // labels, undos and skips reach the server in the order of the keys
  let unsent = 0;
  let asked = 0; // calls so far
  let newest = 0; // the call whose progress is shown

  const one = (selector) => root.querySelector(selector);
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const current = () => at || ahead[0] || null;
  const without = (entries, sha256) => entries.filter((entry) => entry.sha256 !== sha256);
  const count = (number) => number.toLocaleString("en");
  const words = (event) => (event ? [event.label, event.defect_type].filter(Boolean).join(", ") : "");
  const probability = (model) => model.abnormal_probability.toFixed(2);

  // crypto.randomUUID is missing where the page comes by plain HTTP from another machine
  function newId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 15) | 64;
    bytes[8] = (bytes[8] & 63) | 128;
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  }

  // The server leases images to this page. The id survives a reload, but is not in the storage while the
  // page lives: a duplicated tab copies the storage and has to make an id of its own.
  const PAGE = "chip-label-page";
  const page = sessionStorage.getItem(PAGE) || newId();
  sessionStorage.removeItem(PAGE);

  // Talking to the server

  async function ask(name, ...data) {
    const { root: base = "", api_prefix = "/gradio_api" } = window.gradio_config || {};
    const body = JSON.stringify({ data });
    const number = (asked += 1);
    let response;
    try {
      response = await fetch(`${base}${api_prefix}/run/${name}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        credentials: "include",
        keepalive: body.length < 60000, // a page that is closed still sends it; browsers allow 64 KB
        signal: AbortSignal.timeout(TIMEOUT_MS),
        body,
      });
    } catch {
      throw new Error("The server does not answer. Check the connection and try again.");
    }
    if (response.status === 401) throw new Error("You are signed out. Load the page again.");
    const answer = await response.json().catch(() => ({}));
    if (!response.ok)
      throw Object.assign(new Error(answer.error || `The server failed (${response.status}). Try again.`), { refused: true });
    const [value] = answer.data;
    if (value.progress && number > newest) {
      newest = number;
      showProgress(value.progress);
    }
    return value;
  }

  function inLine(name, ...data) {
    unsent += 1;
    const answer = line.then(() => ask(name, ...data));
    line = answer.catch(() => {}).then(() => (unsent -= 1));
    return answer;
  }

  // Runs what puts another image on the screen once the server has answered
  async function pause(action) {
    if (paused) return;
    paused = true;
    if (root.dataset.state === "ready") root.dataset.state = "waiting";
    try {
      await action();
    } catch (error) {
      tell("failed", error.message);
    }
    paused = false;
    if (current()) render();
  }

  // Entries: an image with the answer that is being given. saved: the own event that the server has, if any.
  // event: the same, or the one that is on its way there.

  function entryOf({ event = null, ...image }) {
    const entry = { ...image, shapes: [], mask: "", mask_type: "", note: "", type: "", trouble: "", event, saved: event };
    if (event) takeOver(entry, event);
    Object.assign(entry, draftOf(entry.sha256));
    if (entry.picture) {
      entry.image = make("img", { className: "photo", alt: entry.name, draggable: false, src: entry.picture });
      entry.image.decode().catch(() => {}); // decoded before it is shown
    }
    return entry;
  }

  function takeOver(entry, { boxes, polygons, mask, mask_type, note, defect_type }) {
    const drawn = [...boxes, ...polygons].map((shape) => structuredClone(shape));
    Object.assign(entry, { shapes: drawn, mask, mask_type, note, type: defect_type });
  }

  // What was drawn and not yet sent survives a reload, for the last images that were begun; a mask, where
  // there is room for it
  const DRAFTS = "chip-label-drafts";
  const DRAFTED = 20; // images
  const DRAFT_MASK = 200e3; // characters
  const drafts = () => JSON.parse(localStorage.getItem(DRAFTS)) || [];
  const keepDrafts = (kept) => localStorage.setItem(DRAFTS, JSON.stringify(kept.slice(-DRAFTED)));
  function saveDraft() {
    const entry = current();
    if (!entry) return;
    const { sha256, shapes, mask, mask_type, note, type } = entry;
    const draft = { sha256, shapes, mask_type, note, type, mask: mask.length < DRAFT_MASK ? mask : "" };
    keepDrafts([...without(drafts(), sha256), draft]);
  }
  const dropDraft = (sha256) => keepDrafts(without(drafts(), sha256));
  const draftOf = (sha256) => drafts().find((draft) => draft.sha256 === sha256);
  const add = (entry) => (draftOf(entry.sha256) && !shown ? ahead.unshift(entry) : ahead.push(entry));

  // Getting images

  async function start() {
    if (started || !root || !opened) return;
    started = true;
    try {
      desk = await ask("label_desk");
      showProgress(desk.progress);
      past = desk.own.map(entryOf);
      renderPast();
      const chosen = localStorage.getItem("chip-label-order");
      order = desk.orders.includes(chosen) ? chosen : desk.orders[0];
      showChoices();
      await fill();
    } catch (error) {
      started = false;
      stop("Labeling is not possible here", error.message);
    }
  }

  // Called again meanwhile, it fetches once more: the images on their way may have been labeled since
  function fill() {
    more = true;
    return (filling ??= fetchAll());
  }

  async function fetchAll() {
    let problem = "";
    while (more && !problem) {
      more = false;
      await line; // else images whose labels are on their way would come again
      if (ahead.length <= PREFETCHED) problem = await fetchNext().then(() => "", (error) => error.message);
    }
    filling = null;
    if (problem && !current()) stop("The next images did not come", problem);
    else if (current() !== shown || !shown) render();
    if (problem && current()) trouble(problem);
  }

  // For a review, an own earlier label is no reason to leave an image out
  const isDone = (entry) => order !== "review" || entry.event !== entry.saved || entry.event?.decides;

  async function fetchNext() {
    const { images } = await ask("queue", PREFETCHED + 1, order, ahead.map((entry) => entry.sha256), page);
    const here = new Set([...ahead, ...skips, ...past.filter(isDone)].map((entry) => entry.sha256));
    for (const image of images)
      if (!here.has(image.sha256) && (image.picture || image.error)) add(entryOf(image));
  }

  function stop(word, next) {
    root.dataset.state = "empty";
    one(".desk-empty .word").textContent = word;
    one(".desk-empty .next").textContent = next;
    one(".bring-back").hidden = !desk?.progress.skipped;
    one(".undo-last").hidden = !given.length && !skips.length && !desk?.own.length;
    shown = null;
  }

  function stopEmpty() {
    const { images, done, skipped } = desk.progress;
    if (order === "review") stop("No disputed images", "Every image with enough labels has a majority or a decision. Choose another order to label more.");
    else if (!images) stop("The queue is empty", "Add images below, or inspect one and send it to labeling.");
    else if (done === images) stop("All done", `All ${count(images)} images are labeled. Add more below, or train the next model.`);
    else if (skipped) stop("Only skipped images are left", `You skipped ${count(skipped)}. Bring them back, or add images below.`);
    else stop("No image for you now", "The remaining images are open on another page, yours or somebody else's. Check again later, or add images below.");
  }

  // Showing

  function render() {
    const entry = (shown = current());
    if (!entry) return filling ? showWaiting() : desk && stopEmpty();
    root.dataset.state = paused ? "waiting" : "ready";
    const back = at ? past.length - past.indexOf(at) : 0;
    one(".desk-name strong").textContent = entry.name;
    one(".reason").textContent = back ? `${back} back` : entry.reason && `first because: ${entry.reason}`;
    trouble(entry.trouble || entry.error, entry.conflict);
    one(".paper").style.setProperty("--aspect", entry.width / entry.height);
    one(".photo").replaceWith(entry.image || make("img", { className: "photo", alt: entry.name }));
    heat = false;
    renderHeat();
    zoom.show(entry);
    shapes.render();
    brush.render();
    renderTools();
    renderShapes();
    one(".note").value = entry.note;
    one(".other").value = desk.defects.some(([, name]) => name === entry.type) ? "" : entry.type;
    for (const button of root.querySelectorAll(".choice, .defects button"))
      button.setAttribute("aria-pressed", Boolean(entry.event) && isGiven(button, entry.event));
    one(".desk-given").textContent = at ? `Your label: ${words(entry.event)}. A new one replaces it.` : "";
    renderPast();
    renderVerdict();
  }

  // Labels are given faster than images come
  function showWaiting() {
    if (root.dataset.state === "ready") root.dataset.state = "waiting";
    one(".desk-name strong").textContent = "Loading the next image";
    one(".reason").textContent = "";
  }

  function renderTools() {
    const { tool, diameter } = brush.state();
    const pressed = { paint: tool === "paint", erase: tool === "erase", polygon: shapes.isPolygon(), move: zoom.isPanning() };
    for (const [name, value] of Object.entries(pressed)) one(`[data-do="${name}"]`).setAttribute("aria-pressed", value);
    one('[data-do="unshape"]').disabled = !current()?.shapes.length;
    one(".brush-size").hidden = !tool;
    one(".brush-size output").textContent = `${diameter} px`;
  }

  // What was drawn, with a field for the type of each
  function renderShapes() {
    const entry = current();
    one(".shapes").hidden = !entry?.shapes.length && !entry?.mask;
    if (!entry) return;
    const rows = entry.shapes.map((shape, index) => {
      const text = `${index + 1}. ${window.chip.shapeText(shape)}`;
      const show = make("button", { type: "button", className: "show", textContent: text, onclick: () => showShape(index) });
      const remove = make("button", { type: "button", textContent: "×", onclick: () => shapes.remove(index) });
      remove.setAttribute("aria-label", `Delete ${text}`);
      return make("li", {}, show, typeField(shape.defect_type, text, (type) => shapes.setType(index, type)), remove);
    });
    const setMask = (type) => {
      entry.mask_type = type;
      saveDraft();
    };
    if (entry.mask) rows.push(make("li", {}, make("span", { className: "show", textContent: "Mask" }), typeField(entry.mask_type, "Mask", setMask)));
    one(".shapes ul").replaceChildren(...rows);
  }
  function typeField(value, of, set) {
    const field = make("input", { type: "text", value, maxLength: 200, placeholder: "as labeled", autocomplete: "off" });
    field.setAttribute("list", "desk-types");
    field.setAttribute("aria-label", `Type of ${of}`);
    field.onchange = () => set(field.value.trim());
    field.onkeydown = (event) => /^(Enter|Escape)$/.test(event.key) && field.blur();
    return field;
  }
  function showShape(index) {
    shapes.focus(index);
    zoom.zoomTo(window.chip.shapeBounds(current().shapes[index]));
  }

  const isGiven = (button, event) =>
    button.dataset.type ? event.defect_type === button.dataset.type : event.label === button.dataset.label;

  // conflict: whether the own label of another page stands, which may be kept
  function trouble(message, conflict = false) {
    one(".desk-trouble").hidden = !message;
    one(".desk-trouble span").textContent = message;
    one(".desk-trouble button").hidden = !conflict;
    one(".desk-trouble button").textContent = conflict ? `Keep ${words(current().saved)}` : "";
  }

  function tell(state, text) {
    one(".desk-kept").dataset.state = state;
    one(".desk-kept").textContent = text;
  }

  function renderPast() {
    one(".previous").hidden = !past.length;
    one(".previous .strip").replaceChildren(
      ...past.slice(-5).map((entry) => {
        const label = entry.event?.label || "";
        const text = make("span", { className: `given ${label}`, textContent: label });
        const image = make("img", { alt: "", ...(entry.picture && { src: entry.picture }) });
        const button = make("button", { type: "button", title: `${entry.name}: ${words(entry.event)}`, onclick: () => go(entry) }, image, text);
        button.setAttribute("aria-label", button.title);
        button.setAttribute("aria-current", entry === at);
        return button;
      })
    );
  }

  function showProgress(progress) {
    if (!desk) return; // the desk's own answer
    desk.progress = progress;
    const facts = [
      `${count(progress.done)} of ${count(progress.images)} done`,
      `${count(progress.own)} by you`,
      `${count(progress.own_last_hour)} in the last hour`,
      ...published(progress),
      `signed in as ${desk.annotator}`,
    ];
    one(".facts").replaceChildren(...facts.map((fact) => make("span", {}, fact)));
    one(".meter span").style.width = `${progress.images ? (100 * progress.done) / progress.images : 0}%`;
  }

  function published({ publishes, pending, publish_error, published_at }) {
    if (!publishes) return [`${count(pending)} changes not published`];
    const waiting = `${count(pending)} changes to publish`;
    if (publish_error) return [waiting, `not published: ${publish_error}`];
    if (!published_at) return [waiting, "none published yet"];
    const time = new Date(published_at).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    return [waiting, `published at ${time}`];
  }

  function showChoices() {
    const buttons = desk.defects.map(([letter, name]) => {
      const onclick = () => give("abnormal", name);
      const button = make("button", { type: "button", onclick }, make("kbd", {}, letter.toUpperCase()), ` ${name}`);
      button.dataset.type = name;
      return button;
    });
    one(".defects").replaceChildren(...buttons);
    one("#desk-types").replaceChildren(...desk.defects.map(([, value]) => make("option", { value })));
    one(".order").replaceChildren(...desk.orders.map((value) => make("option", { value }, ORDERS[value])));
    one(".order").value = order;
  }

  // What the model predicts: only when asked for

  async function look(entry) {
    try {
      return await (entry.look ??= ask("label_look", entry.sha256));
    } catch (error) {
      entry.look = null;
      if (current() === entry) trouble(error.message);
      return null;
    }
  }

  async function renderVerdict() {
    const entry = shown;
    const wanted = () => one(".peek").checked && !at && current() === entry;
    one(".verdict-first").textContent = "";
    const found = wanted() && (await look(entry));
    if (found && wanted()) one(".verdict-first").textContent = `Model: ${found.model.outcome.replaceAll("_", " ")}, probability of abnormal ${probability(found.model)}`;
  }

  async function renderHeat() {
    const entry = shown;
    one(".heat").hidden = true;
    one('[data-do="heat"]').setAttribute("aria-pressed", heat);
    const found = heat && (await look(entry));
    if (!heat || current() !== entry) return;
    heat = Boolean(found);
    if (found) one(".heat").src = found.heat;
    one(".heat").hidden = !found;
    one('[data-do="heat"]').setAttribute("aria-pressed", heat);
  }

  function toggleHeat() {
    heat = !heat && Boolean(shown);
    renderHeat();
  }

  // Labeling

  async function give(label, type = "") {
    const entry = current();
    if (paused || !entry?.image) return;
    const event = {
      event_id: newId(),
      label,
      defect_type: type || (label === "abnormal" ? one(".other").value.trim() : ""),
      boxes: entry.shapes.filter((shape) => !shape.points).map((shape) => ({ ...shape })),
      polygons: entry.shapes.filter((shape) => shape.points).map((shape) => ({ ...shape })),
      mask: entry.mask,
      mask_type: entry.mask && entry.mask_type,
      note: one(".note").value,
    };
    const decides = entry.decides ?? (order === "review" && !at);
    const replaces = entry.saved?.event_id || "";
    Object.assign(entry, { event, note: event.note, type: event.defect_type, trouble: "", conflict: false });
    if (at) at = past[past.indexOf(at) + 1] || null;
    else {
      past = [...past, ahead.shift()].slice(-REMEMBERED);
      skips = [];
    }
    given.push(event.event_id);
    document.activeElement?.blur?.();
    const sent = inLine("label", entry.sha256, label, event.defect_type, event.boxes, event.note, event.event_id, decides, event.mask, page, replaces, event.polygons, event.mask_type);
    fill();
    render();
    tell("sending", `Saving ${entry.name} ...`);
    try {
      const answer = await sent;
      entry.saved = answer.event;
      dropDraft(entry.sha256);
      if (entry.event === event) entry.event = answer.event;
      tellSaved(entry.name, answer);
      renderPast();
    } catch (error) {
      given = given.filter((id) => id !== event.event_id);
      await failed(entry, event, error.message);
    }
    fill();
  }

  const tellDecision = () => document.dispatchEvent(new Event("chip-decision")); // to review.js

  function tellSaved(name, { event, votes }) {
    let text = `Saved: ${name}, ${words(event)}.`;
    if (event.model) text += ` Model: probability of abnormal ${probability(event.model)}.`;
    if (votes) text += ` Votes now: ${Object.entries(votes).map(([label, number]) => `${number} ${label}`).join(", ")}.`;
    tell("saved", text);
    if (event.decides) tellDecision();
  }

  async function failed(entry, event, message) {
    const stands = await ask("label_again", entry.sha256).then((found) => found.event, () => entry.saved);
    if (stands?.event_id === event.event_id) {
      given.push(stands.event_id); // only the answer was lost
      entry.saved = stands;
      if (entry.event === event) entry.event = stands;
      return tellSaved(entry.name, { event: stands });
    }
    tell("failed", `Not saved: ${entry.name}, ${words(event)}. ${message}`);
    if (entry.event !== event) return; // labeled again meanwhile
    entry.conflict = Boolean(stands) && stands.event_id !== entry.saved?.event_id;
    entry.event = entry.saved = stands;
    entry.trouble = entry.conflict
      ? `You labeled this image ${words(stands)} on another page, so ${words(event)} was not saved. Keep that label, or choose one to replace it.`
      : `Not saved: ${message} Your shapes, mask and note are still here.`;
    if (entry.conflict || !stands) comesNext(entry);
    else if (current() === entry) render();
  }

  // After the image on the screen, which stays
  function comesNext(entry) {
    const stays = at === entry;
    if (stays) at = null;
    past = without(past, entry.sha256);
    ahead = without(ahead, entry.sha256);
    ahead.splice(stays || at ? 0 : 1, 0, entry);
    if (current() === entry) render();
    else renderPast();
  }

  // The label of another page
  function keepOther() {
    const entry = current();
    Object.assign(entry, { trouble: "", conflict: false });
    takeOver(entry, entry.saved);
    ahead = without(ahead, entry.sha256);
    past = [...without(past, entry.sha256), entry];
    at = null;
    tell("saved", `Kept: ${entry.name}, ${words(entry.saved)}.`);
    render();
    fill();
  }

  async function skip() {
    const entry = !at && ahead[0];
    if (!entry || paused) return;
    ahead.shift();
    skips.push(entry);
    const sent = inLine("label_skip", entry.sha256);
    fill();
    render();
    tell("sending", `Skipping ${entry.name} ...`);
    try {
      await sent;
      tell("saved", `Skipped: ${entry.name}. Z brings it back.`);
    } catch (error) {
      skips = without(skips, entry.sha256);
      entry.trouble = `Not skipped: ${error.message}`;
      comesNext(entry);
    }
    fill();
  }

  const undo = () => pause(() => (skips.length ? undoSkip(skips.at(-1)) : undoLabel()));

  async function undoSkip(entry) {
    await inLine("label_bring_back", [entry.sha256]);
    skips = without(skips, entry.sha256);
    putFirst(entry, `Brought back: ${entry.name}`);
  }

  async function undoLabel() {
    const last = given.at(-1) || "";
    const forget = () => (given = given.filter((id) => id !== last));
    const { undone, image } = await inLine("undo", newId(), page, last).catch((error) => {
      if (error.refused) forget(); // it does not stand any more
      throw error;
    });
    forget();
    if (undone.decides) tellDecision();
    const found = entryOf(image);
    past = past.map((entry) => (entry.sha256 === found.sha256 ? found : entry));
    if (found.event && past.includes(found)) {
      at = found; // an earlier label stands again
      return tell("saved", `Undone: ${found.name}, ${words(undone)}. Your label is ${words(found.event)} again.`);
    }
    past = without(past, found.sha256);
    takeOver(found, undone);
    putFirst(found, `Undone: ${found.name}, ${words(undone)}. Label it again or go on.`);
  }

  function putFirst(entry, text) {
    at = null;
    ahead = [entry, ...without(ahead, entry.sha256)];
    tell("saved", text);
  }

  function go(entry) {
    if (paused) return;
    at = entry || null;
    render();
  }
  const back = () => past.length && go(past[Math.max(0, (at ? past.indexOf(at) : past.length) - 1)]);
  const forth = () => at && go(past[past.indexOf(at) + 1]);

  // A likely label error, once more. decides: the label given now settles it
  const lookAgain = (sha256, decides) =>
    pause(async () => {
      const reason = decides ? "a second look, which decides" : "a second look";
      const entry = Object.assign(entryOf(await ask("label_again", sha256)), { decides, reason });
      past = without(past, sha256);
      putFirst(entry, `${entry.name}: ${entry.event ? `your label is ${words(entry.event)}. ` : ""}Label it, or skip it.`);
    });

  const chooseOrder = (name) =>
    pause(async () => {
      one(".order").value = order = name;
      localStorage.setItem("chip-label-order", name);
      await filling;
      const leased = ahead.map((entry) => entry.sha256);
      [ahead, skips, at] = [[], [], null];
      await inLine("label_give_back", leased, page).catch(() => {}); // the leases end by themselves
      await fill();
    });

  // Tools: one at a time

  function toBoxes() {
    brush.off();
    shapes.off();
    zoom.pan(false);
    renderTools();
  }
  function useBrush(name) {
    shapes.off();
    zoom.pan(false);
    brush[name]();
  }
  function toggleMove() {
    const moves = !zoom.isPanning();
    toBoxes();
    zoom.pan(moves);
    renderTools();
  }

  // Keys and buttons

  const ACTIONS = {
    1: () => give("normal"),
    2: () => give("abnormal"),
    3: () => give("unsure"),
    z: undo,
    s: skip,
    h: toggleHeat,
    b: () => {
      toBoxes();
      shapes.add();
    },
    g: () => {
      brush.off();
      zoom.pan(false);
      shapes.polygon();
    },
    x: () => shapes.removeLast(),
    p: () => useBrush("paint"),
    e: () => useBrush("erase"),
    "+": () => zoom.in(),
    "-": () => zoom.out(),
    0: () => zoom.home(),
    "[": () => brush.thinner(),
    "]": () => brush.thicker(),
    escape: toBoxes,
    n: () => one(".note").focus(),
    v: () => one(".peek").click(),
    arrowleft: back,
    arrowright: forth,
    "?": () => {
      const types = desk.defects.map(([letter, name]) => [letter.toUpperCase(), `abnormal, ${name}`]);
      window.chip.showKeys([...KEYS.slice(0, 3), ...types, ...KEYS.slice(3)]);
    },
  };
  const TOOLS = { back, forth, undo, skip, heat: toggleHeat, box: ACTIONS.b, polygon: ACTIONS.g, unshape: ACTIONS.x, move: toggleMove, in: ACTIONS["+"], out: ACTIONS["-"], home: ACTIONS[0], paint: ACTIONS.p, erase: ACTIONS.e, thinner: ACTIONS["["], thicker: ACTIONS["]"], keys: ACTIONS["?"] };

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (!root?.offsetParent || !desk || window.chip.typing(event.target)) return;
    const key = event.key.toLowerCase();
    if (document.querySelector("dialog[open]") && key !== "?") return;
    if (event.repeat && !key.startsWith("arrow")) return; // a key that is held down is one label
    if (shapes.onKey(event)) return event.preventDefault();
    if (key === " " && event.target === document.body) return holdToMove(event);
    if (root.dataset.state !== "ready" && !["z", "?", "arrowleft"].includes(key)) return;
    const defect = desk.defects.find(([letter]) => letter === key);
    const typed = defect && event.shiftKey && current()?.shapes.length;
    const giving = typed ? () => shapes.setType(shapes.chosen(), defect[1]) : () => give("abnormal", defect?.[1]);
    const action = ACTIONS[key] || (defect && giving);
    if (!action) return;
    event.preventDefault();
    action();
  }

  function holdToMove(event) {
    event.preventDefault();
    if (zoom.isPanning()) return;
    zoom.pan(true);
    addEventListener("keyup", () => zoom.pan(one('[data-do="move"]').ariaPressed === "true"), { once: true });
  }

  function mountDesk(element) {
    root = element.querySelector(".desk");
    for (const button of root.querySelectorAll("[data-do]")) button.onclick = () => TOOLS[button.dataset.do]();
    for (const button of root.querySelectorAll(".choice")) button.onclick = () => give(button.dataset.label);
    one(".desk-trouble button").onclick = keepOther;
    one(".again").onclick = moreToLabel;
    one(".bring-back").onclick = bringBack;
    one(".undo-last").onclick = undo;
    one(".order").onchange = (event) => chooseOrder(event.target.value);
    one(".peek").checked = localStorage.getItem("chip-label-peek") === "yes";
    one(".peek").onchange = (event) => {
      localStorage.setItem("chip-label-peek", event.target.checked ? "yes" : "no");
      renderVerdict();
    };
    one(".note").oninput = (event) => {
      if (current()) current().note = event.target.value;
      saveDraft();
    };
    one(".note").onkeydown = (event) => {
      if (event.key === "Escape") event.target.blur();
    };
    one(".other").onkeydown = (event) => {
      if (event.key === "Escape") event.target.blur();
      if (event.key === "Enter" && event.target.value.trim()) give("abnormal", event.target.value.trim());
    };
    const drawn = () => {
      renderTools();
      renderShapes();
      saveDraft();
    };
    zoom = window.chip.zoomable(one(".paper"), { draws: true });
    shapes = window.chip.shapesOver(one(".paper"), zoom, current, drawn);
    brush = window.chip.brushOver(one(".paper"), current, drawn);
    start();
  }

  function openDesk() {
    opened = true;
    start();
  }

  // Images may have come: after an upload, from Inspect, from others
  function moreToLabel() {
    if (!root || !opened) return;
    if (started) fill();
    else start();
  }

  // Deleted from the queue
  function removeFromDesk(sha256s) {
    ahead = ahead.filter((entry) => !sha256s.includes(entry.sha256));
    if (shown && current() !== shown) render();
  }

  async function bringBack() {
    try {
      await inLine("label_bring_back", []);
      skips = [];
      fill();
    } catch (error) {
      stop("Not brought back", error.message);
    }
  }

  document.addEventListener("keydown", onKey);
  addEventListener("beforeunload", (event) => {
    if (unsent) event.preventDefault();
  });
  addEventListener("pagehide", () => {
    sessionStorage.setItem(PAGE, page);
    if (ahead.length) ask("label_give_back", ahead.map((entry) => entry.sha256), page).catch(() => {});
  });
  addEventListener("pageshow", (event) => event.persisted && location.reload()); // the leases were given back
  Object.assign(window.chip, { mountDesk, openDesk, moreToLabel, lookAgain, chooseOrder, removeFromDesk, askDesk: ask });
})();
