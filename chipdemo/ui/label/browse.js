// The gallery of the Label tab: filters, pages, small pictures, deletion. An image opens at the desk.
// All text goes in by textContent: names and types come from strangers.
(() => {
  const STATE = "chip-label-browse"; // view and filters survive a reload
  const TYPING_MS = 300; // without a key, then it is asked for
  const BATCH = 12; // small pictures of one call
  const SHOWS = {
    all: "all",
    mine: "labeled by me",
    "not mine": "not labeled by me",
    skipped: "skipped by me",
    disputed: "disputed",
    "against the model": "label and model differ",
    "out of distribution": "out of distribution",
    deleted: "deleted",
  };
  let root = null; // .browse
  let tabOpened = false;
  let page = 0;
  let found = null; // the answer of /label_browse
  let asked = 0; // calls so far: an answer that comes late is dropped
  let typed = 0; // a timer
  let chosen = new Set(); // sha256
  let undone = null; // {action, changed}: what Undo takes back
  let opened = ""; // the image that was opened last
  let top = 0; // of the window, in the gallery
  let wanted = []; // pictures that are on the screen and not there yet
  let fetching = false;

  const one = (selector) => root.querySelector(selector);
  const cards = () => [...root.querySelectorAll(".card")];
  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const images = (number) => `${number.toLocaleString("en")} image${number === 1 ? "" : "s"}`;
  const filters = () => Object.fromEntries(new FormData(one("form")));
  const isDeleted = () => filters().show === "deleted";

  function keep() {
    sessionStorage.setItem(STATE, JSON.stringify({ view: root.dataset.view, filters: filters(), page }));
  }

  function say(text, undo = null) {
    one(".browse-done").textContent = text;
    undone = undo;
    one('[data-do="undo"]').hidden = !undo;
  }

  // Pages

  // total: of images, where only the page changes; it is counted otherwise
  async function load(total = null) {
    const number = (asked += 1);
    keep();
    root.dataset.loading = "";
    try {
      const answer = await window.chip.askDesk("label_browse", { ...filters(), page }, total);
      if (number !== asked) return;
      if (page && page >= answer.pages) return show(answer.pages - 1); // the last ones were deleted
      found = answer;
      chosen = new Set([...chosen].filter((sha256) => found.images.some((image) => image.sha256 === sha256)));
      render();
    } catch (error) {
      if (number === asked) one(".browse-found").textContent = error.message;
    }
    if (number === asked) delete root.dataset.loading;
  }

  function show(number, total) {
    page = Math.max(0, number);
    return load(total);
  }

  function render() {
    const { total, pages, may_delete } = found;
    renderChoices();
    one(".browse-found").textContent = total ? images(total) : "No image fits. Change the filters.";
    one(".browse-pages").hidden = pages < 2;
    one(".browse-pages span").textContent = `Page ${(page + 1).toLocaleString("en")} of ${pages.toLocaleString("en")}`;
    one('[data-do="previous"]').disabled = !page;
    one('[data-do="next"]').disabled = page + 1 >= pages;
    one(".browse-keys span").hidden = !may_delete;
    watcher.disconnect();
    wanted = [];
    one(".browse-grid").replaceChildren(...found.images.map(cardOf));
    for (const card of cards()) watcher.observe(card);
    const current = cards().find((card) => card.dataset.sha256 === opened) || cards()[0];
    if (current) current.tabIndex = 0;
    renderChosen();
  }

  function renderChoices() {
    const { show } = filters();
    const options = found.shows.map((value) => make("option", { value }, SHOWS[value]));
    if (one('[name="show"]').length !== options.length) {
      one('[name="show"]').replaceChildren(...options);
      one('[name="show"]').value = show || "all";
    }
    one("#browse-types").replaceChildren(...found.defects.map((value) => make("option", { value })));
    one('[name="label"]').previousElementSibling.textContent = found.sees_consensus ? "Label" : "My label";
  }

  function cardOf(image) {
    const tags = [];
    const tag = (text, className = "") => tags.push(make("span", { className }, text));
    if (image.label) tag([image.label, image.defect_type].filter(Boolean).join(", "), image.label);
    if (image.consensus && image.consensus !== image.label) tag(`consensus: ${image.consensus}`, image.consensus);
    if (!image.label && !image.consensus) tag("not labeled by you", "none");
    if (image.model) tag(`model: ${image.model.abnormal_probability.toFixed(2)}${image.model.out_of_distribution ? ", out of distribution" : ""}`, "none");
    const card = make(
      "button",
      { type: "button", className: "card", title: image.name, tabIndex: -1, onclick: () => open(image) },
      make("span", { className: "small" }, make("img", { alt: "" })),
      make("bdi", {}, image.name),
      make("span", { className: "tags" }, ...tags)
    );
    card.dataset.sha256 = image.sha256;
    if (!found.may_delete) return make("li", {}, card);
    const box = make("input", { type: "checkbox", tabIndex: -1, onchange: () => choose(image.sha256) });
    box.setAttribute("aria-label", `Select ${image.name}`);
    return make("li", {}, card, make("label", { className: "pick" }, box));
  }

  // Small pictures, as they come onto the screen

  const watcher = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      wanted.push(target);
    }
    fetchSmall();
  }, { rootMargin: "200px" });

  async function fetchSmall() {
    if (fetching) return;
    fetching = true;
    while (wanted.length) {
      const some = wanted.splice(0, BATCH);
      const answer = await window.chip.askDesk("label_thumbnails", some.map((card) => card.dataset.sha256)).catch(() => null);
      for (const card of some) {
        const picture = answer?.thumbnails[card.dataset.sha256];
        if (picture) card.querySelector("img").src = picture;
        else card.querySelector(".small").textContent = "cannot be read";
      }
    }
    fetching = false;
  }

  // Deletion

  function choose(sha256) {
    if (!chosen.delete(sha256)) chosen.add(sha256);
    renderChosen();
  }

  function renderChosen() {
    for (const card of cards()) {
      const box = card.parentElement.querySelector("input");
      if (box) box.checked = chosen.has(card.dataset.sha256);
    }
    const all = found.images.every((image) => chosen.has(image.sha256));
    one('[data-do="all"]').hidden = !found.may_delete || !found.images.length;
    one('[data-do="all"]').textContent = all ? "Select none" : "Select page";
    one('[data-do="delete"]').hidden = !chosen.size;
    one('[data-do="delete"]').textContent = isDeleted() ? `Bring back ${images(chosen.size)}` : `Delete ${images(chosen.size)}`;
  }

  function chooseAll() {
    const all = found.images.every((image) => chosen.has(image.sha256));
    chosen = new Set(all ? [] : found.images.map((image) => image.sha256));
    renderChosen();
  }

  function askToDelete() {
    if (!chosen.size) return;
    if (isDeleted()) return change("label_undelete");
    one("#browse-question").textContent = `Delete ${images(chosen.size)} from the queue?`;
    one(".browse-confirm").showModal();
  }

  async function change(action, sha256s = [...chosen], canUndo = true) {
    one(".browse-confirm").close();
    try {
      const { changed } = await window.chip.askDesk(action, sha256s);
      chosen = new Set();
      const deleted = action === "label_delete";
      if (deleted) window.chip.removeFromDesk(changed);
      say(`${deleted ? "Deleted" : "Brought back"}: ${images(changed.length)}.`, canUndo && { action: deleted ? "label_undelete" : "label_delete", changed });
      await load();
      cards().find((card) => card.tabIndex === 0)?.focus();
    } catch (error) {
      say(`Not changed: ${error.message}`, undone);
    }
  }

  const undo = () => undone && change(undone.action, undone.changed, false);

  // The two views

  function turnTo(name) {
    root.dataset.view = name;
    for (const button of root.querySelectorAll(".browse-views button"))
      button.setAttribute("aria-pressed", button.dataset.view === name);
  }

  function view(name) {
    if (root.dataset.view === "gallery") top = scrollY;
    turnTo(name);
    keep();
    if (name === "desk") return window.chip.moreToLabel();
    return load().then(() => {
      scrollTo(0, top);
      if (opened) cards().find((card) => card.dataset.sha256 === opened)?.focus({ preventScroll: true });
    });
  }

  function open(image) {
    opened = image.sha256;
    view("desk");
    scrollTo(0, 0);
    return window.chip.lookAgain(image.sha256, image.decides);
  }

  // Keys

  function move(key) {
    const all = cards();
    const from = all.indexOf(document.activeElement);
    const columns = getComputedStyle(one(".browse-grid")).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const target = all[from < 0 ? 0 : from + steps[key]];
    if (!target) return;
    for (const card of all) card.tabIndex = card === target ? 0 : -1;
    target.focus();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !found) return;
    if (!root?.querySelector(".gallery").offsetParent || document.querySelector("dialog[open]")) return;
    if (event.target.type === "checkbox" || window.chip.typing(event.target)) return;
    const { sha256 } = event.target.dataset;
    if (event.key.startsWith("Arrow")) move(event.key);
    else if (event.key === "/") one('[name="name"]').focus();
    else if (event.key.toLowerCase() === "z") undo();
    else if (event.key === " " && sha256 && found.may_delete) choose(sha256);
    else if (event.key === "Delete" && found.may_delete) {
      if (!chosen.size && sha256) choose(sha256);
      askToDelete();
    } else return;
    event.preventDefault();
  }

  function mountBrowse(element) {
    root = element.querySelector(".browse");
    const actions = {
      previous: () => show(page - 1, found.total),
      next: () => show(page + 1, found.total),
      all: chooseAll,
      delete: askToDelete,
      undo,
      confirm: () => change("label_delete"),
      cancel: () => one(".browse-confirm").close(),
    };
    for (const button of root.querySelectorAll("[data-do]"))
      button.onclick = () => {
        if (/previous|next/.test(button.dataset.do)) root.scrollIntoView({ block: "start" });
        actions[button.dataset.do]();
      };
    for (const button of root.querySelectorAll(".browse-views button")) button.onclick = () => view(button.dataset.view);
    one("form").onsubmit = (event) => event.preventDefault();
    one("form").oninput = (event) => {
      clearTimeout(typed);
      typed = setTimeout(() => show(0), event.target.type === "search" ? TYPING_MS : 0);
    };
    one('[name="show"]').replaceChildren(make("option", { value: "all" }, SHOWS.all));
    const kept = JSON.parse(sessionStorage.getItem(STATE));
    if (!kept) return;
    page = kept.page;
    if (SHOWS[kept.filters.show]) one('[name="show"]').replaceChildren(make("option", { value: kept.filters.show }, ""));
    for (const [name, value] of Object.entries(kept.filters)) one(`[name="${name}"]`).value = value;
    turnTo(kept.view);
    openGallery(tabOpened);
  }

  function openGallery(now = true) {
    tabOpened = now;
    if (tabOpened && root?.dataset.view === "gallery") load();
  }

  document.addEventListener("keydown", onKey);
  Object.assign(window.chip, { mountBrowse, openGallery });
})();
