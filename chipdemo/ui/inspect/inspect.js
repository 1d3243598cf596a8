// The Inspect tab without asking the server: zoom, overlay, boxes, compare line, threshold field, keys.
// All text goes in by textContent: names and notes come from strangers' files.
(() => {
  const KEYS = [
    ["O", "overlay on or off"],
    ["B", "boxes on or off"],
    ["[ and ]", "overlay fainter or stronger"],
    ["+ and -", "zoom in or out; so do the wheel and a double click, and a drag moves the image"],
    ["0", "the whole image"],
    ["Enter", "on a region of the table or the image: zoom to it"],
    ["U", "choose an image"],
    ["T", "to the threshold"],
    ["Ctrl+V", "inspect the copied image"],
    ["?", "these keys"],
  ];
  const view = { overlay: true, boxes: true, opacity: 80, split: 0 };
  let stage = null;
  let zoom = null; // viewer.js
  let seen = [0, 1]; // where the part of the image that is seen begins, and its width; shares of the image's

  const one = (selector, root = document) => root.querySelector(selector);
  const { showKeys, typing } = window.chip;

  function apply() {
    if (!stage) return;
    const viewer = one(".viewer", stage);
    viewer.style.setProperty("--opacity", view.overlay ? view.opacity / 100 : 0);
    viewer.style.setProperty("--split", view.split + "%");
    viewer.style.setProperty("--clip", view.split ? seen[0] + (seen[1] * view.split) / 100 : 0);
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
    element.tabIndex = 0;
    element.setAttribute("role", "button");
    element.setAttribute("aria-label", `Region ${number}: zoom to it`);
    const label = document.createElement("span");
    label.textContent = number;
    element.append(label);
    return element;
  }

  // Regions on the image and their rows in the table answer each other
  const BOXES = ".stage .boxes .box";
  const ROWS = "#regions tbody tr";
  const regionOf = (target) => {
    const part = target.closest?.(`${BOXES}, ${ROWS}`);
    return part ? [...part.parentElement.children].indexOf(part) : -1;
  };
  function point(event) {
    const number = regionOf(event.target);
    for (const selector of [BOXES, ROWS])
      document.querySelectorAll(selector).forEach((part, i) => part.classList.toggle("pointed", i === number));
  }
  for (const kind of ["mouseover", "focusin"]) document.addEventListener(kind, point);

  function zoomToRegion(number) {
    const { width, height, regions } = shown;
    const part = (name, side) => (regions[number][name] * side) / 100;
    zoom.zoomTo({ x: part("left", width), y: part("top", height), width: part("width", width), height: part("height", height) });
    stage.scrollIntoView({ block: "nearest" });
  }
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".choose-image")) return ACTIONS.u();
    const number = event.target.closest?.(ROWS) ? regionOf(event.target) : -1;
    if (number >= 0) zoomToRegion(number);
  });

  function setState(state) {
    stage.dataset.state = state;
    const tab = stage.closest(".inspect");
    if (tab) tab.dataset.state = state;
  }

  let shown = { state: "empty" };
  let zoomed = ""; // the photo that the zoom shows: another explanation of it leaves the zoom as it is

  function render(value) {
    shown = value || { state: "empty" };
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
    photo.alt = shown.name;
    heat.src = shown.heat;
    const viewer = one(".viewer", stage);
    viewer.style.setProperty("--aspect", shown.width / shown.height);
    if (zoomed !== shown.photo) zoom.show(shown);
    zoomed = shown.photo;
    one(".legend-bar", stage).style.backgroundImage = shown.gradient;
    one(".legend figcaption", stage).textContent = shown.explanation;
    apply();
    const verdict = one("#verdict"); // beside the image, or above it on a phone
    const top = verdict.getBoundingClientRect().top;
    if (top < 0 || top > innerHeight - 200) verdict.scrollIntoView({ block: "start" });
  }

  function mount(element, props, watch) {
    stage = one(".stage", element);
    one(".toggle-overlay", stage).onclick = () => change({ overlay: !view.overlay });
    one(".toggle-boxes", stage).onclick = () => change({ boxes: !view.boxes });
    one(".opacity", stage).oninput = (e) => change({ overlay: true, opacity: +e.target.value });
    one(".split", stage).oninput = (e) => change({ split: +e.target.value });
    one(".show-keys", stage).onclick = () => showKeys(KEYS);
    const moved = (left, width) => {
      seen = [left, width];
      apply();
    };
    zoom = window.chip.zoomable(one(".viewer", stage), { moved });
    for (const button of stage.querySelectorAll("[data-zoom]")) button.onclick = () => zoom[button.dataset.zoom]();
    watch("value", () => render(props.value));
    render(props.value);
  }

  const asTold = (state, message) => {
    if (stage) render({ state, message });
  };
  const pending = () => asTold("pending", "Inspecting ...");
  const failed = () => asTold("error", "The inspection did not finish. Please try the image again.");

  const inspecting = () => one(".inspect")?.offsetParent !== null;

  const ACTIONS = {
    o: () => change({ overlay: !view.overlay }),
    b: () => change({ boxes: !view.boxes }),
    "[": () => change({ opacity: view.opacity - 10, overlay: true }),
    "]": () => change({ opacity: view.opacity + 10, overlay: true }),
    "+": () => zoom.in(),
    "-": () => zoom.out(),
    0: () => zoom.home(),
    u: () => one('#image input[type="file"]')?.click(),
    t: () => one('#threshold input[type="range"]')?.focus(),
    "?": () => showKeys(KEYS),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (typing(event.target) || !inspecting()) return;
    const region = event.key === "Enter" ? regionOf(event.target) : -1;
    const action = region >= 0 ? () => zoomToRegion(region) : ACTIONS[event.key.toLowerCase()];
    if (!action || (one("dialog[open]") && event.key !== "?")) return;
    event.preventDefault();
    action();
  });

  // A threshold field of gradio takes any number and no decimal comma, and leaves the verdict as it was
  // where it changes a number by itself. So a number is corrected before gradio reads it.
  const FIELD = ':is(#threshold, #many-thresholds) input[type="number"]';
  const isField = (event) => event.target.matches?.(FIELD);
  let threshold = "";

  function keepInRange(field) {
    if (field.value === "") return;
    if (+field.value < 0 || +field.value > 1) field.value = Math.min(1, Math.max(0, +field.value));
    threshold = field.value;
  }

  document.addEventListener("beforeinput", (event) => {
    if (!isField(event) || !event.data?.includes(",")) return;
    event.preventDefault();
    document.execCommand("insertText", false, event.data.replace(",", "."));
  }, true);
  document.addEventListener("focus", (event) => {
    if (isField(event)) threshold = event.target.value;
  }, true);
  document.addEventListener("input", (event) => {
    if (isField(event)) keepInRange(event.target);
  }, true);
  document.addEventListener("blur", (event) => {
    if (!isField(event) || event.target.value !== "") return;
    event.target.value = threshold; // nothing, or no number: the last one
    event.target.dispatchEvent(new Event("input", { bubbles: true }));
  }, true);

  const opacity = () => (view.overlay ? view.opacity / 100 : 0);
  const boxes = () => view.boxes;
  Object.assign(window.chip, { mount, pending, failed, opacity, boxes });
})();
