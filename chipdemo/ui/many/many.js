// The gallery of "Many images at once": filters, selection, and the way to an image and back.
// The server judges; all text goes in by textContent: names come from strangers' files.
(() => {
  let root = null; // .many
  let tiles = []; // figures, by the image's row
  let groups = []; // by the image's row
  let left = null; // where the visitor left the gallery: the row, and how far below the window's top it was

  const one = (selector, within = root) => within.querySelector(selector);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // Of a file that the server keeps for a while
  function address(path) {
    const { root: base = "", api_prefix = "/gradio_api" } = window.gradio_config || {};
    return `${base}${api_prefix}/file=${encodeURI(path)}`;
  }

  const filter = () => one(".many-filters :checked")?.value || "all";
  const isShown = (row) => filter() === "all" || filter() === groups[row];
  const box = (row) => one('input[type="checkbox"]', tiles[row]);
  const selected = () => tiles.flatMap((_, row) => (box(row)?.checked ? [row] : []));

  function tile(value, row, open) {
    const words = make("strong");
    const text = [words, " ", make("bdi", { textContent: value.name })];
    if (value.model) text.push(make("small", { textContent: value.model }));
    if (value.error) {
      const reason = make("p", { className: "many-reason", textContent: value.error });
      return make("figure", {}, reason, make("p", {}, ...text));
    }
    const [width, height] = value.size;
    const source = value.picture ? { src: address(value.picture) } : {};
    const image = make("img", { ...source, width, height, alt: "", loading: "lazy" });
    const button = make("button", { type: "button", className: "many-open" }, image);
    button.setAttribute("aria-label", `Open ${value.name}`);
    button.onclick = () => {
      left = { row, top: tiles[row].getBoundingClientRect().top };
      open(row);
    };
    const check = make("input", { type: "checkbox" });
    check.setAttribute("aria-label", `Select ${value.name}`);
    check.onchange = count;
    const figure = make("figure", {}, button, make("label", {}, check, make("span", {}, ...text)));
    figure.dataset.probability = value.probability;
    return figure;
  }

  function radio(name, text) {
    const input = make("input", { type: "radio", name: "many-filter", value: name, checked: name === "all" });
    input.onchange = () => (root.dataset.show = name);
    return make("label", {}, input, " ", make("b"), ` ${text}`);
  }

  function count() {
    const number = selected().length;
    one(".many-selected").textContent = `${number.toLocaleString("en")} selected`;
    const send = one(".many-send");
    send.textContent = `Send ${number.toLocaleString("en")} to labeling`;
    send.disabled = !number;
  }

  function select(which) {
    const wanted = { shown: isShown, abnormal: (row) => groups[row] === "abnormal", none: () => false }[which];
    tiles.forEach((_, row) => box(row) && (box(row).checked = wanted(row)));
    count();
  }

  // text: JSON, "" for none
  function render(text, open) {
    const value = JSON.parse(text || '{"tiles": []}');
    root.hidden = !value.tiles.length;
    tiles = value.tiles.map((each, row) => tile(each, row, open));
    if (root.hidden) return one(".many-tiles").replaceChildren();
    const filters = value.groups.map((group) => radio(group.name, group.text));
    one(".many-filters").replaceChildren(radio("all", "all"), ...filters);
    root.dataset.show = "all";
    root.classList.toggle("no-labels", !value.labels);
    count();
  }

  // The verdicts at a threshold: gradio tells each with the images, or alone where the threshold moved
  function judge(text) {
    if (root.hidden || !text) return;
    const value = JSON.parse(text);
    if (value.groups.length !== tiles.length) return;
    groups = value.groups;
    tiles.forEach((figure, row) => {
      figure.className = groups[row];
      const words = groups[row].replaceAll("_", " ");
      one("strong", figure).textContent = `${words} ${figure.dataset.probability || ""}`.trim();
    });
    const order = value.order.map((row) => tiles[row]);
    const place = one(".many-tiles");
    if (order.some((figure, index) => place.children[index] !== figure)) place.replaceChildren(...order);
    for (const input of root.querySelectorAll(".many-filters input")) {
      const number = input.value === "all" ? tiles.length : value.counts[input.value];
      input.parentElement.querySelector("b").textContent = number.toLocaleString("en");
    }
  }

  function mountMany(element, props, watch, open, send) {
    root = one(".many", element);
    for (const button of root.querySelectorAll("[data-select]")) {
      button.onclick = () => select(button.dataset.select);
    }
    one(".many-send").onclick = () => send(selected());
    watch("value", () => {
      render(props.value, open);
      judge(props.judged);
    });
    watch("judged", () => judge(props.judged));
  }

  // After a run, unless they are in view
  function toMany() {
    const { top } = root.getBoundingClientRect();
    if (top < 0 || top > innerHeight - 200) document.querySelector("#many-thresholds").scrollIntoView();
  }

  // To the image that was opened, where it was in the window
  function backToMany() {
    const figure = left && tiles[left.row];
    if (!figure?.isConnected) return document.querySelector("#many").scrollIntoView();
    scrollBy(0, figure.getBoundingClientRect().top - left.top);
    one("button", figure).focus({ preventScroll: true });
  }

  Object.assign(window.chip, { mountMany, toMany, backToMany });
})();
