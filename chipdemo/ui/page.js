// What the page does without asking the server: overlay, compare line, keys, drop, paste, address.
// All text goes in by textContent: names and notes come from strangers' files.
(() => {
  const KEYS = [
    ["O", "overlay on or off"],
    ["B", "boxes on or off"],
    ["[ and ]", "overlay fainter or stronger"],
    ["U", "choose an image"],
    ["T", "to the threshold"],
    ["Ctrl+V", "inspect the copied image"],
    ["?", "these keys"],
  ];
  const view = { overlay: true, boxes: true, opacity: 80, split: 0 };
  let stage = null;

  const one = (selector, root = document) => root.querySelector(selector);
  const typing = (target) =>
    target.isContentEditable ||
    /^(TEXTAREA|SELECT)$/.test(target.tagName) ||
    (target.tagName === "INPUT" && !/^(range|radio|checkbox|button)$/.test(target.type));

  function apply() {
    if (!stage) return;
    const viewer = one(".viewer", stage);
    viewer.style.setProperty("--opacity", view.overlay ? view.opacity / 100 : 0);
    viewer.style.setProperty("--split", view.split + "%");
    viewer.classList.toggle("comparing", view.split > 0 && view.overlay);
    viewer.classList.toggle("no-boxes", !view.boxes);
    one(".toggle-overlay", stage).setAttribute("aria-pressed", view.overlay);
    one(".toggle-boxes", stage).setAttribute("aria-pressed", view.boxes);
    one(".opacity", stage).value = view.opacity;
    one(".split", stage).value = view.split;
  }

  function change(part) {
    Object.assign(view, part);
    view.opacity = Math.min(100, Math.max(0, view.opacity));
    apply();
  }

  function box(region, number) {
    const element = document.createElement("div");
    element.className = "box";
    for (const side of ["left", "top", "width", "height"]) element.style[side] = region[side] + "%";
    const label = document.createElement("span");
    label.textContent = number;
    element.append(label);
    return element;
  }

  function setState(state) {
    stage.dataset.state = state;
    const tab = stage.closest(".inspect");
    if (tab) tab.dataset.state = state;
  }

  function render(value) {
    const shown = value || { state: "empty" };
    setState(shown.state);
    one(".stage-message", stage).textContent = shown.message || "";
    one(".stage-name strong", stage).textContent = shown.name || "";
    one(".stage-name span", stage).textContent = shown.about || "";
    const photo = one(".photo", stage);
    const heat = one(".heat", stage);
    one(".boxes", stage).replaceChildren(...(shown.regions || []).map((r, i) => box(r, i + 1)));
    if (shown.state !== "result") {
      photo.removeAttribute("src");
      heat.removeAttribute("src");
      return;
    }
    if (photo.getAttribute("src") !== shown.photo) photo.src = shown.photo;
    photo.alt = shown.alt;
    heat.src = shown.heat;
    const viewer = one(".viewer", stage);
    viewer.style.setProperty("--aspect", shown.width / shown.height);
    one(".legend-bar", stage).style.backgroundImage = shown.gradient;
    one(".legend figcaption", stage).textContent = shown.explanation;
    apply();
    const top = stage.getBoundingClientRect().top;
    if (top < 0 || top > innerHeight - 200) stage.scrollIntoView({ block: "start" });
  }

  function mount(element, props, watch) {
    stage = one(".stage", element);
    one(".toggle-overlay", stage).onclick = () => change({ overlay: !view.overlay });
    one(".toggle-boxes", stage).onclick = () => change({ boxes: !view.boxes });
    one(".opacity", stage).oninput = (e) => change({ overlay: true, opacity: +e.target.value });
    one(".split", stage).oninput = (e) => change({ split: +e.target.value });
    one(".show-keys", stage).onclick = () => showKeys(KEYS);
    watch("value", () => render(props.value));
    render(props.value);
  }

  const asTold = (state, message) => {
    if (stage) render({ state, message });
  };
  const pending = () => asTold("pending", "Inspecting ...");
  const failed = () => asTold("error", "The inspection did not finish. Please try the image again.");

  function showKeys(keys) {
    let dialog = one("#chip-keys");
    if (!dialog) {
      dialog = document.createElement("dialog");
      dialog.id = "chip-keys";
      dialog.setAttribute("aria-label", "Keys");
      const close = document.createElement("button");
      close.textContent = "Close";
      close.onclick = () => dialog.close();
      dialog.append(document.createElement("dl"), close);
      (one(".gradio-container") || document.body).append(dialog);
    }
    if (dialog.open) return dialog.close();
    one("dl", dialog).replaceChildren(...keys.flatMap(([key, meaning]) => {
      const [term, text, kbd] = ["dt", "dd", "kbd"].map((tag) => document.createElement(tag));
      kbd.textContent = key;
      text.textContent = meaning;
      term.append(kbd);
      return [term, text];
    }));
    dialog.showModal();
  }

  // A dropped or pasted file goes through gradio's own upload, as if it had been chosen there.
  const INPUTS = ["#image", "#compare-image", "#label-files", "#teach-goods"];
  const TAKERS = [...INPUTS, "#many-files", "#teach-defects"].join(); // take what is dropped onto them
  const openInput = () => INPUTS.map((selector) => one(selector)).find((input) => input?.offsetParent);

  function give(files) {
    const input = one('input[type="file"]', openInput());
    if (!input) return false;
    const transfer = new DataTransfer();
    for (const file of input.multiple ? files : files.slice(0, 1)) transfer.items.add(file);
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    return true;
  }

  function offer(files) {
    if (give(files)) return;
    one('button[aria-label*="pload"]', openInput())?.click(); // the camera was on: back to files
    requestAnimationFrame(() => requestAnimationFrame(() => give(files)));
  }

  const inspecting = () => one(".inspect")?.offsetParent !== null;

  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files || [])].filter((f) => f.type.startsWith("image/"));
    if (!files.length || typing(event.target) || !openInput()) return;
    event.preventDefault();
    offer(files);
  });
  document.addEventListener("dragover", (event) => {
    if ([...(event.dataTransfer?.types || [])].includes("Files")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    const files = [...(event.dataTransfer?.files || [])];
    if (!files.length || !openInput() || event.target.closest?.(TAKERS)) return;
    event.preventDefault();
    offer(files);
  });

  const ACTIONS = {
    o: () => change({ overlay: !view.overlay }),
    b: () => change({ boxes: !view.boxes }),
    "[": () => change({ opacity: view.opacity - 10, overlay: true }),
    "]": () => change({ opacity: view.opacity + 10, overlay: true }),
    u: () => one('#image input[type="file"]')?.click(),
    t: () => one('#threshold input[type="range"]')?.focus(),
    "?": () => showKeys(KEYS),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (typing(event.target) || !inspecting()) return;
    const action = ACTIONS[event.key.toLowerCase()];
    if (!action || (one("dialog[open]") && event.key !== "?")) return;
    event.preventDefault();
    action();
  });

  // The address keeps the tab: #inspect, #compare, #label, #teach.
  function openTab(name) {
    const button = /^[a-z]+$/.test(name) ? document.getElementById(`${name}-button`) : null;
    if (button && button.getAttribute("aria-selected") !== "true") button.click();
  }
  addEventListener("hashchange", () => openTab(location.hash.slice(1)));

  // Gradio selects the first tab by itself while the page is made: until the tab that the address asks
  // for has been opened, that must not overwrite the address.
  let asked = location.hash.slice(1);
  const keepTab = (name) => asked || history.replaceState(null, "", "#" + name);
  function openAsked() {
    const name = asked;
    asked = "";
    openTab(name);
  }

  const opacity = () => (view.overlay ? view.opacity / 100 : 0);
  window.chip = { mount, pending, failed, openAsked, keepTab, showKeys, typing, opacity };
})();
