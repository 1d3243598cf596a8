// What the whole page does without asking the server: keys, drop, paste, address.
// All text goes in by textContent: names and notes come from strangers' files.
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const typing = (target) =>
    target.isContentEditable ||
    /^(TEXTAREA|SELECT)$/.test(target.tagName) ||
    (target.tagName === "INPUT" && !/^(range|radio|checkbox|button)$/.test(target.type));

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
  const ONE_IMAGE = "#image, #compare-image";
  const openInput = () => INPUTS.map((selector) => one(selector)).find((input) => input?.offsetParent);

  // Gradio refuses by its type what the browser does not call an image, such as a PGM. The server reads it,
  // or says what it is instead.
  const isImage = (file) => file.type.startsWith("image/");
  const asImage = (file) => (isImage(file) ? file : new File([file], file.name, { type: "image/x" }));

  function give(files) {
    const input = one('input[type="file"]', openInput());
    if (!input) return false;
    const transfer = new DataTransfer();
    if (input.multiple) files.forEach((file) => transfer.items.add(file));
    else transfer.items.add(asImage(files[0]));
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    return true;
  }

  function offer(files) {
    if (give(files)) return;
    one('button[aria-label*="pload"]', openInput())?.click(); // the camera was on: back to files
    requestAnimationFrame(() => requestAnimationFrame(() => give(files)));
  }

  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files || [])].filter(isImage);
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
  document.addEventListener(
    "drop",
    (event) => {
      const files = [...(event.dataTransfer?.files || [])];
      if (!files.length || !event.target.closest?.(ONE_IMAGE)) return;
      event.preventDefault();
      event.stopPropagation();
      event.target.dispatchEvent(new DragEvent("dragleave", { bubbles: true })); // gradio's frame around it
      offer(files);
    },
    true,
  );
  document.addEventListener(
    "change",
    (event) => {
      const files = event.target.type === "file" ? [...event.target.files] : [];
      if (!event.target.closest?.(ONE_IMAGE) || files.every(isImage)) return;
      event.stopPropagation();
      give(files);
    },
    true,
  );

  // The address keeps the tab and what is open in it: #inspect, #inspect/SHA256, #compare, #label, #teach.
  const places = {}; // by tab: what is open in it
  const openers = {}; // by tab: opens what the address names
  const tabOf = (address) => address.replace(/^#/, "").split("/")[0];
  const addressOf = (name) => "#" + name + (places[name] ? "/" + places[name] : "");

  function openTab(name) {
    const button = /^[a-z]+$/.test(name) ? document.getElementById(`${name}-button`) : null;
    if (button && button.getAttribute("aria-selected") !== "true") button.click();
  }
  function openAddress() {
    const name = tabOf(location.hash);
    openTab(name);
    openers[name]?.();
  }
  addEventListener("hashchange", openAddress);

  // Gradio selects the first tab by itself while the page is made: until the tab that the address asks
  // for has been opened, that must not overwrite the address.
  let asked = location.hash.slice(1);
  function keepTab(name) {
    if (asked || tabOf(location.hash) === name) return;
    if (location.hash) history.pushState(null, "", addressOf(name));
    else history.replaceState(null, "", addressOf(name));
  }
  // Something else is open in a tab: Back leads to what was open before.
  function keepPlace(name, place) {
    places[name] = place;
    if (tabOf(location.hash) === name && location.hash !== addressOf(name)) {
      history.pushState(null, "", addressOf(name));
    }
  }
  function openAsked() {
    asked = "";
    openAddress();
  }

  window.chip = { openAsked, openers, keepTab, keepPlace, showKeys, typing };
})();
