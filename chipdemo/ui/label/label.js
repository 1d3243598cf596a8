// The screen of the Label tab. The next images are here before they are needed: a key shows the
// next one at once and sends the label meanwhile; where that fails, the image comes back with the
// reason. All text goes in by textContent: names, notes and types come from strangers.
(() => {
  const AHEAD = 3; // images waiting behind the one on the screen
  const REMEMBERED = 50; // own last ones
  const KEYS = [
    ["1", "normal"],
    ["2", "abnormal"],
    ["3", "unsure"],
    ["letters", "abnormal, of that type"],
    ["Z", "undo my last label or skip"],
    ["S", "skip"],
    ["\u2190 and \u2192", "back and forth through my last ones; a new label replaces the old"],
    ["H", "heat on or off"],
    ["B", "add a box; arrows move it, Shift+arrows size it, Delete removes it"],
    ["X", "delete the last box"],
    ["P", "paint a mask; again or Escape: boxes"],
    ["E", "erase what is painted"],
    ["[ and ]", "brush thinner or thicker"],
    ["N", "write a note; Escape leaves it"],
    ["V", "show the model's verdict first, or not"],
    ["?", "these keys"],
  ];
  let root = null; // the element, once gradio has made it
  let wanted = false; // the tab was opened
  let started = false;
  let boxes = null; // label_boxes.js
  let brush = null; // label_brush.js
  let told = null; // what /label_desk said
  let ahead = []; // entries; the first one is to be labeled now
  let past = []; // own labeled entries, the oldest first
  let at = null; // index into past while going back; null for the one to be labeled
  let skips = []; // entries skipped since the last label, for undo
  let order = "informative";
  let shown = null;
  let filling = false;
  let more = false;
  let asking = 0; // what arrives from before a change of order is dropped
  let line = Promise.resolve(); // labels, undos and skips reach the server in the order of the keys
  let unsent = 0;

  const one = (selector) => root.querySelector(selector);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const visible = () => root && root.offsetParent !== null;

  // crypto.randomUUID is missing where the page comes by plain HTTP from another machine
  function newId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 15) | 64;
    bytes[8] = (bytes[8] & 63) | 128;
    const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  }

  // data: values, or promises of them
  async function ask(name, ...data) {
    const { root: base = "", api_prefix = "/gradio_api" } = window.gradio_config || {};
    const body = JSON.stringify({ data: await Promise.all(data) });
    let answer;
    try {
      answer = await fetch(`${base}${api_prefix}/run/${name}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        credentials: "include",
        keepalive: body.length < 60000, // a page that is closed still sends it; browsers allow 64 KB
        body,
      });
    } catch {
      throw new Error("The server does not answer. Check the connection and try again.");
    }
    if (answer.status === 401) throw new Error("You are no longer signed in. Load the page again.");
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(said.error || `The server could not do that (${answer.status}). Try again.`);
    return said.data[0];
  }

  function inLine(name, ...data) {
    unsent += 1;
    const answer = line.then(() => ask(name, ...data));
    line = answer.catch(() => {}).then(() => (unsent -= 1));
    return answer;
  }

  // Entries: an image with what is being said of it

  function entryOf(image) {
    const entry = { ...image, boxes: [], mask: "", note: "", type: "", event: image.event || null };
    if (entry.event) takeOver(entry, entry.event);
    paint(entry);
    return entry;
  }

  function takeOver(entry, event) {
    Object.assign(entry, {
      boxes: event.boxes.map((box) => ({ ...box })),
      mask: event.mask,
      note: event.note,
      type: event.defect_type,
    });
  }

  function paint(entry) {
    if (!entry.picture) return;
    entry.image = new Image();
    entry.image.src = entry.picture;
    entry.image.decode().catch(() => {}); // decoded ahead: showing it costs nothing
  }

  const current = () => (at === null ? ahead[0] : past[at]) || null;

  // What was drawn and not yet sent survives a reload of the page; a mask, where there is room for it
  const DRAFT_MASK = 1e6; // characters
  const DRAFT = "chip-label-draft";
  function saveDraft() {
    const entry = at === null && ahead[0];
    if (!entry) return;
    const { sha256, boxes, note, type } = entry;
    const mask = entry.mask.length < DRAFT_MASK ? entry.mask : ""; // a promise has no length
    sessionStorage.setItem(DRAFT, JSON.stringify({ sha256, boxes, mask, note, type }));
  }
  function withDraft(entry) {
    try {
      const draft = JSON.parse(sessionStorage.getItem(DRAFT));
      if (draft?.sha256 === entry.sha256) Object.assign(entry, draft);
    } catch {
      sessionStorage.removeItem(DRAFT);
    }
    return entry;
  }

  // Getting images

  async function start() {
    if (started || !root || !wanted) return;
    started = true;
    try {
      told = await ask("label_desk");
      past = told.mine.map(entryOf);
      const chosen = localStorage.getItem("chip-label-order");
      order = told.orders.includes(chosen) ? chosen : told.orders[0];
      fillChoices();
      setProgress(told.progress);
      await fill();
    } catch (error) {
      started = false;
      stop("Nothing can be labeled here now", error.message);
    }
  }

  // Asked again meanwhile, it looks again: what came may have been labeled before it was here
  async function fill() {
    more = true;
    if (filling) return;
    filling = true;
    let complaint = "";
    while (more && !complaint) {
      more = false;
      if (ahead.length <= AHEAD) complaint = await fetchNext();
    }
    filling = false;
    if (complaint && !ahead.length) stop("The next images did not come", complaint);
    else if (current() !== shown || !shown) render();
    if (complaint && ahead.length) trouble(complaint);
  }

  // An own earlier label is no reason to leave an image out of a review
  const isSettled = (entry) => order !== "review" || entry.sending || entry.event?.decides;

  // What went wrong, or ""
  async function fetchNext() {
    const serial = asking;
    try {
      await line; // what is still on its way to the server would come again
      const answer = await ask("queue", AHEAD + 1, order, ahead.map((entry) => entry.sha256));
      if (serial !== asking) return "";
      const here = new Set([...ahead, ...skips, ...past.filter(isSettled)].map((entry) => entry.sha256));
      for (const image of answer.images)
        if (!here.has(image.sha256) && (image.picture || image.error)) ahead.push(withDraft(entryOf(image)));
      setProgress(answer.progress);
      return "";
    } catch (error) {
      return error.message;
    }
  }

  function stop(word, next) {
    root.dataset.state = "empty";
    one(".desk-empty .word").textContent = word;
    one(".desk-empty .next").textContent = next;
    one(".bring-back").hidden = !told?.progress.skipped;
    shown = null;
  }

  function stopEmpty() {
    const { images, done, skipped } = told.progress;
    const number = (value) => value.toLocaleString("en");
    const [word, next] =
      order === "review"
        ? ["No disagreement waits", "What enough people labeled has a majority or was decided. Choose another order to go on labeling."]
        : !images
          ? ["The queue is empty", "Add images below: choose many files or drop them there. Or inspect one and send it to labeling."]
          : done === images
            ? ["All done", `All ${number(images)} images are labeled. Add more below, or train the next model from the labels.`]
            : skipped
              ? ["Nothing left but what you skipped", `You skipped ${number(skipped)}. Bring them back, or add images below.`]
              : ["Nothing left for you now", "You labeled the others, or they are with somebody else. Look again in a while, or add images below."];
    stop(word, next);
  }

  // Showing

  function render() {
    const entry = current();
    shown = entry;
    if (!entry) return filling ? waitForNext() : stopEmpty();
    root.dataset.state = "ready";
    one(".desk-name strong").textContent = entry.name;
    one(".reason").textContent = at === null ? (entry.reason ? `why this one: ${entry.reason}` : "") : `one of your last ones, ${past.length - at} back`;
    trouble(entry.trouble || entry.error || "");
    const paper = one(".paper");
    paper.style.setProperty("--aspect", entry.width / entry.height);
    const photo = entry.image || make("img");
    photo.className = "photo";
    photo.alt = entry.name;
    photo.draggable = false;
    one(".photo").replaceWith(photo);
    if (!entry.image && !entry.error) fetchLook(entry);
    showHeat(false);
    boxes.render();
    brush.render();
    renderBrush();
    one('[data-do="unbox"]').disabled = !entry.boxes.length;
    one(".note").value = entry.note;
    one(".other").value = told.defects.some(([, name]) => name === entry.type) ? "" : entry.type;
    for (const button of root.querySelectorAll(".choice, .defects button"))
      button.setAttribute("aria-pressed", Boolean(entry.event) && isGiven(button, entry.event));
    one(".desk-given").textContent = at === null ? "" : `You said: ${words(entry.event)}. A new label replaces it.`;
    renderPrevious();
    one(".verdict-first").textContent = "";
    if (one(".peek").checked && at === null) fetchLook(entry);
  }

  // Faster than the images come
  function waitForNext() {
    if (root.dataset.state === "ready") root.dataset.state = "waiting";
    one(".desk-name strong").textContent = "The next image is coming";
    one(".reason").textContent = "";
  }

  function renderBrush() {
    const { tool, diameter } = brush.state();
    for (const name of ["paint", "erase"]) one(`[data-do="${name}"]`).setAttribute("aria-pressed", tool === name);
    one(".brush-size").hidden = !tool;
    one(".brush-size output").textContent = `${diameter} px`;
  }

  const isGiven = (button, event) =>
    button.dataset.type ? event.defect_type === button.dataset.type : event.label === button.dataset.label;
  const words = (event) => (event ? [event.label, event.defect_type].filter(Boolean).join(", ") : "");
  const probability = (model) => model.abnormal_probability.toFixed(2);

  function trouble(message) {
    one(".desk-trouble").textContent = message;
  }

  function renderPrevious() {
    const strip = one(".previous .strip");
    const last = past.slice(-5);
    one(".previous").hidden = !last.length;
    strip.replaceChildren(
      ...last.map((entry, index) => {
        const button = make("button");
        button.type = "button";
        const image = make("img");
        image.alt = "";
        if (entry.picture) image.src = entry.picture;
        button.append(image, make("span", `said ${entry.event?.label || ""}`, entry.event?.label || "..."));
        button.title = `${entry.name}: ${words(entry.event)}`;
        button.setAttribute("aria-label", button.title);
        const place = past.length - last.length + index;
        button.setAttribute("aria-current", place === at);
        button.onclick = () => go(place);
        return button;
      })
    );
  }

  function setProgress(progress) {
    told.progress = progress;
    const number = (value) => value.toLocaleString("en");
    one(".facts").replaceChildren(
      ...[
        `${number(progress.done)} of ${number(progress.images)} done`,
        `${number(progress.own)} yours`,
        `${number(progress.own_last_hour)} in the last hour`,
        ...published(progress, number),
        `as ${told.annotator}`,
      ].map((fact) => make("span", "", fact))
    );
    one(".meter span").style.width = `${progress.images ? (100 * progress.done) / progress.images : 0}%`;
  }

  function published(progress, number) {
    if (!progress.publishes) return [`${number(progress.pending)} kept here, not published`];
    const pending = `${number(progress.pending)} to publish`;
    if (progress.publish_error) return [pending, `not published: ${progress.publish_error}`];
    if (!progress.published_at) return [pending, "none published yet"];
    const when = new Date(progress.published_at);
    return [pending, `published ${when.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" })}`];
  }

  function fillChoices() {
    one(".defects").replaceChildren(
      ...told.defects.map(([letter, name]) => {
        const button = make("button");
        button.type = "button";
        button.dataset.type = name;
        button.append(make("kbd", "", letter.toUpperCase()), ` ${name}`);
        button.onclick = () => give("abnormal", name);
        return button;
      })
    );
    one("#desk-types").replaceChildren(...told.defects.map(([, name]) => Object.assign(make("option"), { value: name })));
    const names = {
      informative: "most informative first",
      plain: "as they came",
      random: "random",
      review: "review of disagreements",
    };
    one(".order").replaceChildren(...told.orders.map((name) => Object.assign(make("option", "", names[name] || name), { value: name })));
    one(".order").value = order;
  }

  // What the model says: only when asked

  async function fetchLook(entry) {
    try {
      entry.look = entry.look || (await ask("label_look", entry.sha256));
    } catch (error) {
      if (current() === entry) trouble(error.message);
      return null;
    }
    if (!entry.image) {
      entry.picture = entry.look.picture;
      paint(entry);
      if (current() === entry) render();
    }
    if (current() === entry && one(".peek").checked && at === null)
      one(".verdict-first").textContent = `The model says ${entry.look.model.verdict}, ${probability(entry.look.model)}.`;
    return entry.look;
  }

  function showHeat(on) {
    one(".heat").hidden = !on;
    one('[data-do="heat"]').setAttribute("aria-pressed", on);
  }

  async function toggleHeat() {
    const entry = current();
    if (!entry) return;
    if (!one(".heat").hidden) return showHeat(false);
    const look = await fetchLook(entry);
    if (!look || current() !== entry) return;
    one(".heat").src = look.heat;
    showHeat(true);
  }

  // Saying what it is

  async function give(label, type = "") {
    const entry = current();
    if (!entry || (entry.error && !entry.image)) return;
    type = type || (label === "abnormal" ? one(".other").value.trim() : "");
    entry.note = one(".note").value;
    const before = { event: entry.event, place: at };
    const decides = Boolean(entry.decides) || (order === "review" && at === null);
    const said = { label, defect_type: type, boxes: entry.boxes.map((box) => ({ ...box })), mask: entry.mask, note: entry.note };
    entry.event = { ...said };
    entry.trouble = "";
    entry.type = type;
    entry.sending = true;
    if (at === null) {
      ahead.shift();
      past.push(entry);
      past.splice(0, Math.max(0, past.length - REMEMBERED));
      skips = [];
    } else {
      at = at + 1 < past.length ? at + 1 : null;
    }
    sessionStorage.removeItem(DRAFT);
    document.activeElement?.blur?.();
    const sent = inLine("label", entry.sha256, label, type, said.boxes, said.note, newId(), decides, said.mask);
    render();
    kept("sending", `Saving ${entry.name} ...`);
    fill();
    try {
      const answer = await sent;
      entry.event = answer.event;
      entry.sending = false;
      setProgress(answer.progress);
      tellKept(entry, answer.votes);
    } catch (error) {
      entry.sending = false;
      takeBack(entry, before, error.message);
    }
    renderPrevious();
    fill();
  }

  function takeBack(entry, before, message) {
    entry.event = before.event;
    entry.trouble = `Not saved: ${message} What you drew and wrote is still here.`;
    if (before.place === null) {
      past = past.filter((each) => each !== entry);
      if (at !== null) at = null;
      ahead.unshift(entry);
    } else {
      at = past.indexOf(entry);
    }
    kept("failed", `Not saved: ${entry.name}`);
    render();
  }

  function kept(state, text) {
    const line = one(".desk-kept");
    line.dataset.state = state;
    line.textContent = text;
  }

  function tellKept(entry, votes) {
    const { model } = entry.event;
    let text = `Saved: ${entry.name}, ${words(entry.event)}.`;
    if (model) text += ` The model said ${probability(model)} abnormal.`;
    if (votes) text += ` Votes now: ${Object.entries(votes).map(([label, count]) => `${count} ${label}`).join(", ")}.`;
    kept("saved", text);
  }

  async function skip() {
    const entry = at === null && ahead[0];
    if (!entry) return;
    ahead.shift();
    skips.push(entry);
    const sent = inLine("label_skip", entry.sha256);
    render();
    kept("sending", `Skipping ${entry.name} ...`);
    fill();
    try {
      setProgress((await sent).progress);
      kept("saved", `Skipped: ${entry.name}. Z brings it back.`);
    } catch (error) {
      skips = skips.filter((each) => each !== entry);
      entry.trouble = `Not skipped: ${error.message}`;
      ahead.unshift(entry);
      render();
    }
    fill();
  }

  async function undo() {
    const skipped = skips.pop();
    try {
      if (skipped) {
        setProgress((await inLine("label_bring_back", [skipped.sha256])).progress);
        return putFirst(skipped, `Back again: ${skipped.name}`);
      }
      const answer = await inLine("undo", newId());
      setProgress(answer.progress);
      const { sha256 } = answer.image;
      const entry = past.find((each) => each.sha256 === sha256) || entryOf(answer.image);
      takeOver(entry, answer.undone);
      entry.event = null;
      past = past.filter((each) => each.sha256 !== sha256);
      putFirst(entry, `Undone: ${entry.name}, ${words(answer.undone)}. Label it again or go on.`);
    } catch (error) {
      if (skipped) skips.push(skipped);
      kept("failed", error.message);
    }
  }

  function putFirst(entry, text) {
    at = null;
    ahead = [entry, ...ahead.filter((each) => each.sha256 !== entry.sha256)];
    kept("saved", text);
    render();
  }

  function go(place) {
    at = place >= past.length ? null : Math.max(0, place);
    render();
  }
  const back = () => past.length && go((at === null ? past.length : at) - 1);
  const forth = () => at !== null && go(at + 1);

  // An image whose label may be wrong, once more. decides: what is said of it now settles it
  async function lookAgain(sha256, decides) {
    const found = await ask("label_again", sha256);
    past = past.filter((each) => each.sha256 !== sha256);
    const entry = { ...entryOf(found), decides, reason: decides ? "a second look, which decides" : "a second look" };
    putFirst(entry, `${entry.name}: ${entry.event ? `you said ${words(entry.event)}. ` : ""}Label it, or skip it.`);
  }

  const chooseOrder = (name) => {
    one(".order").value = name;
    return setOrder(name);
  };

  async function setOrder(name) {
    const given = ahead.map((entry) => entry.sha256);
    order = name;
    localStorage.setItem("chip-label-order", name);
    asking += 1;
    ahead = [];
    skips = [];
    at = null;
    try {
      await inLine("label_give_back", given);
    } catch (error) {
      trouble(error.message);
    }
    await fill();
  }

  // Keys

  const ACTIONS = {
    1: () => give("normal"),
    2: () => give("abnormal"),
    3: () => give("unsure"),
    z: undo,
    s: skip,
    h: toggleHeat,
    b: () => {
      brush.off();
      boxes.add();
    },
    x: () => boxes.removeLast(),
    p: () => brush.paint(),
    e: () => brush.erase(),
    "[": () => brush.thinner(),
    "]": () => brush.thicker(),
    escape: () => brush.off(),
    n: () => one(".note").focus(),
    v: () => one(".peek").click(),
    arrowleft: back,
    arrowright: forth,
    "?": () => window.chip.showKeys([...KEYS.slice(0, 3), ...told.defects.map(([letter, name]) => [letter.toUpperCase(), `abnormal, ${name}`]), ...KEYS.slice(4)]),
  };
  const TOOLS = { back, forth, undo, skip, heat: toggleHeat, box: ACTIONS.b, unbox: ACTIONS.x, paint: ACTIONS.p, erase: ACTIONS.e, thinner: ACTIONS["["], thicker: ACTIONS["]"], keys: ACTIONS["?"] };

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !visible() || !told) return;
    if (window.chip.typing(event.target)) return;
    const key = event.key.toLowerCase();
    if (document.querySelector("dialog[open]") && key !== "?") return;
    if (event.repeat && !key.startsWith("arrow")) return; // a key that is held down is one label
    if (boxes.onKey(event)) return event.preventDefault();
    if (root.dataset.state !== "ready" && !["z", "?", "arrowleft"].includes(key)) return;
    const defect = told.defects.find(([letter]) => letter === key);
    const action = ACTIONS[key] || (defect && (() => give("abnormal", defect[1])));
    if (!action) return;
    event.preventDefault();
    action();
  }

  function mountDesk(element) {
    root = element.querySelector(".desk");
    for (const button of root.querySelectorAll("[data-do]")) button.onclick = () => TOOLS[button.dataset.do]();
    for (const button of root.querySelectorAll(".choice")) button.onclick = () => give(button.dataset.label);
    one(".again").onclick = moreToLabel;
    one(".bring-back").onclick = () => inLine("label_bring_back", []).then(moreToLabel, (error) => stop("Not brought back", error.message));
    one(".order").onchange = (event) => setOrder(event.target.value);
    one(".peek").checked = localStorage.getItem("chip-label-peek") === "yes";
    one(".peek").onchange = (event) => {
      localStorage.setItem("chip-label-peek", event.target.checked ? "yes" : "no");
      if (current()) render();
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
    boxes = window.chip.boxesOver(one(".paper"), current, () => {
      one('[data-do="unbox"]').disabled = !current().boxes.length;
      saveDraft();
    });
    brush = window.chip.brushOver(one(".paper"), current, () => {
      renderBrush();
      saveDraft();
    });
    if (!window.CompressionStream) for (const name of ["paint", "erase"]) one(`[data-do="${name}"]`).hidden = true;
    start();
  }

  function openDesk() {
    wanted = true;
    start();
  }

  // Images may have come: after an upload, from Inspect, from others
  function moreToLabel() {
    if (!root || !wanted) return;
    if (!started) return start();
    skips = [];
    fill();
  }

  document.addEventListener("keydown", onKey);
  addEventListener("beforeunload", (event) => {
    if (unsent) event.preventDefault();
  });
  Object.assign(window.chip, { mountDesk, openDesk, moreToLabel, lookAgain, chooseOrder });
})();
