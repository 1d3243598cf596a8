// Boxes over an image, drawn by mouse, finger or keys; in pixels of the upright image.
(() => {
  const NEAR = 3; // pixels of the screen: a shorter drag is a click

  const within = (value, low, high) => Math.min(high, Math.max(low, value));

  function place(element, box, entry) {
    element.style.left = `${(100 * box.x) / entry.width}%`;
    element.style.top = `${(100 * box.y) / entry.height}%`;
    element.style.width = `${(100 * box.width) / entry.width}%`;
    element.style.height = `${(100 * box.height) / entry.height}%`;
  }

  function markOf(box, index, entry) {
    const element = document.createElement("div");
    element.className = "box mark";
    place(element, box, entry);
    element.tabIndex = 0;
    element.dataset.index = index;
    element.setAttribute("role", "group");
    element.setAttribute(
      "aria-label",
      `Box ${index + 1}: left ${box.x}, top ${box.y}, ${box.width} by ${box.height} pixels. ` +
        "Arrows move it, Shift and arrows size it, Delete removes it."
    );
    const number = document.createElement("span");
    number.textContent = index + 1;
    element.append(number);
    return element;
  }

  // paper: the element around the image, with .marks in it. current(): {width, height, boxes} of
  // the image, or null. changed(): the boxes are others now.
  function boxesOver(paper, current, changed) {
    const marks = paper.querySelector(".marks");

    function render(focused = -1) {
      const entry = current();
      marks.replaceChildren(...(entry ? entry.boxes.map((box, index) => markOf(box, index, entry)) : []));
      marks.children[focused]?.focus();
    }

    function change(focused = -1) {
      render(focused);
      changed();
    }

    function add() {
      const entry = current();
      if (!entry) return;
      const [width, height] = [entry.width, entry.height].map((side) => Math.max(1, Math.round(side / 4)));
      const [x, y] = [entry.width - width, entry.height - height].map((room) => Math.floor(room / 2));
      entry.boxes.push({ x, y, width, height });
      change(entry.boxes.length - 1);
    }

    function remove(index) {
      if (!current()?.boxes[index]) return;
      current().boxes.splice(index, 1);
      change();
    }
    const removeLast = () => remove((current()?.boxes.length || 0) - 1);

    function move(index, key, sizing) {
      const entry = current();
      const box = entry.boxes[index];
      const step = Math.max(1, Math.round(Math.max(entry.width, entry.height) / 100));
      const [right, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
      if (sizing) {
        box.width = within(box.width + right * step, 1, entry.width - box.x);
        box.height = within(box.height + down * step, 1, entry.height - box.y);
      } else {
        box.x = within(box.x + right * step, 0, entry.width - box.width);
        box.y = within(box.y + down * step, 0, entry.height - box.height);
      }
      change(index);
    }

    // Whether the key was for the box that has the focus
    function onKey(event) {
      const mark = event.target.closest?.(".mark");
      if (!mark || !/^(Arrow|Delete$|Backspace$|Escape$)/.test(event.key)) return false;
      if (event.key === "Escape") mark.blur();
      else if (event.key.startsWith("Arrow")) move(+mark.dataset.index, event.key, event.shiftKey);
      else remove(+mark.dataset.index);
      return true;
    }

    let from = null; // where the pointer went down
    let drawn = null;
    function pixel(event) {
      const { left, top, width, height } = paper.getBoundingClientRect();
      const entry = current();
      return [
        Math.round(within((event.clientX - left) / width, 0, 1) * entry.width),
        Math.round(within((event.clientY - top) / height, 0, 1) * entry.height),
      ];
    }
    function boxTo(event) {
      const to = pixel(event);
      const [x, y] = to.map((place, side) => Math.min(from.pixel[side], place));
      const [width, height] = to.map((place, side) => Math.abs(from.pixel[side] - place));
      return { x, y, width, height };
    }
    const far = (event) => Math.hypot(event.clientX - from.x, event.clientY - from.y) > NEAR;
    function end() {
      drawn?.remove();
      from = drawn = null;
    }
    paper.addEventListener("pointerdown", (event) => {
      if (!current() || from || event.button) return;
      from = { pixel: pixel(event), x: event.clientX, y: event.clientY, id: event.pointerId, entry: current() };
      paper.setPointerCapture(event.pointerId);
      if (!event.target.closest(".mark")) document.activeElement?.blur?.();
    });
    paper.addEventListener("pointermove", (event) => {
      if (event.pointerId !== from?.id) return;
      if (current() !== from.entry) return end(); // a key has gone on to the next image
      if (!far(event)) return;
      if (!drawn) {
        drawn = document.createElement("div");
        drawn.className = "box";
        marks.append(drawn);
      }
      place(drawn, boxTo(event), current());
    });
    paper.addEventListener("pointerup", (event) => {
      if (event.pointerId !== from?.id) return;
      if (current() !== from.entry) return end();
      const box = boxTo(event);
      const wide = far(event) && box.width > 0 && box.height > 0;
      end();
      if (!wide) return;
      current().boxes.push(box);
      change();
    });
    paper.addEventListener("pointercancel", end);

    return { render, add, removeLast, onKey };
  }

  Object.assign(window.chip, { boxesOver });
})();
