// Earlier inspections: the strip below the image, and their addresses #inspect/SHA256.
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const ADDRESS = /^#inspect\/([0-9a-f]{64})$/;
  const SHOWN = /data-shown='([0-9a-f]{64})'/;
  let strip = null;
  let send = null; // an event to the server
  let wanted = false; // the address asks for an inspection before the strip is there
  let shown = ""; // sha256 of the inspection that the page shows; "" for the example

  const inspectionAddress = () => ADDRESS.exec(location.hash)?.[1] || "";

  function mark() {
    for (const link of strip?.querySelectorAll("a") || []) {
      const current = link.getAttribute("href") === location.hash;
      if (current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }

  // The address is another one: by Back, by a link, or typed
  function openInspection() {
    const address = inspectionAddress();
    mark();
    if (address !== shown) open(address);
  }

  function open(address) {
    wanted = !send;
    if (wanted) return;
    shown = address;
    window.chip.keepPlace("inspect", address);
    window.chip.pending();
    send("select", { index: 0, value: address });
  }

  // A new inspection stands in the strip
  function update(value) {
    const found = SHOWN.exec(value || "");
    if (found) {
      shown = found[1];
      window.chip.keepPlace("inspect", shown);
    }
    requestAnimationFrame(mark);
  }

  function asked(more = 0) {
    const chosen = (name) => one(`select[name=${name}]`, strip)?.value || "";
    const count = +one(".history", strip).dataset.count + more;
    return { outcome: chosen("outcome"), model: chosen("model"), count };
  }

  function onClick(event) {
    const link = event.target.closest("a");
    if (link && link.hash === location.hash) open(inspectionAddress()); // as it was, whatever the page shows
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.more) send("input", asked(+button.dataset.more));
    const sha256 = button.dataset.delete;
    if (sha256 === "all" && !confirm("Delete your whole history? The images in it are deleted too.")) return;
    if (sha256) send("delete", { sha256 });
  }

  function mountHistory(element, props, watch, trigger) {
    strip = element;
    send = trigger;
    element.addEventListener("click", onClick);
    element.addEventListener("change", () => send("input", asked()));
    watch("value", () => update(props.value));
    if (wanted) open(inspectionAddress());
  }

  window.chip.openers.inspect = openInspection;
  Object.assign(window.chip, { mountHistory, inspectionAddress });
})();
